"""Ready systems in YAML: `agent_type: chain_of_agents` and `agent_type: multi_call`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lllm.atomic_files import read_text
from lllm.config.kinds import in_words
from lllm.config.problems import placed
from lllm.errors import ConfigError, UnknownKeyError
from lllm.llm.python_names import function_at
from lllm.llm.system import AsyncAgentBase
from lllm.steps.system import payload
from lllm.systems.chain_of_agents import ChainOfAgents
from lllm.systems.multi_call import MultiCallSystem
from lllm.systems.picking import last_number, vote

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent

PICKS: Final = {"vote": lambda: vote(), "vote_by_number": lambda: vote(last_number)}
"""What `settings.pick` may name, besides `module:function`."""


class Declared(AsyncAgentBase):
    """Base of the ready systems: one agent does the calls, and `settings:` are those of the system."""

    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check_agents(cls, config: Config, agents: Mapping[str, Agent]) -> None:
        """Requires one agent, and settings that there are."""
        super().check_agents(config, agents)
        if len(agents) != 1:
            raise ConfigError(
                f"'{cls.agent_type}' works with one agent, and agent_configs declares {len(agents) or 'none'}",
                hint="Declare the one that is to do the calls.",
            )
        for key in config.settings:
            if key not in cls.options:
                where = config.place(("settings", key))
                raise UnknownKeyError(
                    f"settings.{key}", [f"settings.{name}" for name in cls.options], where=where
                )
        try:
            cls.made(config, next(iter(agents.values())))
        except ConfigError as error:
            raise placed(error, config.place(("settings",)), "settings") from None

    @classmethod
    def made(cls, config: Config, agent: Agent) -> Any:
        """The system of `lllm.systems`. ConfigError where a setting cannot be."""
        raise NotImplementedError

    @property
    def system(self) -> Any:
        """The system of `lllm.systems` that does the work."""
        found = vars(self).get("_system")
        if found is None:
            found = vars(self)["_system"] = self.made(self.config, next(iter(self.agents.values())))
        return found


class LongTexts(Declared):
    """A ChainOfAgents: does the task over the text of the file `settings.text`, or `settings.prompt` over the task."""

    agent_type = "chain_of_agents"
    options = ("text", "prompt", "mode", "budget", "notes", "errors", "limit")

    @classmethod
    def made(cls, config: Config, agent: Agent) -> ChainOfAgents:
        settings = dict(config.settings)
        text, prompt = settings.pop("text", None), settings.get("prompt")
        if (text is None) == (prompt is None):
            raise ConfigError(
                "'chain_of_agents' needs either settings.text or settings.prompt"
                + (", and has both" if text is not None else ""),
                hint="text is the file of the long text, which the task is about; prompt says what is to be done with a task "
                "that is the long text itself.",
            )
        for key, value in (("text", text), ("prompt", prompt)):
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ConfigError(f"settings.{key} must be text, got {in_words(value)}")
        return ChainOfAgents(config.name or str(cls.agent_type), agent, **settings)

    async def call(self, task: str, **more: Any) -> str:
        """The answer."""
        named = self.config.settings.get("text")
        if named is None:
            return str(await self.system.acall(task, **more))
        text = await self.session.effect(
            "read_file", {"path": named}, lambda: self._text(named), effect="pure"
        )
        return str(await self.system.run(task, text, **more))

    def _text(self, named: str) -> str:
        try:
            return read_text(Path(self.config.root, Path(named).expanduser()))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"settings.text: '{named}' cannot be read: {reason}") from None


class Drafts(Declared):
    """A MultiCallSystem: asks the task several times at once; gives what `settings.pick` chose, else all replies."""

    agent_type = "multi_call"
    options = ("num_calls", "limit", "errors", "output_dir", "base_filename", "pick")

    @classmethod
    def made(cls, config: Config, agent: Agent) -> MultiCallSystem:
        settings = dict(config.settings)
        pick = settings.pop("pick", None)
        if pick is not None:
            if not isinstance(pick, str) or (pick not in PICKS and ":" not in pick):
                raise ConfigError(
                    f"settings.pick must be {', '.join(PICKS)} or module:function, got {in_words(pick)}"
                )
            settings["pick"] = PICKS[pick]() if pick in PICKS else function_at(pick, config)
        folder = settings.pop("output_dir", None)
        if folder is not None:
            if not isinstance(folder, str) or not folder.strip():
                raise ConfigError(f"settings.output_dir must be a path, got {in_words(folder)}")
            settings["output_dir"] = Path(config.root, Path(folder).expanduser())
        return MultiCallSystem(config.name or str(cls.agent_type), agent, **settings)

    async def call(self, task: str, **more: Any) -> Any:
        """The picked text; without `pick`, the paths or texts by call."""
        system: MultiCallSystem = self.system
        calls = await system.run(task, **more)
        return payload(calls) if calls.picked is None else calls.picked
