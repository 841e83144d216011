"""BaseAgent: an agent whose work is a method of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from lllm.llm.agent import Agent
from lllm.llm.model import LLM
from lllm.models.message import Message


@runtime_checkable
class Runs(Protocol):
    """Whatever can be used as a primitive agent: it has an id and does its work in `run`."""

    @property
    def agent_id(self) -> str: ...

    async def run(self, prompt: str, **kwargs: Any) -> Any: ...


class BaseAgent(Agent, ABC):
    """Base of agents that do their work in `run`. It is an Agent with all that one has: tools, memory, limits, the log.

        class Translator(BaseAgent):
            async def run(self, prompt, **kwargs):
                return await self._stream_and_aggregate(f"Translate into French: {prompt}", **kwargs)

    Args:
        agent_id: its name. model: as for Agent. settings: everything else of Agent.
    """

    def __init__(self, agent_id: str, model: Any = None, **settings: Any) -> None:
        super().__init__(agent_id, model, **settings)
        self._model = LLM(model) if model is None or isinstance(model, str) else model

    @property
    def agent_id(self) -> str:
        """Its name."""
        return self.name

    @property
    def model(self) -> Any:
        """The model that it was made with, an LLM where that was a name."""
        return self._model

    @abstractmethod
    async def run(self, prompt: str, **kwargs: Any) -> Any:
        """Does the agent's work."""

    async def _stream_and_aggregate(self, prompt: Any, **kwargs: Any) -> str:
        """Asks the model, streamed, and returns the whole text of the reply: of a prompt, a Dialog or a list of messages."""
        input = Message("user", prompt) if isinstance(prompt, str) else prompt
        return (await self.astream(input, **kwargs).acollect()).content
