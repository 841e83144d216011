"""The built-in system of a configuration with `steps:`: its stages, no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lllm.config.problems import Problems, raise_errors
from lllm.errors import StageError, UnknownKeyError
from lllm.llm.system import AsyncAgentBase
from lllm.models.reply import Reply
from lllm.session import current
from lllm.steps.chains import Chain
from lllm.steps.declared import declared_chain

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent


class ChainSystem(AsyncAgentBase):
    """Gives the task to the first stage of `steps:`, and what each stage gives to the next.

    Attributes:
        chain: the stages.
    """

    agent_type = "steps"
    runs_steps = True

    @classmethod
    def check_agents(cls, config: Config, agents: Mapping[str, Agent]) -> None:
        """Requires stages that are there and fit one another."""
        problems = Problems()
        declared_chain(config, agents, problems)
        raise_errors(list(problems), "steps")

    @property
    def chain(self) -> Chain:
        """The stages, as a chain."""
        found: Chain | None = vars(self).get("_chain")
        if found is None:
            problems = Problems()
            found = declared_chain(self.config, self.agents, problems)
            raise_errors(list(problems), "steps")
            assert found is not None
            vars(self)["_chain"] = found
        return found

    async def call(self, task: str, **more: Any) -> Any:
        """Returns the result of the last stage; that of an agent is its payload."""
        if more:
            raise UnknownKeyError(next(iter(more)), ("task", "session_name", "session"))
        from lllm.steps.running import one
        from lllm.steps.sinks.step import finish

        scope = current.get()
        # the session that was opened for this call is left open where the budget is used up
        owns = scope is not None and self.has_opened(scope.session) and scope.call is scope.stage is None
        try:
            result = await one(self.chain, task, owns=owns)
        finally:
            await finish(self.chain)
        return payload(result.value)


def payload(value: Any) -> Any:
    """A result without its replies: of each, also within lists and dicts, the value that it was parsed into, or its text. An
    item that failed, and was kept, is `{"error": ...}`."""
    if isinstance(value, Reply):
        return value.content if value.parsed is None else value.parsed
    if isinstance(value, StageError):
        return {"error": value.message}
    if isinstance(value, list | tuple):
        return [payload(one) for one in value]
    if isinstance(value, Mapping):
        return {key: payload(one) for key, one in value.items()}
    return value
