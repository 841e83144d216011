"""The embedded model: small, offline, on the CPU, in the package. See `weights/MODEL_CARD.md` for what it can do.

It runs on llama.cpp's own server code in this process (`xllamacpp`), greedy unless a temperature is set, with a few slots
that are decoded together and one thread: at this size more threads are slower.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lllm.backends.openai.reply import Assembly, ErrorObject
from lllm.backends.openai.watch import Expired, Watch
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
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta, ThinkingDelta, ToolCallDelta
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
_LATE: Final = {
    "first_token": "said nothing",
    "idle": "said nothing more",
    "total": "did not finish",
    "connect": "could not be reached",
}


class EmbeddedBackend:
    """A `lllm.ports.Backend` on the weights that ship with the package.

    Args:
        path: another GGUF file of the same kind.
        slots: requests decoded together.

    The weights are loaded by the first request, once. Raises DependencyError when `xllamacpp` is missing.
    """

    name = "embedded"
    only_model = "embedded"
    capabilities = Capabilities(tools=True, grammar=True, logprobs=True, seed=True)

    def __init__(self, path: str | Path | None = None, *, slots: int = SLOTS) -> None:
        if slots < 1:
            raise ConfigError(f"slots is {slots}; it is 1 or more")
        self.path = Path(path) if path is not None else WEIGHTS
        self.slots = slots
        self._server: Any = None
        self._loading = threading.Lock()
        _alive.add(self)

    def load(self) -> Any:
        """The engine, loaded once however many ask. Raises DependencyError and LLMInitializationError."""
        with self._loading:
            if self._server is None:
                try:
                    import xllamacpp
                except ModuleNotFoundError as error:
                    if error.name != "xllamacpp":
                        raise
                    raise DependencyError("xllamacpp", "local", "the embedded model") from error
                # messages reach the log, so they name the file and not the folders of this machine
                if not self.path.is_file():
                    raise LLMInitializationError(
                        f"the embedded model's weights are missing: {self.path.name}",
                        hint=None if self.path != WEIGHTS else "Type: pip install --force-reinstall lllm",
                    )
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
                    told = str(error).replace(str(self.path), self.path.name)
                    raise LLMInitializationError(f"{self.path.name} could not be loaded: {told}") from error
                if _forked:
                    _leak(self._server)
            return self._server

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`.

        A streamed reply stops at the next token when it is closed. One that nobody follows comes from the engine in one
        piece, which is a twelfth cheaper, and cannot be stopped: nobody waits for it any longer, and the engine finishes
        it within its context of 1,024 tokens (half a second).
        """
        body = _body(request)
        watch = Watch(request.timeouts, streaming=request.stream)
        feed: _Feed | None = None
        assembly = Assembly(request if "tools" in body else request._replace(tools=()))
        try:
            with watch:
                server = self._server or await in_thread(self.load)
            if not request.stream or (body.get("logprobs") and body.get("tools")):
                # the engine gives log-probabilities with tools only in one piece
                with watch:
                    answer = await in_thread(_whole, server, body)
                assembly.body(_named(answer, request))
                assembly.close()
                for delta in _deltas(assembly.reply()) if request.stream else ():
                    yield delta
            else:
                feed = _Feed(server, body)
                while (chunk := await feed.get(watch)) is not _END:
                    watch.first_piece(request.timeouts.idle)
                    for delta in assembly.chunk(_named(chunk, request)):
                        yield delta
                for delta in assembly.close():
                    yield delta
        except ConfigError:  # a missing package: it is a ValueError too
            raise
        except LLMInitializationError as error:
            raise ProviderError(str(error)) from error
        except Expired as error:
            raise ProviderTimeout(
                f"the embedded model {_LATE[error.stage]} within {error.seconds:g} s",
                stage=error.stage,
                seconds=error.seconds,
            ) from error
        except ErrorObject as error:
            raise _fault(error.value) from error
        except (ValueError, TypeError) as error:  # TypeError: text that is not Unicode
            raise BadRequestError(f"the embedded model refused the request: {error}") from error
        except RuntimeError as error:
            raise ProviderError(f"the embedded model failed: {error}") from error
        finally:
            watch.close()
            if feed is not None:
                feed.stop()
        yield Completed(assembly.reply().with_(model="embedded"))

    async def aclose(self) -> None:
        """Frees the weights. The next request loads them again."""
        self._server = None

    def _forget(self) -> None:
        """In a forked child: the engine's threads are not here, so it can neither answer nor be taken down. The child
        loads one of its own, which cannot be taken down there either."""
        if self._server is not None:
            _leak(self._server)
            self._server = None
        self._loading = threading.Lock()


