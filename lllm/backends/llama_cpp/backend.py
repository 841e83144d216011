"""GGUF files in this process: the front of the llama_cpp backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from lllm.backends.llama_cpp.body import check
from lllm.backends.llama_cpp.options import ENGINES, Options
from lllm.backends.llama_cpp.threads import Holder, register
from lllm.backends.local.fast_path import report_loss
from lllm.errors import (
    DependencyError,
    LLMInitializationError,
    OutOfMemory,
    ProviderError,
    ProviderTimeout,
    nearest,
)
from lllm.hints import install_hint
from lllm.http.watch import Expired, Watch
from lllm.ports import Capabilities, Delta, Request
from lllm.sync import in_thread

_CLASSES: Final = {
    "xllamacpp": "lllm.backends.llama_cpp.server:ServerEngine",
    "llama-cpp-python": "lllm.backends.llama_cpp.tokens:TokenEngine",
}
_EXTRAS: Final = {"xllamacpp": "local", "llama-cpp-python": "llama-cpp"}
_SLOWER: Final = {"xllamacpp": "", "llama-cpp-python": ", one request after another"}


class Engine(Protocol):
    """One loaded file. `Engine(path, options)` loads it, blocking; raises DependencyError and LLMInitializationError."""

    capabilities: Capabilities

    def stream(self, request: Request) -> AsyncIterator[Delta]: ...

    def embed(self, texts: Sequence[str]) -> list[list[float]]: ...

    def tokenize(self, text: str) -> list[int]: ...

    def prompt_size(self, request: Request) -> tuple[int, int]: ...

    def info(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class LlamaCppBackend(Holder):
    """A `lllm.ports.Backend` for GGUF files: `llama_cpp/PATH`, relative to the current folder, absolute, or under `~`.

    The first request for a file loads it, once, whoever else asks meanwhile. Options as in
    `lllm.backends.llama_cpp.options.Options`; raises UnknownKeyError and ConfigError where they make no sense, before
    anything is imported. Without the package of `engine` the other one is used, and `info` says which: both are missing
    when DependencyError is raised.

    Sampling keys: see `lllm.backends.llama_cpp.body.SAMPLING`; `top_k` and the others that a request leaves out are as
    llama.cpp has them (temperature 0.8, top_k 40, top_p 0.95, min_p 0.05).
    """

    name = "llama_cpp"
    needs_model = True
    capabilities = Capabilities(
        tools=True, grammar=True, logprobs=True, token_ids=True, seed=True, local=True
    )

    def __init__(self, **options: Any) -> None:
        self.options = Options.of(options)
        self._engines: dict[tuple[str, bool], Any] = {}
        self._loading: dict[tuple[str, bool], threading.Lock] = {}
        self._lock = threading.Lock()
        register(self)

    def load(self, model: str, *, embedding: bool | None = None) -> Any:
        """The engine of a file, loaded once however many ask. Blocks.

        Raises LLMInitializationError for a file that is missing or no GGUF, DependencyError without any engine.
        """
        options = self.options if embedding is None else self.options._replace(embedding=embedding)
        key = (model, options.embedding)
        with self._lock:
            turn = self._loading.setdefault(key, threading.Lock())
        with turn:
            engine = self._engines.get(key)
            if engine is None or not getattr(engine, "alive", True):
                engine = self._engines[key] = self._open(model, options)
            return engine

    def _open(self, model: str, options: Options) -> Any:
        name = _engine(options.engine, Path(model).name)
        module, _, attribute = _CLASSES[name].partition(":")
        made: Any = getattr(import_module(module), attribute)
        return made(found(model), options)

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """See `lllm.ports.Backend`."""
        engine = self._engines.get((request.model, self.options.embedding))
        if engine is not None and getattr(engine, "alive", True):
            return engine.stream(request)  # type: ignore[no-any-return]
        return _Opening(self, request)

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`. Reports options that no engine has, and a missing file."""
        check(request, Path(request.model).name)
        found(request.model)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector per text: the mean of the last layer's states over its tokens, not normalised. The file is loaded a second
        time for it. Raises UnsupportedError for a model that has no embeddings, and what `load` raises."""
        engine = await in_thread(self.load, model, embedding=True)
        return await in_thread(engine.embed, list(texts))

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """See `lllm.ports.Tokenizer`."""
        tokens: Sequence[int] = self.load(model).tokenize(text)
        return tokens

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """See `lllm.ports.MeasuringBackend`."""
        size: tuple[int, int] = self.load(request.model).prompt_size(request)
        return size

    def info(self, model: str) -> dict[str, Any]:
        """What a file is, which engine it is loaded by and how; loads it where it is not. Blocks."""
        return self.load(model).info()  # type: ignore[no-any-return]

    def speed(self) -> dict[str, dict[str, float]]:
        """`prompt_per_second` and `tokens_per_second` of the latest reply, per file."""
        return {
            Path(model).name: engine.speed()
            for (model, _), engine in list(self._engines.items())
            if hasattr(engine, "speed")
        }

    async def aclose(self) -> None:
        """Frees the files. The next request loads its file again."""
        with self._lock:
            engines, self._engines = list(self._engines.values()), {}
        for engine in engines:
            await in_thread(engine.close)

    def forget(self) -> bool:
        """In a forked child: locks that the parent's threads hold are never given back."""
        self._lock, self._loading = threading.Lock(), {}
        return False


