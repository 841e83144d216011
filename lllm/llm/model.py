"""LLM: a model as a function."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lllm.errors import ConfigError, LLMError
from lllm.llm.agent import Agent
from lllm.llm.dialog import as_message
from lllm.llm.streaming import Stream
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Backend
from lllm.sync import run

T = TypeVar("T")

ENDPOINT = ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute")
"""Options of the backend that an LLM takes as keywords."""

SHAPES = """What can be given to an LLM:
  "text"                                one question               -> Reply
  [{"role": "user", ...}, ...]          one dialog                 -> Reply
  ["text", "text", ...]                 a batch of questions       -> list of Reply (or the error in its place)
  [[{"role": ...}, ...], [...], ...]    a batch of dialogs         -> list of Reply (or the error in its place)"""


class LLM:
    """A model as a function: `llm("x")`, `llm(["x", "y"])`, `llm(messages)`.

    A call is an agent call without a role: no system prompt, no repair (unless `format` asks for one), tool calls given
    back and not run. Everything else (retries, limits, the log) is the same.

    Args:
        model: `provider/model`, a backend's name, or a backend; None takes what the configuration says.
        system: a system prompt for every call.
        options: for the backend's constructor: base_url, api_key, concurrency, ... The names in `ENDPOINT` may be keywords too.
        workers: how many of a batch run at once.
        settings: sampling values (temperature, max_tokens, ...), limits, timeouts, tools, format.
    """

    def __init__(
        self,
        model: str | Backend | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        workers: int = 16,
        **settings: Any,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers is {workers}; it is 1 or more")
        self.workers = workers
        for key in ENDPOINT:
            if key in settings:
                options = {**(options or {}), key: settings.pop(key)}
        self._agent = Agent("llm", model, system, options=options, **settings).with_(execute=False)

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._agent.model

    def __call__(self, input: Any, *, stream: bool = False, **overrides: Any) -> Any:
        """See the module's SHAPES. `overrides` replace any setting for this call: `tools=[...]`, `format=Schema`,
        `temperature=0`, `model=...`. With `stream=True`: a Stream of deltas."""
        if stream:
            return Stream(self.stream(input, **overrides))
        return run(self.acall(input, **overrides))

    async def acall(self, input: Any, **overrides: Any) -> Any:
        """`__call__` for async code."""
        kind = shape(input)
        if kind == "one":
            return await self._agent.acall(_text(input), **overrides)
        limit = asyncio.Semaphore(self.workers)

        async def one(item: Any) -> Reply | LLMError:
            async with limit:
                try:
                    return await self._agent.acall(_text(item), **overrides)
                except LLMError as error:
                    return error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in input]
        return [task.result() for task in tasks]

    def stream(self, input: Any, **overrides: Any) -> Any:
        """The deltas of one reply as they come, and `Completed` at the end."""
        if shape(input) != "one":
            raise ConfigError("a batch cannot be streamed", hint="Stream one question or dialog.")
        return self._agent.stream(_text(input), **overrides)

    def astream(self, input: Any, **overrides: Any) -> Any:
        """`stream` for async code."""
        if shape(input) != "one":
            raise ConfigError("a batch cannot be streamed", hint="Stream one question or dialog.")
        return self._agent.astream(_text(input), **overrides)

    def classify(self, input: Any, classes: Sequence[str], **more: Any) -> dict[str, float]:
        """Probabilities of `classes`, from log-probabilities."""
        return self._agent.classify(_text(input), classes, **more)

    def __repr__(self) -> str:
        return f"LLM({self.model!r})"


def _text(input: Any) -> Any:
    """Text for a model is text, also when it looks like the path of a prompt."""
    return Message("user", input) if isinstance(input, str) else input


def shape(input: Any) -> str:
    """`one` or `batch`. ConfigError for what is neither: empty or mixed lists, and other types."""
    if isinstance(input, str | Message):
        if isinstance(input, str) and not input:
            raise ConfigError("an LLM was called with empty text", hint=SHAPES)
        return "one"
    if isinstance(input, Mapping) or not isinstance(input, Sequence) or isinstance(input, bytes):
        if hasattr(input, "messages"):
            return "one"
        raise ConfigError(f"an LLM was called with {type(input).__name__}", hint=SHAPES)
    kinds = {_item(item) for item in input}
    if len(kinds) != 1:
        what = "an empty list" if not kinds else "a mixed list"
        raise ConfigError(f"an LLM was called with {what}", hint=SHAPES)
    kind = kinds.pop()
    if kind == "message":
        for item in input:
            _check(item)
    return "one" if kind == "message" else "batch"


def _item(item: Any) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, Message | Mapping):
        return "message"
    if (
        isinstance(item, Sequence)
        and not isinstance(item, bytes)
        and item
        and all(_item(x) == "message" for x in item)
    ):
        return "dialog"
    raise ConfigError(f"an LLM was called with a list that holds {type(item).__name__}", hint=SHAPES)


def _check(item: Any) -> None:
    try:
        as_message(item)
    except ValueError as error:
        raise ConfigError(str(error), hint=SHAPES) from error