class _Feed:
    """The chunks of one streamed reply, from the engine's thread to the loop.

    A class and no generator: the loop closes every open generator by itself when it ends, an inner one beside the outer.
    """

    def __init__(self, server: Any, body: Mapping[str, Any]) -> None:
        self._server = server
        self._body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._stopped = False
        self._task = asyncio.ensure_future(in_thread(self._work))

    async def get(self, watch: Watch) -> Any:
        """The next chunk, or `_END`. Raises what the engine raised."""
        if self._queue.empty():
            with watch:
                item = await self._queue.get()
        else:
            item = self._queue.get_nowait()
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Ends the generation at the next token."""
        self._stopped = True
        self._task.cancel()

    def _put(self, item: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            self._stopped = True  # the loop is closed: nobody waits any more

    def _on_chunk(self, chunk: Any) -> bool:
        if not self._stopped:
            self._put(chunk)
        return self._stopped or _leaving  # True ends the generation

    def _work(self) -> None:
        try:
            with _generating():
                answer = self._server.handle_chat_completions(self._body, self._on_chunk)
            if isinstance(answer, dict):
                self._put(answer)
            self._put(_END)
        except Exception as error:
            self._put(error)


def _deltas(reply: Reply) -> Iterator[Delta]:
    """A reply that came in one piece, as pieces."""
    if reply.thinking:
        yield ThinkingDelta(reply.thinking)
    if reply.content:
        yield TextDelta(reply.content)
    for number, call in enumerate(reply.tool_calls):
        yield ToolCallDelta(number, call.id, call.name, call.arguments)


def _whole(server: Any, body: Mapping[str, Any]) -> Any:
    with _generating():
        return server.handle_chat_completions(body)


def _named(answer: Any, request: Request) -> Any:
    """Replaces the engine's random tool-call ids: the same reply gets the same ids, another turn gets others."""
    for choice in answer.get("choices") or ():
        message = choice.get("message") or choice.get("delta") or {}
        for number, call in enumerate(message.get("tool_calls") or ()):
            if call.get("id"):
                call["id"] = f"call_{len(request.messages)}_{call.get('index', number) + 1}"
    return answer


@contextmanager
def _generating() -> Iterator[None]:
    """Counts the threads that are inside the engine."""
    global _inside
    with _gate:
        _inside += 1
    try:
        yield
    finally:
        with _gate:
            _inside -= 1
            _gate.notify_all()


def _leave() -> None:
    # a thread that comes back from the engine while the interpreter is taken down aborts the process
    global _leaving
    _leaving = True
    with _gate:
        _gate.wait_for(lambda: not _inside, timeout=5.0)


def _leak(thing: Any) -> None:
    # one reference more than there is: it is never taken down, not even when the interpreter ends
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    global _gate, _inside, _forked
    _gate, _inside = threading.Condition(), 0
    inherited = [backend for backend in _alive if backend._server is not None]
    for backend in list(_alive):
        backend._forget()
    if inherited and not _forked:
        _forked = True
        _exit_at_once()


def _exit_at_once() -> None:
    # When a process ends, the engine's library waits for threads that a forked child does not have, for ever. The C
    # library calls the latest handler first: the child leaves after Python has cleaned up and before the engine does.
    import ctypes

    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc
        library.on_exit(library._exit, None)


_alive: weakref.WeakSet[EmbeddedBackend] = weakref.WeakSet()
_gate = threading.Condition()
_inside = 0
_leaving = False
_forked = False
"""Whether this process was forked from one that had an engine."""
atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
    sampling = dict(request.sampling)
    choice = sampling.pop("tool_choice", None)  # without tools it means nothing
    if request.tools and choice not in (None, "auto", "none"):
        raise UnsupportedError(
            f"the embedded model cannot be made to call a tool (tool_choice {choice!r})",
            hint="Leave tool_choice out, or give 'auto' or 'none'.",
        )
    body: dict[str, Any] = {**_DEFAULTS, **sampling, "messages": messages}
    if request.tools and choice != "none":  # the engine would write the tools into the prompt all the same
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