class _Opening:
    """A stream whose file is loaded first.

    A class and no generator: the loop closes every open generator by itself when it ends, an inner one beside the outer.
    """

    def __init__(self, backend: LlamaCppBackend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self._inner: Any = None

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        if self._inner is None:
            self._inner = (await self._load()).stream(self._request)
        delta: Delta = await anext(self._inner)
        return delta

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()

    async def _load(self) -> Any:
        request = self._request
        shown = Path(request.model).name
        check(request, shown)
        loop = asyncio.get_running_loop()
        began, limit = loop.time(), request.timeouts.total
        watch = Watch(request.timeouts, streaming=False)
        try:
            with watch:
                engine = await in_thread(self._backend.load, request.model)
        except OutOfMemory:
            raise
        except LLMInitializationError as error:
            raise ProviderError(error.message, hint=error.hint) from error
        except Expired as error:
            raise ProviderTimeout(
                f"{shown} was not loaded within {error.seconds:g} s", stage=error.stage, seconds=error.seconds
            ) from error
        if limit is not None:
            left = max(limit - (loop.time() - began), 1e-6)
            self._request = request._replace(timeouts=request.timeouts._replace(total=left))
        return engine


def found(model: str) -> Path:
    """The file that a model's name is the path of. LLMInitializationError for one that is missing or no GGUF."""
    path = Path(model).expanduser()
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*.gguf")) if path.parent.is_dir() else []
        inside = sorted(file.name for file in path.glob("*.gguf")) if path.is_dir() else []
        if inside:
            hint = f"It is a folder; name a file in it: {inside[0]}"
        elif beside:
            hint = f"In that folder: {nearest(path.name, beside) or beside[0]}"
        else:
            hint = "The model's name is the path of a .gguf file: llama_cpp/models/tiny.gguf"
        raise LLMInitializationError(f"there is no file {path.name}", hint=hint)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise LLMInitializationError(
                f"{path.name} is no GGUF file", hint="What a file is: lllm models show FILE"
            )
    return path


def _engine(wanted: str | None, shown: str) -> str:
    """The engine to use: the wanted one, or the other where its package is missing."""
    first = wanted or next(iter(ENGINES))
    for name in (first, *(other for other in ENGINES if other != first)):
        if find_spec(ENGINES[name]) is not None:
            if name != first:
                report_loss(
                    f"llama_cpp: {first} is not installed; {name} runs {shown}{_SLOWER[name]}. "
                    f"{install_hint(_EXTRAS[first])}"
                )
            return name
    raise DependencyError(first, _EXTRAS[first], f"the model {shown}")
