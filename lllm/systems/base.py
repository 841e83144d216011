"""System: what the ready systems have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from lllm.core.jsonable import unicode_only
from lllm.errors import ConfigError
from lllm.fitting import Size
from lllm.llm.agent import Agent
from lllm.llm.measuring import measure
from lllm.llm.model import LLM
from lllm.llm.settings import SAMPLING
from lllm.models.message import Message
from lllm.ports import LogStore, Request
from lllm.steps.base import Step, named
from lllm.steps.calls import ModelStep
from lllm.steps.running import failed
from lllm.steps.side_by_side import side_by_side

if TYPE_CHECKING:
    from lllm.steps.running import Here


MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("chunk_size", "max_chunk_size", "chunk_tokens", "chunk_length"), "budget"),
    **dict.fromkeys(("max_concurrency", "max_workers", "num_workers", "workers", "parallelism"), "limit"),
    **dict.fromkeys(("n", "calls", "times"), "num_calls"),
    **dict.fromkeys(("output", "output_folder", "output_path", "out_dir"), "output_dir"),
    **dict.fromkeys(("filename", "basename"), "base_filename"),
}
"""What arguments of systems are called elsewhere."""
_CLOSE: Final = 0.8
"""How much a keyword has to look like an argument: less than that may be a sampling value."""


def no_other_names(kind: type, settings: Iterable[str]) -> None:
    """ConfigError where a keyword is an argument of a system under another name: it would be a sampling value."""
    system: Any = kind
    own = [
        one.name
        for maker in (system.__init__, system.run)
        for one in inspect.signature(maker).parameters.values()
        if one.name != "self" and one.kind is not one.VAR_KEYWORD
    ]
    for key in settings:
        meant = MEANT.get(key)
        if meant not in own:
            meant = None if key in SAMPLING else next(iter(get_close_matches(key, own, 1, _CLOSE)), None)
        if meant is not None:
            raise ConfigError(f"unknown keyword '{key}'", hint=f"Did you mean '{meant}'?")


class System(Step):
    """Base of systems that work with one model. It is a step: it stands in chains, goes over batches, and streams.

    Args:
        system_id: its name. model: as for Agent; or an Agent, with its system prompt, tools and limits, but without its memory.
        store: for sessions that its runs open; by default the configured log.
        settings: everything else of Agent: temperature, max_tokens, limits, ...
    """

    kind = "system"
    streams = True

    def __init__(
        self, system_id: str, model: Any = None, *, store: LogStore | None = None, **settings: Any
    ) -> None:
        self.name = named(system_id, of="system")
        no_other_names(type(self), settings)
        if isinstance(model, Agent):
            self._agent = model.with_(memory=False, **settings)
        else:
            self._agent = Agent(system_id, model, **settings)
        self._model = LLM(model) if model is None or isinstance(model, str) else model
        self.store = store

    @property
    def system_id(self) -> str:
        """Its name."""
        return self.name

    @property
    def model(self) -> Any:
        """The model or agent that it was made with, an LLM where that was a name."""
        return self._model

    @property
    def agent(self) -> Agent:
        """The agent that its calls are made with: that of its model, or a copy of the one that was given, without memory."""
        return self._agent

    async def _result(self, value: Any) -> Any:
        """The result of a run, in the running session or in one of its own."""
        return (await self.arun(value, store=self.store)).value

    def _with(self, settings: Mapping[str, Any]) -> Agent:
        no_other_names(type(self), settings)
        return self._agent.with_(**settings) if settings else self._agent


class Call(ModelStep):
    """One of several calls of a system's agent.

    Attributes:
        error: what it raised, or None.
    """

    error: Exception | None = None

    async def _run(self, value: Any, here: Here) -> Any:
        try:
            return await self._asked_for(value, here)
        except Exception as error:
            self.error = error
            raise

    async def _asked_for(self, value: Any, here: Here) -> Any:
        return await super()._run(Message("user", value), here)  # text, also when it looks like a path


async def all_calls(
    here: Here, jobs: Sequence[tuple[str, Call, Any]], *, errors: str, limit: int
) -> list[tuple[str, Any]]:
    """Makes several calls, as `side_by_side`. What is raised is a StageError with the number of the call, from 0."""
    try:
        return await side_by_side(here, jobs, errors=errors, limit=limit)
    except Exception as error:
        for index, (_, call, _) in enumerate(jobs):
            if call.error is error:
                raise failed(error, index, here.session.id) from error
        raise


class Ruler:
    """Measures prompts as the model of an agent reads them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        binding, *_ = agent._prepare(Message("user", ""), {}, {})
        self._plan = binding.plan({})
        self.model = self._plan.model
        self.reply = self._plan.sampling.get("max_completion_tokens") or self._plan.sampling.get("max_tokens")

    async def size(self, prompt: str) -> Size:
        """The length of a request with this prompt, and the model's window."""
        plan = self._plan
        asked = Message("user", unicode_only(prompt))
        messages = tuple(self._agent._prepare(asked, {}, {})[2])  # an agent may add to what it is asked
        tools = plan.tool_specs
        if plan.text_tools is not None:
            messages, tools = plan.text_tools.written(messages, tools, plan.sampling.get("tool_choice")), ()
        request = Request(plan.model_name, messages, tuple(tools), plan.sampling, plan.format)
        return await measure(plan.backend, plan.model, request)
