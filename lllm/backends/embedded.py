"""The embedded model: small, offline, on the CPU, in the package. See `weights/MODEL_CARD.md` for what it can do.

It runs on llama.cpp's own server code in this process (`xllamacpp`), greedy unless a temperature is set, with a few slots
that are decoded together and one thread: at this size more threads are slower.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

from lllm.backends.openai.reply import Assembly, ErrorObject
from lllm.errors import (
    BadRequestError,
    ConfigError,
    ContextLengthError,
    DependencyError,
    LLMInitializationError,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.sync import in_thread

WEIGHTS: Final = Path(__file__).parent / "weights" / "embedded-q8_0.gguf"
CONTEXT: Final = 1024
"""Tokens that the model was trained on at once: request and reply together."""
SLOTS: Final = 4
"""Requests that are decoded together; more wait."""
SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "tool_choice",
    "presence_penalty",
    "frequency_penalty",
)
_DEFAULTS: Final[Mapping[str, Any]] = {"temperature": 0.0, "max_tokens": 256}
_END: Final = object()


class EmbeddedBackend:
    """A `lllm.ports.Backend` on the weights that ship with the package.

    Args:
        path: another GGUF file of the same kind.
        slots: requests decoded together.

    The weights are loaded by the first request, once. Raises DependencyError when `xllamacpp` is missing.
    """

    name = "embedded"
    capabilities = Capabilities(tools=True, grammar=True, logprobs=True, seed=True)

    def __init__(self, path: str | Path | None = None, *, slots: int = SLOTS) -> None:
        if slots < 1:
            raise ConfigError(f"slots is {slots}; it is 1 or more")
        self.path = Path(path) if path is not None else WEIGHTS
        self.slots = slots
        self._server: Any = None
        self._loading = threading.Lock()

    def load(self) -> Any:
        """The engine, loaded once however many ask."""
        with self._loading:
            if self._server is None:
                try:
                    import xllamacpp
                except ModuleNotFoundError as error:
                    if error.name != "xllamacpp":
                        raise
                    raise DependencyError("xllamacpp", "local", "the embedded model") from error
                if not self.path.is_file():
                    raise LLMInitializationError(f"the embedded model's weights are missing: {self.path}")
                given = xllamacpp.CommonParams()
                given.model.path = str(self.path)
                given.n_ctx = CONTEXT * self.slots
                given.n_parallel = self.slots
                given.cpuparams.n_threads = 1
                given.cpuparams_batch.n_threads = 1
                given.warmup = False
                given.verbosity = -1
                try:
                    self._server = xllamacpp.Server(given)
                except Exception as error:
                    raise LLMInitializationError(f"{self.path.name} could not be loaded: {error}") from error
            return self._server

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`."""
        body = _body(request)
        try:
            server = self._server or await in_thread(self.load)
        except LLMInitializationError as error:
            raise ProviderError(str(error)) from error
        assembly = Assembly(request)
        try:
            async with asyncio.timeout(request.timeouts.total):
                if not request.stream or body.get("logprobs"):
                    # the engine gives log-probabilities with tools only in one piece
                    answer = await in_thread(server.handle_chat_completions, body)
                    assembly.body(answer)
                    assembly.close()
                else:
                    async for delta in _pieces(server, body, assembly):
                        yield delta
        except TimeoutError as error:
            limit = request.timeouts.total or 0.0
            raise ProviderTimeout(
                f"the embedded model did not finish within {limit:g} s", stage="total", seconds=limit
            ) from error
        except ErrorObject as error:
            raise _fault(error.value) from error
        except ValueError as error:
            raise BadRequestError(f"the embedded model refused the request: {error}") from error
        yield Completed(assembly.reply().with_(model="embedded"))

    async def aclose(self) -> None:
        """Frees the weights. The next request loads them again."""
        self._server = None


async def _pieces(server: Any, body: Mapping[str, Any], assembly: Assembly) -> AsyncGenerator[Delta, None]:
    """The deltas of a streamed reply. Closing it early stops the engine at the next token."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stopped = False

    def put(item: Any) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, item)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def on_chunk(chunk: Any) -> bool:
        put(chunk)
        return stopped  # True ends the generation

    def work() -> None:
        try:
            answer = server.handle_chat_completions(
                {**body, "stream": True, "stream_options": {"include_usage": True}}, on_chunk
            )
            put(answer if isinstance(answer, dict) else _END)
            put(_END)
        except Exception as error:
            put(error)

    task = asyncio.ensure_future(in_thread(work))
    try:
        while (chunk := await queue.get()) is not _END:
            if isinstance(chunk, Exception):
                raise chunk
            for delta in assembly.chunk(chunk):
                yield delta
        for delta in assembly.close():
            yield delta
    finally:
        stopped = True
        task.cancel()


def _body(request: Request) -> dict[str, Any]:
    """The request as llama.cpp's chat completions take it. Raises before anything is loaded."""
    for key in request.sampling:
        if key not in SAMPLING:
            if key in ("token_ids", "max_completion_tokens", "reasoning_effort"):
                raise UnsupportedError(f"the embedded model has no '{key}'")
            raise UnknownKeyError(key, SAMPLING)
    messages = []
    for message in request.messages:
        if not isinstance(message.content, str):
            if any(part.get("type") != "text" for part in message.content):
                raise UnsupportedError("the embedded model reads text only: a message holds an image or file")
            wire = {**message.to_dict(), "content": message.text}
        else:
            wire = message.to_dict()
        messages.append(wire)
    body: dict[str, Any] = {**_DEFAULTS, **request.sampling, "messages": messages}
    if request.tools:
        # grammar and tool calls exclude each other in the engine: while tools are offered, the reply is validated only
        body["tools"] = [dict(tool) for tool in request.tools]
    elif request.format is not None:
        schema = {"name": request.format["name"], "schema": request.format["schema"]}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _fault(value: Any) -> ProviderError:
    """The engine's error object as one of ours."""
    error = value if isinstance(value, Mapping) else {"message": str(value)}
    message = str(error.get("message", "no message"))
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthError(
            f"the embedded model reads {CONTEXT} tokens at once: {message}",
            hint="Shorten the prompt, or use a bigger model: model_name: openai/...",
            body=message,
        )
    if error.get("type") == "invalid_request_error":
        return BadRequestError(f"the embedded model refused the request: {message}", body=message)
    return ProviderError(f"the embedded model failed: {message}", body=message)
