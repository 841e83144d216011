"""The embedded model: small, offline, on the CPU, in the package. See `weights/MODEL_CARD.md` for what it can do.

It runs as any GGUF file does, on llama.cpp (`xllamacpp`, else llama-cpp-python), else on transformers: greedy unless a
temperature is set, with a few slots that are decoded together and one thread: at this size more threads are slower.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lllm.backends.llama_cpp.backend import LlamaCppBackend, found
from lllm.backends.llama_cpp.body import SAMPLING as SAMPLING
from lllm.backends.llama_cpp.options import Options
from lllm.backends.local.fast_path import report_loss
from lllm.errors import DependencyError, LLMInitializationError
from lllm.hints import install_hint, other_model_hint, reinstall_hint
from lllm.ports import Capabilities, Completed, Delta, Request

WEIGHTS: Final = Path(__file__).parent / "weights" / "embedded-q8_0.gguf"
CONTEXT: Final = 1024
"""Tokens that the model was trained on at once: request and reply together."""
SLOTS: Final = 4
"""Requests that are decoded together; more wait."""
_DEFAULTS: Final[Mapping[str, Any]] = {"temperature": 0.0, "max_tokens": 256}


class EmbeddedBackend(LlamaCppBackend):
    """A `lllm.ports.Backend` on the weights that ship with the package.

    Args:
        path: another GGUF file of the same kind.
        slots: requests decoded together.
        engine: xllamacpp, llama-cpp-python or transformers; None takes the first that is installed, and `info` says which.

    The weights are loaded by the first request, once. Raises ConfigError for slots and engines that there are not; without
    any engine the first request raises DependencyError.
    """

    name = "embedded"
    only_model = "embedded"
    needs_model = False

    def __init__(
        self, path: str | Path | None = None, *, slots: int = SLOTS, engine: str | None = None
    ) -> None:
        self._torch = engine == "transformers"
        super().__init__(engine=None if self._torch else engine, context=CONTEXT, slots=slots, threads=1)
        self.path = Path(path) if path is not None else WEIGHTS
        self.slots = slots

    def load(self, model: str = only_model, *, embedding: bool | None = None) -> Any:
        """The engine, loaded once however many ask. Raises DependencyError and LLMInitializationError."""
        return super().load(self.only_model, embedding=embedding)

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """See `lllm.ports.Backend`. Greedy, and 256 tokens at most, where the request does not say otherwise."""
        sampling = {**_DEFAULTS, **request.sampling}
        return super().stream(request._replace(model=self.only_model, sampling=sampling))

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """See `lllm.ports.Tokenizer`."""
        return super().tokenize(self.only_model, text)

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """See `lllm.ports.MeasuringBackend`."""
        return super().prompt_size(request._replace(model=self.only_model))

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`."""
        super().check_request(request._replace(model=str(self.path)))

    def info(self, model: str = only_model) -> dict[str, Any]:
        """What the weights are, which engine they are loaded by and how; loads them where they are not. Blocks."""
        return super().info(self.only_model)

    def _open(self, model: str, options: Options) -> Any:
        if not self.path.is_file():
            # messages reach the log, so they name the file and not the folders of this machine
            raise LLMInitializationError(
                f"the embedded model's weights are missing: {self.path.name}",
                hint=None if self.path != WEIGHTS else reinstall_hint(),
            )
        if self._torch:
            return _OnTransformers(self.path)
        try:
            return super()._open(str(self.path), options)
        except DependencyError:
            try:
                engine = _OnTransformers(self.path)
                report_loss(
                    "embedded: no engine of llama.cpp is installed; torch runs the embedded model, which is slower. "
                    f"{install_hint('local')}"
                )
                return engine
            except DependencyError:
                error = DependencyError("xllamacpp", "local", "the embedded model")
                error.hint = f"{error.hint}\n  {other_model_hint()}"
                raise error from None


class _OnTransformers:
    """The weights, unpacked and computed by torch: slower, and the same words."""

    capabilities = Capabilities(
        tools=True, grammar=True, logprobs=True, token_ids=True, seed=True, local=True
    )

    def __init__(self, path: Path) -> None:
        from lllm.backends.transformers import TransformersBackend

        self._path = str(found(str(path)))
        template = path.with_name("chat_template.jinja")
        given: dict[str, Any] = {"chat_template": template.read_text()} if template.is_file() else {}
        self._backend = TransformersBackend(device="cpu", threads=1, **given)
        self._backend.load(self._path)

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        return _Named(self._backend.stream(request._replace(model=self._path)), request.model)

    async def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._backend.embed(self._path, texts)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        from lllm.sync import run

        return run(self._vectors(texts))

    def tokenize(self, text: str) -> Sequence[int]:
        return self._backend.tokenize(self._path, text)

    def prompt_size(self, request: Request) -> tuple[int, int]:
        return self._backend.prompt_size(request._replace(model=self._path))

    def info(self) -> dict[str, Any]:
        return {**self._backend.info(self._path), "engine": "transformers"}

    def close(self) -> None:
        from lllm.sync import run

        run(self._backend.aclose())


class _Named:
    """A stream whose reply names another model.

    A class and no generator: the loop closes every open generator by itself when it ends, an inner one beside the outer.
    """

    def __init__(self, inner: Any, model: str) -> None:
        self._inner = inner
        self._model = model

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        delta: Delta = await anext(self._inner)
        return Completed(delta.reply.with_(model=self._model)) if isinstance(delta, Completed) else delta

    async def aclose(self) -> None:
        await self._inner.aclose()
