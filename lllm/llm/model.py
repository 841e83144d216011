"""LLM: a model as a function."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from lllm.composing import Composable
from lllm.errors import ConfigError, LLMError, LLMInferenceError, StreamInterrupted, UnsupportedError
from lllm.fixed import Fixed
from lllm.handles import embed_of
from lllm.llm.agent import Agent
from lllm.llm.checks import mapping_of, parse_count
from lllm.llm.counting import count_with
from lllm.llm.inputs import WORKERS, batch, shape
from lllm.llm.settings import OF_LLM, OTHERS, no_slips
from lllm.llm.streaming import Stream
from lllm.models.message import Message
from lllm.plug_ins import backend_named, guarded
from lllm.ports import Backend, Restart, TextDelta
from lllm.session import recording
from lllm.sync import run
from lllm.tokens import TokenCount

ENDPOINT = ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute")
"""Options of the backend that an LLM takes as keywords."""

_OF_CALL = ("session", "args", "parser_args", "follow", "key", "read")
"""Keywords of a call that are no settings."""
_OF_AGENTS = {
    "system_prompt": "Did you mean 'system'?",
    "sandbox": "An LLM returns tool calls without running them. An Agent runs them: Agent(name, model, sandbox=...).",
    "approve": "An LLM returns tool calls without running them. An Agent runs them: Agent(name, model, approve=...).",
    **dict.fromkeys(
        ("approval", "handoffs"),
        "An LLM returns tool calls without running them. An Agent runs them: Agent(name, model, tools=[...]).",
    ),
    "memory": "An LLM has none. An Agent may: Agent(name, model, memory=True).",
    **dict.fromkeys(
        ("name", "prompt", "description"),
        "A role belongs to an Agent: Agent(name, model, system_prompt, prompt=...).",
    ),
}
"""Arguments of an Agent that an LLM does not have, and where they belong."""


class LLM(Fixed, Composable):
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

    `workers` can be set later; setting anything else raises FixedSettingError.

    It may be closed (`close`, `aclose`, `with`, `async with`): that frees what its backend holds.
    """

    _settable = frozenset(("workers",))
    _fixed = OF_LLM
    _instead = OTHERS

    def __init__(
        self,
        model: str | Backend | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        workers: int = WORKERS,
        **settings: Any,
    ) -> None:
        self.workers = parse_count("workers", workers)
        for key in settings:
            if key in _OF_AGENTS:
                raise ConfigError(f"an LLM has no '{key}'", hint=_OF_AGENTS[key])
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
        """Calls the model; `lllm.llm.inputs.SHAPES` lists the inputs. `overrides` replace any setting for this call:
        `tools=[...]`, `format=Schema`, `temperature=0`, `model=...`, `system=...`, and `workers` of a batch. None unsets
        a sampling value. With `stream=True`, returns a Stream of deltas.

        Raises:
            CallError: the call ended without a reply. In a batch it takes the reply's place.
            ConfigError: an input or a setting is invalid; also for a batch, before any request is sent.
        """
        if stream:
            return self.stream(input, **overrides)
        return run(self.acall(input, **overrides))

    async def acall(self, input: Any, **overrides: Any) -> Any:
        """`__call__` for async code."""
        kind = shape(input)
        if kind == "one" and "workers" in overrides:
            no_slips(("workers",))
        workers = parse_count("workers", overrides.pop("workers", self.workers))
        agent, call = self._overridden(overrides)
        if kind == "one":
            return await agent.acall(_text(input), **call)
        if "key" in call:
            raise ConfigError("a batch has no key", hint="Its calls are told apart by their places in it.")
        return await batch(lambda item: agent.acall(_text(item), **call), input, workers)

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

    async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncGenerator[str, None]:
        """The text of one reply, piece by piece. Thinking is left out; with `options={"thinking": "off"}` the model's own
        tags stay in the text.

        Nothing is yielded twice: a fault before the first piece is retried, one after it is an error that holds the text
        so far in `partial`.

        Args:
            messages: a list of messages, or text.
            kwargs: settings of this call: max_tokens, temperature, ...
        """
        said: list[str] = []
        async with aclosing(self.astream(messages, **kwargs)) as deltas:
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    said.append(delta.text)
                    yield delta.text
                elif isinstance(delta, Restart) and said:
                    partial = "".join(said)
                    raise StreamInterrupted(
                        f"{getattr(self, 'api_url', self.model)}: the reply broke off after {len(partial)} characters",
                        hint="Text that was streamed cannot be taken back. Follow astream(), whose Restart says that the "
                        "reply begins anew, or call the model without a stream. A proxy's time limit or an overloaded "
                        "server is the usual cause: raise that limit, or lower concurrency=.",
                        partial=partial,
                    )

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
        """A vector per text, in order. Within a session they are recorded, and a replay gives them again.

        Raises:
            UnsupportedError: the backend has no `embed(model, texts)`.
            LLMInferenceError: it raised something, or gave another number of vectors.
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
        who = f"{backend_named(settings.backend, self.model)}: embed"
        embed = embed_of(settings.backend, self.model)
        if embed is None:
            raise UnsupportedError(
                f"'{self.model}' gives no vectors",
                hint="Models of llama_cpp/ and transformers/ do, and every backend with embed(model, texts).",
            )
        self._closed = False
        if not texts:
            return []

        async def ask() -> list[list[float]]:
            with guarded(who, LLMInferenceError):
                vectors = [
                    [float(one) for one in vector] for vector in await embed(settings.model_name, list(texts))
                ]
            if len(vectors) != len(texts):
                raise LLMInferenceError(f"{who} gave {len(vectors)} vectors for {len(texts)} texts")
            return vectors

        session = recording()
        if session is None:
            return await ask()
        request = {"model": self.model, "texts": list(texts)}
        vectors: list[list[float]] = await session.effect("embed", request, ask, effect="pure")
        return vectors

    def count_tokens(self, text: str) -> TokenCount:
        """Counts a text's tokens for this model: exact, or a marked estimate. See `lllm.count_tokens`."""
        settings = self._agent._settings
        return run(count_with(settings.backend, settings.model, settings.model_name, text))

    def close(self) -> None:
        """Frees what the backend holds: connections, weights. A second time does nothing. A later call opens it again;
        so does whoever else uses the same model."""
        run(self.aclose())

    async def aclose(self) -> None:
        """`close` for async code."""
        with guarded(f"{backend_named(self._agent._settings.backend, self.model)}: aclose", LLMError):
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
        for key in changes:
            if key in _OF_AGENTS and not (key == "approve" and changes.get("execute")):
                raise ConfigError(f"an LLM has no '{key}'", hint=_OF_AGENTS[key])
        if "system" in changes:
            changes["system_prompt"] = changes.pop("system")
        return (self._agent.with_(**changes) if changes else self._agent), call

    def __repr__(self) -> str:
        return f"LLM({self.model!r})"


def _text(input: Any) -> Any:
    """Text for a model is text, also when it looks like the path of a prompt."""
    return Message("user", input) if isinstance(input, str) else input
