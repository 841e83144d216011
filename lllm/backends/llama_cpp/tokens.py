"""GGUF files on llama-cpp-python: token-level control, one request after another.

The engine has one thread of its own, and only this thread touches the model. A request that is left (its generator closed,
its task cancelled, its time over) ends at the next token, or before it begins.
"""

from __future__ import annotations

import asyncio
import codecs
import queue
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from lllm.backends.llama_cpp.body import check
from lllm.backends.llama_cpp.faults import failed
from lllm.backends.llama_cpp.options import Options
from lllm.backends.llama_cpp.rules import Rules, offered, rules
from lllm.backends.llama_cpp.sampling import Sampler, Sampling
from lllm.backends.llama_cpp.threads import Holder, inside, keep, leaving, register
from lllm.backends.llama_cpp.weights import BATCH, Weights
from lllm.backends.local.dialog import thinking_mode
from lllm.backends.local.speech import Speech
from lllm.backends.thinking_forms import closers_after
from lllm.errors import (
    BadRequestError,
    ConfigError,
    ContextLengthError,
    LLMInitializationError,
    ProviderError,
    ProviderTimeout,
    UnsupportedError,
)
from lllm.http.watch import Expired, Watch
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.sync import in_thread

_LATE: Final = {
    "first_token": "said nothing",
    "idle": "said nothing more",
    "total": "did not finish",
    "connect": "could not be reached",
}
_Job = Callable[[], None]
T = TypeVar("T")


