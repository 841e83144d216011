"""Hugging Face models in this process: the front of the transformers backend."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.backends.transformers.faults import fault
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import (
    ConfigError,
    LLMInitializationError,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.http.watch import Expired, Watch
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.sync import in_thread

if TYPE_CHECKING:
    from lllm.backends.transformers.engine import Engine
    from lllm.backends.transformers.row import Row

SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "token_ids",
    "tool_choice",
    "generate",
)
_ELSEWHERE: Final = ("max_completion_tokens", "reasoning_effort", "parallel_tool_calls")
_LATE: Final = {
    "first_token": "said nothing",
    "idle": "said nothing more",
    "total": "did not finish",
    "connect": "could not be reached",
}


class TransformersBackend:
    """A `lllm.ports.Backend` on torch: `transformers/PATH`, a folder with `config.json` or a `.gguf` file.

    Requests that come at the same time are decoded together, each with its own settings; what a request shares with an
    earlier one is not computed again (`Usage.cached`). A model whose cache is not plain (sliding windows, states) and a request
    with options for `generate` (`sampling={"generate": {"num_beams": 4}}`) go through the library's `generate`, one at a time.

    Each model is loaded at the first request for it, once, and decoded by a thread of its own. Nothing in here is for the CPU
    alone, but it was run on nothing else.

    Args:
        batch: the most requests of one model that are decoded together; more wait.
        prefix_tokens: tokens of earlier requests whose keys and values are kept, per model; None: eight contexts, at most
            1 GiB; 0: none.
        threads: CPU threads of torch, which are the whole process's; None: one for a model below 200 MB, else the physical
            cores.
        device, dtype, compile, and the rest: see `lllm.backends.transformers.options.LoadOptions`.

    Raises UnknownKeyError and ConfigError for options that make no sense. Sampling keys: see `SAMPLING`; where none says how a
    token is chosen, the model's generation config does.
    """

    name = "transformers"
    needs_model = True
    capabilities = Capabilities(
        tools=True, grammar=True, logprobs=True, token_ids=True, seed=True, local=True
    )

    def __init__(self, *, batch: int = 16, prefix_tokens: int | None = None, **options: Any) -> None:
        if type(batch) is not int or batch < 1:
            raise ConfigError(f"batch is {batch!r}; it is a whole number, 1 or more")
        if prefix_tokens is not None and (type(prefix_tokens) is not int or prefix_tokens < 0):
            raise ConfigError(f"prefix_tokens is {prefix_tokens!r}; it is a whole number, 0 or more")
        self.options = LoadOptions.of(options)
        self._batch, self._prefix_tokens = batch, prefix_tokens
        self._engines: dict[str, Engine] = {}
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        _alive.add(self)

    def load(self, model: str) -> Engine:
        """The model of this path, loaded once however many ask. Blocks.

        Raises LLMInitializationError, DependencyError and ConfigError.
        """
        path = str(Path(model).expanduser()) if model.startswith("~") else model
        with self._lock:
            turn = self._loading.setdefault(path, threading.Lock())
        with turn:
            engine = self._engines.get(path)
            if engine is None:
                from lllm.backends.local.packages import open_library

                for package in ("torch", "transformers"):
                    open_library(
                        package, package=package, extra="transformers", purpose="the transformers backend"
                    )
                from lllm.backends.transformers.engine import Engine

                engine = Engine(path, self.options, batch=self._batch, prefix_tokens=self._prefix_tokens)
                self._engines[path] = engine
            return engine

    async def _engine(self, model: str) -> Engine:
        engine = self._engines.get(model)
        return await in_thread(self.load, model) if engine is None else engine

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`."""
        _check(request.sampling)
        watch = Watch(request.timeouts, streaming=request.stream)
        row: Row | None = None
        try:
            with watch:
                engine = await self._engine(request.model)
            from lllm.backends.transformers.row import DONE, Mail

            mail = Mail()
            with watch:
                wanted = await engine.wanted(request, mail)
            row = wanted.row
            engine.submit(row)
            while (deltas := await mail.get(watch)) is not DONE:
                watch.first_piece(request.timeouts.idle)
                for delta in deltas:
                    yield delta
            tools = bool(request.tools) and request.sampling.get("tool_choice") != "none"
            reply = engine.reply(row, tools=tools)
        except (ConfigError, ProviderError):  # a missing package or an unknown key is a ValueError too
            raise
        except LLMInitializationError as error:
            raise ProviderError(error.message, hint=error.hint) from error
        except Expired as error:
            raise ProviderTimeout(
                f"{_shown(request.model)} {_LATE[error.stage]} within {error.seconds:g} s",
                stage=error.stage,
                seconds=error.seconds,
            ) from error
        except Exception as error:
            raise fault(error, _shown(request.model)) from error
        finally:
            if row is not None:
                row.cancelled = True
        yield Completed(reply.with_(enforced=wanted.enforced))

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`. Reports options that a local model does not have, and missing files."""
        from lllm.backends.transformers.source import Source

        _check(request.sampling)
        Source.find(request.model, self.options)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector per text: the mean of the last layer's states over its tokens. Raises what `load` raises."""
        engine = await self._engine(model)
        return await in_thread(engine.embed, list(texts))

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """See `lllm.ports.Tokenizer`."""
        tokens: list[int] = self.load(model).loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """See `lllm.ports.MeasuringBackend`."""
        from lllm.backends.transformers import template

        loaded = self.load(request.model).loaded
        tools = () if request.sampling.get("tool_choice") == "none" else request.tools
        return len(template.tokens(loaded, template.text(loaded, request.messages, tools))), loaded.context

    def info(self, model: str) -> dict[str, Any]:
        """What a model is and how it is decoded; loads it where it is not. Blocks."""
        return self.load(model).info()

    def speed(self) -> dict[str, dict[str, float]]:
        """What was decoded so far, per model that is loaded and decoded in batches."""
        return {
            _shown(path): engine.batcher.speed()
            for path, engine in list(self._engines.items())
            if engine.batcher is not None
        }

    async def aclose(self) -> None:
        """Frees the models. Replies that are under way fail; the next request loads its model again."""
        with self._lock:
            engines, self._engines = list(self._engines.values()), {}
        for engine in engines:
            await in_thread(engine.close)

    def _forget(self) -> None:
        """In a forked child: the threads that decode are not here. The models are, and are used again."""
        self._lock, self._loading = threading.Lock(), {}
        for engine in self._engines.values():
            engine.forget()


def _check(sampling: Mapping[str, Any]) -> None:
    for key in sampling:
        if key not in SAMPLING:
            if key in _ELSEWHERE:
                raise UnsupportedError(f"a model in this process has no '{key}'")
            raise UnknownKeyError(key, SAMPLING)


def _shown(path: str) -> str:
    # messages reach the log, so they name the file and not the folders of this machine
    return Path(path).name or path


def _after_fork() -> None:
    for backend in list(_alive):
        backend._forget()


_alive: weakref.WeakSet[TransformersBackend] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
