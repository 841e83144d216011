"""LlamaCppRunner on a real GGUF, on both engines: R11, R15, R16, R21, R23, R36, R39."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion

from lllm import LlamaCppRunner, LLMInitializationError, LLMRunnerFactory

if TYPE_CHECKING:
    from training.embedded.forms import Forms

HELLO = "Hello, world!"


@pytest.fixture(scope="module", params=["xllamacpp", "llama-cpp-python"])
def runner(request: pytest.FixtureRequest, forms: Forms) -> Iterator[Any]:
    settings = {
        "model_path": str(forms.gguf_q8), "engine": request.param, "temperature": 0, "n_ctx": 256, "n_threads": 1,
        "n_gpu_layers": 0, "seed": 7,
    }  # fmt: skip
    with LLMRunnerFactory.create_runner(settings) as made:
        assert isinstance(made, LlamaCppRunner)
        yield made


def test_generate_stream_and_stop(runner: LlamaCppRunner) -> None:
    """R11, R15."""
    whole = runner.generate_text(HELLO)
    pieces = list(runner.generate_text_streaming(HELLO))
    assert "".join(pieces) == whole == "Hello! I can help with arithmetic."
    assert len(pieces) > 5
    assert runner.generate_text(HELLO, stop=" can") == "Hello! I"


def test_options_reach_the_library(runner: LlamaCppRunner) -> None:
    """R11, R36: as the engine itself tells them; and how fast it was."""
    runner.run(HELLO, max_tokens=4)
    info = runner.get_model_info()
    assert (info["context"], info["threads"], info["gpu_layers"]) == (256, 1, 0)
    assert info["parameters"] == 3_475_712
    assert info["performance"]["tokens"] == 4
    assert info["performance"]["tokens_per_second"] > 0


def test_a_seed_is_used(runner: LlamaCppRunner) -> None:
    """R11: the same seed, the same reply; a seed of the call stands before that of the config."""

    def hot(**more: Any) -> str:
        return runner.generate_text(HELLO, temperature=2, max_tokens=12, top_p=1, top_k=0, min_p=0, **more)

    assert hot() == hot(seed=7)
    assert len({hot(seed=seed) for seed in range(4)}) > 1


def test_a_completion_that_is_cut(runner: LlamaCppRunner) -> None:
    """R16, R19."""
    body = runner.create_chat_completion([{"role": "user", "content": HELLO}], max_tokens=5)
    made = ChatCompletion.model_validate(body, strict=True)
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert made.usage.completion_tokens == 5


def test_memory(runner: LlamaCppRunner, forms: Forms) -> None:
    """R21."""
    usage = runner.get_memory_usage()
    assert (usage["parameters"], usage["weight_bytes"]) == (3_475_712, forms.gguf_q8.stat().st_size)


def test_embeddings(runner: LlamaCppRunner) -> None:
    one, two, again = runner.embed(["one", "two", "one"])
    assert len(one) == len(two) > 1
    assert one == pytest.approx(again, abs=1e-4)
    assert one != pytest.approx(two, abs=1e-4)


def test_a_failed_swap_leaves_the_old_weights_answering(runner: LlamaCppRunner) -> None:
    """R23, R24."""
    before = runner.generate_text(HELLO)
    with pytest.raises(LLMInitializationError, match=r"missing\.gguf") as caught:
        runner.reload_model({"model_path": "/no/where/missing.gguf", "backend": "llama_cpp"}, swap=True)
    assert "/no/where" not in str(caught.value)
    assert "backend llama_cpp" in str(caught.value)
    assert runner.generate_text(HELLO) == before


def test_a_chat_format_of_ones_own(runner: LlamaCppRunner, forms: Forms) -> None:
    """R11: a template in place of the file's, by name or in full: the same question has other tokens."""
    twice = "{% for m in messages %}{{ m['content'] }} {{ m['content'] }}{% endfor %}"
    settings = {
        "model_path": str(forms.gguf_q8),
        "engine": runner.config.engine,
        "n_threads": 1,
        "temperature": 0,
    }
    counts = []
    for template in (None, "chatml", twice):
        with LLMRunnerFactory.create_runner({**settings, "chat_format": template}) as made:
            usage = made.run(HELLO, max_tokens=3).usage
            assert usage is not None
            counts.append(usage.prompt)
    own, chatml, doubled = counts
    assert own == chatml != doubled


def test_a_closed_runner_has_freed_its_backend(forms: Forms) -> None:
    """R39."""
    with LLMRunnerFactory.create_runner(str(forms.gguf_q8), n_threads=1) as made:
        list(made.generate_text_streaming(HELLO, max_tokens=3))
        freed = threading.Event()
        weakref.finalize(made._backend, freed.set)  # type: ignore[attr-defined]
    for _ in range(2400):
        gc.collect()
        if freed.wait(0.05):
            break
    assert freed.is_set()
