"""BaseModel: a model of one's own, by one method that yields text."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from lllm.backends.local.speech import Speech
from lllm.config.secret import secrets_in
from lllm.errors import ProtocolError
from lllm.llm.agent import Agent
from lllm.llm.inputs import WORKERS
from lllm.llm.model import LLM
from lllm.ports import Capabilities, Completed, Delta, Request


class BaseModel(LLM, ABC):
    """A model that you bring: subclass it, and write `call_stream`.

        class Shout(BaseModel):
            async def call_stream(self, messages, **kwargs):
                for word in messages[-1]["content"].split():
                    yield word.upper() + " "

        model = Shout()
        print(model("to be or not"), Agent("a", model, tools=[...])("hello"))

    It is used wherever a model is: it is an `LLM`, agents are made on it, and registered as a backend
    (`registry.add("backend", "shout", Shout)`) it has a name for YAML. Reasoning in `<think>` tags is told apart, stop strings
    are held to, and tools work as text; whatever it raises is a fault, retried if it is a retryable
    `lllm.errors.ProviderError`.

    Args:
        model_name: its name in the log; by default the class's.
        settings: as of LLM: sampling values that each call is given, limits, timeouts, system, workers.
    """

    _fixed: ClassVar[Mapping[str, str]] = {}  # a subclass has attributes of its own
    workers = WORKERS
    model_name = ""
    _closed = False

    def __init__(self, model_name: str | None = None, **settings: Any) -> None:
        if model_name is not None:
            self.model_name = model_name
        super().__init__(CallStream(self), **settings)

    @abstractmethod
    def call_stream(self, messages: Any, **kwargs: Any) -> Any:
        """Yields the text of the reply, piece by piece: an async generator.

        Args:
            messages: the dialog as the chat-completions API writes it: `{"role": ..., "content": ...}`.
            kwargs: sampling values of the call: temperature, max_tokens, ...
        """

    async def close_client(self) -> None:
        """Frees what the model holds. Called by `close`; a later call of the model opens it again."""

    @cached_property
    def _agent(self) -> Agent:  # type: ignore[override]  # of a subclass that does not call `super().__init__`
        LLM.__init__(self, CallStream(self))
        made: Agent = vars(self)["_agent"]
        return made

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.model_name!r})" if self.model_name else f"{type(self).__name__}()"
        )


class CallStream:
    """The backend that `call_stream` is. See `lllm.ports.Backend`."""

    capabilities = Capabilities(tools=False)

    def __init__(self, model: BaseModel) -> None:
        self._of = model

    @property
    def name(self) -> str:
        return self._of.model_name or type(self._of).__name__

    @property
    def secrets(self) -> tuple[str, ...]:
        """Keys among the model's attributes."""
        return tuple(secrets_in({name.lstrip("_"): value for name, value in vars(self._of).items()}))

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        speech = Speech(request, model=self.name, prompt=())
        messages = [message.to_dict() for message in request.messages]
        async with aclosing(self._pieces(messages, request.sampling)) as pieces:
            async for piece in pieces:
                for delta in speech.token(0, piece):
                    if request.stream:
                        yield delta
                if speech.stopped:
                    break
        for delta in speech.finish("stop"):
            if request.stream:
                yield delta
        yield Completed(replace(speech.reply(), usage=None))

    async def _pieces(self, messages: list[dict[str, Any]], sampling: Mapping[str, Any]) -> Any:
        where = f"{type(self._of).__name__}.call_stream"
        pieces = self._of.call_stream(messages, **sampling)
        if inspect.isawaitable(pieces):
            pieces = await pieces
        if not hasattr(pieces, "__aiter__"):
            raise ProtocolError(
                f"{where} returned {type(pieces).__name__}, not an async iterator of text",
                hint="Write it as `async def call_stream(self, messages, **kwargs)`, with `yield`.",
            )
        try:
            async for piece in pieces:
                if not isinstance(piece, str):
                    raise ProtocolError(f"{where} yielded {type(piece).__name__}; it yields text")
                yield piece
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    async def aclose(self) -> None:
        await self._of.close_client()
