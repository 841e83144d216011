"""Memory that runs out is one kind of error, whichever engine says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm.backends.llama_cpp import LlamaCppBackend
from lllm.backends.llama_cpp.faults import failed, not_loaded
from lllm.backends.llama_cpp.weights import Weights
from lllm.backends.local.memory import exhausted
from lllm.backends.transformers.faults import fault
from lllm.errors import LLMError, LLMInferenceError, LLMInitializationError, OutOfMemory, ProviderError
from tests.backends.helpers import ask, reply
from training.embedded.forms import Forms

FULL: list[BaseException] = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ValueError("ggml_aligned_malloc: failed to allocate 9 MB"),
    OSError(12, "Cannot allocate memory"),
    type("OutOfMemoryError", (RuntimeError,), {})("tried too much"),
]


@pytest.mark.parametrize("error", FULL)
def test_memory_ran_out(error: BaseException) -> None:
    assert exhausted(error)
    path = Path("/some/where/tiny.gguf")
    for made in (not_loaded(path, error), failed("tiny.gguf", error), fault(error, "tiny.gguf")):
        assert type(made) is OutOfMemory
        assert made.hint is not None
        assert "tiny.gguf" in made.message
        assert "/some/where" not in made.message


@pytest.mark.parametrize("error", [RuntimeError("broken"), OSError("no such file"), KeyError("memory")])
def test_something_else_went_wrong(error: BaseException) -> None:
    assert not exhausted(error)
    assert type(not_loaded(Path("tiny.gguf"), error)) is LLMInitializationError
    assert type(failed("tiny.gguf", error)) is ProviderError
    assert type(fault(error, "tiny.gguf")) is ProviderError


def test_it_is_caught_as_any_of_its_kinds() -> None:
    for kind in (LLMInitializationError, LLMInferenceError, ProviderError, MemoryError):
        assert issubclass(OutOfMemory, kind)
    error = OutOfMemory("tiny.gguf does not fit", hint="Use a smaller one.")
    assert (str(error), error.retryable) == ("tiny.gguf does not fit\n  Use a smaller one.", False)


def test_what_else_is_known_is_not_printed() -> None:
    error = LLMError("no")
    assert error.context == {}
    error.context = {"path": "tiny.gguf"}
    assert str(error) == "no"
    assert LLMError("no").context == {}


@pytest.mark.parametrize("stage", ["load", "reply"])
async def test_whoever_waits_gets_it(stage: str, forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError("no room")

    if stage == "load":
        monkeypatch.setattr("llama_cpp.Llama", full)
    else:
        monkeypatch.setattr(Weights, "compute", full)
    backend = LlamaCppBackend(engine="llama-cpp-python")
    try:
        with pytest.raises(OutOfMemory, match=r"embedded-q8_0\.gguf .*no room"):
            await reply(backend, ask(model=str(forms.gguf_q8)))
    finally:
        await backend.aclose()
