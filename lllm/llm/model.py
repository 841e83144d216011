"""LLM: a model as a function."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from lllm.errors import ConfigError, LLMError, UnsupportedError
from lllm.llm.agent import Agent
from lllm.llm.checks import mapping_of
from lllm.llm.counting import count_with
from lllm.llm.dialog import as_message
from lllm.llm.settings import no_slips
from lllm.llm.streaming import Stream
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Backend
from lllm.sync import run
from lllm.tokens import TokenCount

ENDPOINT = ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute")
"""Options of the backend that an LLM takes as keywords."""

SHAPES = """What can be given to an LLM:
  "text"                                one question               -> Reply
  [{"role": "user", ...}, ...]          one dialog                 -> Reply
  ["text", "text", ...]                 a batch of questions       -> list of Reply (or the error in its place)
  [[{"role": ...}, ...], [...], ...]    a batch of dialogs         -> list of Reply (or the error in its place)"""

_OF_CALL = ("session", "args", "parser_args", "follow", "read")
"""Keywords of a call that are no settings."""


class LLM:
    """A model as a function: `llm("x")`, `llm(["x", "y"])`, `llm(messages)`.

    A call is an agent call without a role: no system prompt, no repair (unless `format` asks for one), tool calls given
    back and not run. Everything else (retries, limits, the log) is the same.

    Args:
        model: `provider/model`, a backend's name, or a backend; None takes what the configuration says.
        system: a system prompt for every call. A dialog that brings one of its own keeps that.
        options: for the backend's constructor: base_url, api_key, concurrency, context, threads, device, ... The names in
            `ENDPOINT` may be keywords too.
        workers: how many of a batch run at once.
        settings: sampling values (temperature, max_tokens, ...), limits, timeouts, tools, format.

    It may be closed (`close`, `aclose`, `with`, `async with`): that frees what its backend holds.
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
        self.workers = _workers(workers)
        if "system_prompt" in settings:
            raise ConfigError("unknown keyword 'system_prompt'", hint="Did you mean 'system'?")
        for key in ENDPOINT:
            if key in settings:
                options = {**mapping_of("options", options), key: settings.pop(key)}
        self._agent = Agent("llm", model, system, options=options, **settings).with_(execute=False)
        self._closed = False

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._agent.model

    def __call__(self, input: Any, *, stream: bool = False, **overrides: Any) -> Any:
        """See the module's SHAPES. `overrides` replace any setting for this call: `tools=[...]`, `format=Schema`,
        `temperature=0`, `model=...`, `system=...`, and `workers` of a batch. None takes a sampling value away. With
        `stream=True`: a Stream of deltas.

        Raises:
            CallError: the call ended without a reply. Of a batch it stands in the reply's place.
            ConfigError: what was given, or a setting, is wrong; of a batch too, and before any model is asked.
        """
        if stream:
            return self.stream(input, **overrides)
        return run(self.acall(input, **overrides))

    async def acall(self, input: Any, **overrides: Any) -> Any:
        """`__call__` for async code."""
        workers = _workers(overrides.pop("workers", self.workers))
        kind = shape(input)
        agent, call = self._overridden(overrides)
        if kind == "one":
            return await agent.acall(_text(input), **call)
        waiting = enumerate([_text(item) for item in input])
        replies: list[Reply | LLMError | None] = [None] * len(input)

        async def work() -> None:
            for place, item in waiting:
                try:
                    replies[place] = await agent.acall(item, **call)
                except LLMError as error:
                    replies[place] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(workers, len(input))):
                group.create_task(work())
        return replies

    def stream(self, input: Any, **overrides: Any) -> Stream:
        """The deltas of one reply as they come, and `Completed` at the end."""
        return self._stream(input, overrides)

    def astream(self, input: Any, **overrides: Any) -> Stream:
        """`stream` for async code."""
        return self._stream(input, overrides)

    def _stream(self, input: Any, overrides: Mapping[str, Any]) -> Stream:
        if shape(input) != "one":
            raise ConfigError("a batch cannot be streamed", hint="Stream one question or dialog.")
        agent, call = self._overridden(overrides)
        return agent.astream(_text(input), **call)

    def classify(self, input: Any, classes: Sequence[str], **more: Any) -> dict[str, float]:
        """Probabilities of `classes`, from log-probabilities."""
        return run(self.aclassify(input, classes, **more))

    async def aclassify(self, input: Any, classes: Sequence[str], **more: Any) -> dict[str, float]:
        """`classify` for async code."""
        if shape(input) != "one":
            raise ConfigError("a batch cannot be classified", hint="Classify one question or dialog.")
        agent, _ = self._overridden({"system": more.pop("system")} if "system" in more else {})
        return await agent.aclassify(_text(input), classes, **more)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector per text, in order. Nothing of it is logged.

        Raises:
            UnsupportedError: the backend has no `embed(model, texts)`.
            ConfigError: `texts` is no list of texts.
        """
        return run(self.aembed(texts))

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """`embed` for async code."""
        if (
            isinstance(texts, str)
            or not isinstance(texts, Iterable)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ConfigError("embed takes a list of texts", hint='Write llm.embed(["one", "two"]).')
        settings = self._agent._settings
        embed = getattr(settings.backend, "embed", None)
        if embed is None:
            raise UnsupportedError(
                f"'{self.model}' gives no vectors",
                hint="Models of llama_cpp/ and transformers/ do, and every backend with embed(model, texts).",
            )
        self._closed = False
        vectors: list[list[float]] = await embed(settings.model_name, list(texts)) if texts else []
        return vectors

    def count_tokens(self, text: str) -> TokenCount:
        """How many tokens a text has for this model: exact, or an estimate that says it is one. See
        `lllm.count_tokens`."""
        settings = self._agent._settings
        return run(count_with(settings.backend, settings.model, settings.model_name, text))

    def close(self) -> None:
        """Frees what the backend holds: connections, weights. A second time does nothing. A later call opens it again;
        so does whoever else uses the same model."""
        run(self.aclose())

    async def aclose(self) -> None:
        """`close` for async code."""
        close = getattr(self._agent._settings.backend, "aclose", None)
        if close is not None and not self._closed:
            self._closed = True
            await close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _overridden(self, overrides: Mapping[str, Any]) -> tuple[Agent, dict[str, Any]]:
        """The agent with the settings of one call, and what else the call was given. Of a batch it is bound once."""
        self._closed = False
        if "stream" in overrides:
            no_slips(("stream",))
        call = {key: value for key, value in overrides.items() if key in _OF_CALL}
        changes = {key: value for key, value in overrides.items() if key not in _OF_CALL}
        if "system" in changes:
            changes["system_prompt"] = changes.pop("system")
        return (self._agent.with_(**changes) if changes else self._agent), call

    def __repr__(self) -> str:
        return f"LLM({self.model!r})"


def _workers(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"workers is {value!r}; it is a whole number, 1 or more")
    return value


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
    for item in input:
        for message in [item] if kind == "message" else item if kind == "dialog" else ():
            _check(message)
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