class TokenEngine(Holder):
    """One GGUF file, loaded. See `lllm.ports.Backend` for what `stream` promises.

    Args:
        path: the file.
        options: how it is loaded. `slots` is how many dialogs that take turns are kept from being computed again.

    Raises DependencyError without llama-cpp-python and LLMInitializationError for a file that cannot be loaded.
    """

    capabilities = Capabilities(
        tools=True, grammar=True, logprobs=True, token_ids=True, seed=True, local=True
    )

    def __init__(self, path: str | Path, options: Options | None = None) -> None:
        self.path = Path(path).expanduser()
        self.options = options or Options()
        self._speed: dict[str, float] = {}
        self._turns: set[_Turn] = set()
        self._start()
        self._weights: Weights | None = Weights(self.path, self.options)
        register(self)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The reply in pieces, and whole at the end; in one piece where nobody follows (`request.stream` is False).

        Raises ContextLengthError, UnsupportedError, BadRequestError, UnknownKeyError, ProviderTimeout and ProviderError.
        """
        if self.options.embedding:
            raise UnsupportedError(
                f"{self.path.name} is loaded to embed texts", hint="Load it without the option embedding."
            )
        check(request, self.path.name)
        sampling = Sampling.of(request.sampling, seed=self.options.seed)
        watch = Watch(request.timeouts, streaming=request.stream)
        turn = _Turn()
        self._turns.add(turn)
        try:
            self._submit(lambda: self._speak(turn, request, sampling))
            while True:
                item = turn.ready()
                if item is None:
                    with watch:
                        item = await turn.get()
                if isinstance(item, Reply):
                    break
                if isinstance(item, Exception):
                    raise item
                watch.first_piece(request.timeouts.idle)
                for delta in item:
                    yield delta
        except (ProviderError, ConfigError):
            raise
        except LLMInitializationError as error:
            raise ProviderError(str(error)) from error
        except Expired as error:
            raise ProviderTimeout(
                f"{self.path.name} {_LATE[error.stage]} within {error.seconds:g} s",
                stage=error.stage,
                seconds=error.seconds,
            ) from error
        except UnicodeError as error:
            raise BadRequestError(f"{self.path.name} reads Unicode: {error}") from error
        except (RuntimeError, OSError, MemoryError) as error:
            raise failed(self.path.name, error) from error
        finally:
            turn.stopped = True
            self._turns.discard(turn)
        yield Completed(item)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, the mean over its tokens. Blocks. UnsupportedError unless loaded with `embedding`."""
        if not self.options.embedding:
            raise UnsupportedError(
                f"{self.path.name} is loaded to write", hint="Load it with the option embedding."
            )
        return self._ask(lambda weights: weights.embed(texts))

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text: special tokens in it are read as text."""
        return self._ask(lambda weights: weights.tokenize(text))

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """See `lllm.ports.MeasuringBackend`."""

        def size(weights: Weights) -> tuple[int, int]:
            text = weights.chat.text(request.messages, offered(request))
            return len(weights.tokenize(text, special=True)), weights.room

        return self._ask(size)

    def info(self) -> dict[str, Any]:
        """Architecture, parameters, context, quantisation, template, engine, engine_version, threads, gpu_layers."""
        return self._ask(lambda weights: weights.info())

    def speed(self) -> dict[str, float]:
        """Of the last request: `prompt_per_second` (tokens that were computed) and `tokens_per_second`. Empty before."""
        return dict(self._speed)

    def close(self) -> None:
        """Frees the model. Blocks until the request under way has stopped; it fails with ProviderError. The next request
        loads the model again."""
        for turn in list(self._turns):
            turn.stopped = True
            turn.put(ProviderError(f"{self.path.name} was closed while it answered"))
        if self._weights is not None:
            done: Future[None] = Future()
            self._submit(lambda: self._free(done))
            done.result()

    async def aclose(self) -> None:
        """`close`, from a coroutine."""
        await in_thread(self.close)

    # --- on the engine's own thread

    def _speak(self, turn: _Turn, request: Request, sampling: Sampling) -> None:
        """Decodes one reply."""
        if turn.stopped:
            return
        try:
            reply = self._decode(turn, request, sampling)
        except Exception as error:
            turn.put(error)
        else:
            if reply is not None:
                turn.put(reply)

    def _decode(self, turn: _Turn, request: Request, sampling: Sampling) -> Reply | None:
        """The reply, or None when nobody wants it any more."""
        weights = self._loaded()
        tools = offered(request)
        text = weights.chat.text(request.messages, tools)
        prompt = weights.tokenize(text, special=True)
        limit = self._limit(weights, len(prompt), sampling.max_tokens)
        held = rules(request, calls=weights.chat.calls, name=self.path.name)
        mode = thinking_mode(text)
        if held is not None and mode == "auto":
            mode = "off"  # the grammar leaves no room for thinking: a tag is part of a value
        began = time.perf_counter()
        cached = weights.memory.recall(prompt)
        sampler = Sampler(weights.model, weights.context, weights.size, sampling, held and held.grammar)
        try:
            for at in range(cached, len(prompt), BATCH):
                if turn.stopped or leaving():
                    return None
                weights.compute(prompt[at : at + BATCH])
            spoken = time.perf_counter()
            speech = Speech(
                request._replace(tools=tools),
                model=request.model,
                prompt=prompt,
                cached=cached,
                mode=mode,
            )
            closers = closers_after(text) if mode == "prefilled" else ()
            count = self._write(turn, request, sampling, weights, sampler, speech, limit, closers)
        finally:
            sampler.close()
        if count is None:
            return None
        ended = time.perf_counter()
        self._speed = {
            "prompt_per_second": (len(prompt) - cached) / max(spoken - began, 1e-9),
            "tokens_per_second": count / max(ended - spoken, 1e-9),
        }
        return speech.reply().with_(enforced=_enforced(request, held))

    def _write(
        self,
        turn: _Turn,
        request: Request,
        sampling: Sampling,
        weights: Weights,
        sampler: Sampler,
        speech: Speech,
        limit: int,
        closers: Sequence[str],
    ) -> int | None:
        """Decodes until the reply ends. Returns its number of tokens, or None if the request was dropped. `closers` are
        the marks that end the reasoning opened by the template."""
        thinks = bool(closers)
        read = codecs.getincrementaldecoder("utf-8")("replace").decode
        thought = ""
        reason = "length"
        count = 0
        while count < limit:
            if turn.stopped or leaving():
                return None
            token = sampler.next(ruled=not thinks)
            entry = None
            if sampling.top_logprobs is not None:
                entry = self._entry(weights, token, sampling.top_logprobs)
                if not sampler.free:
                    entry["drawn"] = None  # what the grammar has left of the distribution is not computed
                elif sampling.tempered:
                    entry["drawn"] = weights.logprob_at(token, sampling.temperature)
            count += 1
            ends = weights.ends(token)
            last = ends or count == limit
            text = read(b"" if ends else weights.piece(token), last)
            deltas = speech.token(token, text, entry)
            if deltas and request.stream:
                turn.put(deltas)
            if ends or speech.stopped:
                reason = "stop"
                break
            if thinks:  # a grammar begins where the thinking that the template has opened ends
                thought = (thought + text)[-32:]
                thinks = not any(closer in thought for closer in closers)
            if not last:
                weights.compute((token,))
        deltas = speech.finish(reason)
        if deltas and request.stream:
            turn.put(deltas)
        return count

    def _limit(self, weights: Weights, size: int, wanted: int | None) -> int:
        """How many tokens the reply may have."""
        left = weights.room - size
        if left < 1:
            raise ContextLengthError(
                f"{self.path.name} reads {weights.room} tokens at once; the request has {size}",
                hint="Shorten the prompt, or load the model with a larger context.",
            )
        return left if wanted is None else min(wanted, left)

    @staticmethod
    def _entry(weights: Weights, token: int, top: int) -> dict[str, Any]:
        """One entry of `Reply.logprobs`."""
        logprobs, best = weights.logprobs(top)

        def one(ident: int) -> dict[str, Any]:
            text = weights.piece(ident).decode("utf-8", "replace")
            return {"token": text, "logprob": float(logprobs[ident]), "id": ident}

        return {**one(token), "top": [one(ident) for ident in best]}

    def _loaded(self) -> Weights:
        if self._weights is None:
            self._weights = Weights(self.path, self.options)
        return self._weights

    def _free(self, done: Future[None]) -> None:
        try:
            if self._weights is not None:
                self._weights.close()
                self._weights = None
        finally:
            done.set_result(None)

    # --- the thread

    def _start(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, self._jobs.put, None)
        self._end.atexit = False

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=_serve, args=(self._jobs,), name=f"llama-{self.path.stem}", daemon=True
                )
                thread.start()  # if it fails, the next job tries again
                self._thread = thread
        self._jobs.put(job)

    def _ask(self, question: Callable[[Weights], T]) -> T:
        """What the engine's thread answers."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(question(self._loaded()))
            except Exception as error:
                future.set_exception(error)

        self._submit(job)
        return future.result()

    def forget(self) -> bool:
        """In a forked child: the parent's thread is not here and may have been in the middle of a token. The child loads a
        model of its own, and can take that down."""
        if self._weights is not None:
            keep(self._weights)
            keep(self._weights.llama)
        self._weights = None
        self._end.detach()
        self._turns = set()
        self._start()
        return False

    def leave(self) -> None:
        """Frees the model: the library's own clean-up would complain."""
        if self._weights is not None:
            self._weights.close()
            self._weights = None


class _Turn:
    """What the engine's thread has for one request, on its way to the request's loop: pieces, the reply or an error."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Delta] | Reply | Exception] = asyncio.Queue()
        self.stopped = False
        """Whether nobody wants more."""

    def ready(self) -> list[Delta] | Reply | Exception | None:
        """What has come already."""
        return None if self._queue.empty() else self._queue.get_nowait()

    async def get(self) -> list[Delta] | Reply | Exception:
        return await self._queue.get()

    def put(self, item: list[Delta] | Reply | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            self.stopped = True  # the loop is closed: nobody waits any more


def _serve(jobs: queue.SimpleQueue[_Job | None]) -> None:
    # it holds the queue and not the engine, which may be collected meanwhile
    while (job := jobs.get()) is not None:
        with inside():
            if not leaving():
                job()
        del job


def _enforced(request: Request, held: Rules | None) -> str | None:
    if request.format is None:
        return None
    return "validation" if held is None else held.enforced
