"""Models, agents and systems as steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.llm.inputs import shape
from lllm.llm.proxies import TEXTS_OF
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply
from lllm.steps.base import Step
from lllm.steps.fitting import ASKED
from lllm.steps.streams import shown_by

if TYPE_CHECKING:
    from lllm.llm.model import LLM
    from lllm.llm.system import AgentBase
    from lllm.steps.running import Here


class ModelStep(Step):
    """A model or an agent as a step. It is asked with the text of what the stage before gave, with a prompt, a dialog or
    messages, or with the arguments of its own prompt."""

    kind = "agent"
    streams = True
    wants = "text, a prompt, a dialog or messages"

    def __init__(self, model: LLM | Agent) -> None:
        self.model = model
        self._agent = model if isinstance(model, Agent) else None
        self.name = model.name if isinstance(model, Agent) else "llm"
        self.takes = Any if self._agent is not None and self._agent.prompt is not None else _ASKED
        self.gives = _gives(model)
        self.takes_list = False

    def _about(self) -> dict[str, Any]:
        agent = self.model if isinstance(self.model, Agent) else self.model._agent
        return {"model": agent.model}

    def receive(self, value: Any) -> Any:
        if isinstance(value, Reply):
            return value.content
        return value

    def check_text(self) -> None:
        """PromptError where the agent's prompts want more than a text."""
        if self._agent is not None:
            asked, args = self.asked("text")
            self._agent._prepare(asked, args or {}, {})

    def asked(self, value: Any) -> tuple[Any, Mapping[str, Any] | None]:
        """Input and arguments of the call. A text takes the one place of the agent's own prompt, or the place `task`."""
        prompt = None if self._agent is None else self._agent.prompt
        if isinstance(value, str) and value:
            if prompt is None:
                return Message("user", value), None  # a text, also where a prompt has it for its path
            places = [name for name in prompt.variables if name not in TEXTS_OF]
            return None, {places[0] if len(places) == 1 else "task": value}
        if isinstance(value, str | Prompt | Dialog | Message):
            return value, None
        if isinstance(value, Mapping) and "role" in value:
            return value, None
        if prompt is not None and (args := _arguments(value)) is not None:
            return None, args
        if isinstance(value, list | tuple) and value:
            return list(value), None
        what = "nothing (None)" if value is None else type(value).__name__
        raise ConfigError(
            f"'{self.name}' was given {what}, and takes text, a prompt, or messages",
            hint="Put a function before it that makes a text of it"
            + (
                ", or give the agent a prompt with the value's keys as its places." if prompt is None else "."
            ),
        )

    async def _run(self, value: Any, here: Here) -> Any:
        asked, args = self.asked(value)
        if isinstance(asked, list) and shape(asked, f"'{self.name}'") == "batch":
            raise ConfigError(
                f"'{self.name}' was given a list of {len(asked)} texts, and is asked one thing at a time",
                hint="Let it go over them: map(agent).",
            )
        more: dict[str, Any] = {} if args is None else {"args": args}
        if here.follow is not None:
            more["follow"] = shown_by(here.follow, here.path, self.name)
        return await self.model.acall(asked, **more)


_ASKED = ASKED[0]
for _one in (*ASKED[1:], Dialog):
    _ASKED = _ASKED | _one  # type: ignore[assignment]


def _arguments(value: Any) -> Mapping[str, Any] | None:
    """The arguments of a prompt that a value is: a mapping, or the fields of an object."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else None


def _gives(model: LLM | Agent) -> Any:
    """Returns the types that the next stage may take: the whole reply, its text, or the value that it is parsed into."""
    agent = model if isinstance(model, Agent) else model._agent
    format, prompt = agent._settings.format, agent.prompt
    parsed = prompt is not None and (prompt.parser is not None or prompt.format is not None)
    if isinstance(format, type):
        return Reply | str | format
    return Any if format is not None or parsed else Reply | str


class SystemStep(Step):
    """A system of agents as a step: what it is given is its task."""

    kind = "system"

    def __init__(self, system: AgentBase) -> None:
        self.system = system
        self.name = system.name
        self.takes_list = False

    def receive(self, value: Any) -> Any:
        return value.content if isinstance(value, Reply) else value

    async def _run(self, value: Any, here: Here) -> Any:
        return await self.system.acall(value)
