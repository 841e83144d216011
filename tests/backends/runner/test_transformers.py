"""TransformersRunner on real weights: R12, R16, R20, R21, R23, R37, R39."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion

from lllm import LLMInitializationError, LLMRunnerFactory, TransformersRunner
from lllm.errors import ConfigError
from tests.backends.helpers import gone

if TYPE_CHECKING:
    from training.embedded.forms import Forms

HELLO = "Hello, world!"


@pytest.fixture(scope="module")
def runner(forms: Forms) -> Iterator[Any]:
    settings = {"model_path": str(forms.folder), "device": "cpu", "temperature": 0, "n_threads": 1}
    with LLMRunnerFactory.create_runner(settings) as made:
        assert isinstance(made, TransformersRunner)
        yield made


def model_of(runner: Any) -> Any:
    """The module that answers."""
    (engine,) = runner._backend._engines.values()
    return engine.loaded.model


def test_generate_stream_and_stop(runner: TransformersRunner) -> None:
    """R12: the chat template is applied, text comes token by token, a stop string is not in it."""
    whole = runner.generate_text(HELLO)
    pieces = list(runner.generate_text_streaming(HELLO))
    assert "".join(pieces) == whole == "Hello! I can help with arithmetic."
    assert len(pieces) > 5
    assert runner.generate_text(HELLO, stop=" can") == "Hello! I"


def test_a_completion_that_is_cut(runner: TransformersRunner) -> None:
    """R16, R19."""
    body = runner.create_chat_completion([{"role": "user", "content": HELLO}], max_tokens=5)
    made = ChatCompletion.model_validate(body, strict=True)
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert made.usage.completion_tokens == 5


def test_parameters_and_bytes(runner: TransformersRunner) -> None:
    """R21."""
    usage = runner.get_memory_usage()
    assert usage["parameters"] == sum(part.numel() for part in model_of(runner).parameters())
    assert usage["weight_bytes"] == 4 * usage["parameters"]
    assert usage["process_bytes"] > usage["weight_bytes"]
    assert runner.get_model_info()["dtype"] == "float32"


def test_half_precision_and_back(runner: TransformersRunner) -> None:
    """R20, R37: the module that answers has other numbers, and its old ones afterwards, with the old answer."""
    import torch

    before = runner.generate_text(HELLO)
    first = weakref.ref(model_of(runner))
    runner.optimize_for_inference(dtype="bfloat16")
    assert model_of(runner).dtype is torch.bfloat16
    assert gone(first)
    assert runner.generate_text(HELLO)
    runner.restore()
    assert model_of(runner).dtype is torch.float32
    assert runner.generate_text(HELLO) == before


def test_a_failed_swap_leaves_the_old_module_answering(runner: TransformersRunner) -> None:
    """R23: also when a device is not there (R17)."""
    model = model_of(runner)
    with pytest.raises(LLMInitializationError, match="transformers: nowhere could not be loaded"):
        runner.reload_model({"backend": "transformers", "model_path": "nowhere"}, swap=True)
    with pytest.raises((LLMInitializationError, ConfigError), match="mps"):
        runner.set_device("mps")
    assert model_of(runner) is model
    assert runner.config.device == "cpu"
    assert runner.generate_text(HELLO, max_tokens=2)


def test_a_closed_runner_has_freed_its_module(forms: Forms) -> None:
    """R39: the same file as one GGUF, in a with block."""
    settings = {"model_path": str(forms.gguf_q8), "backend": "transformers", "n_threads": 1, "device": "cpu"}
    with LLMRunnerFactory.create_runner(settings) as made:
        assert made.generate_text(HELLO, max_tokens=2, temperature=0)
        model = weakref.ref(model_of(made))
    assert gone(model)


def test_a_message_in_full(tmp_path: Path) -> None:
    """R24, R34: file, backend, device, versions, and the cause."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    made = LLMRunnerFactory.create_runner(
        {"model_path": str(tmp_path / "tiny"), "backend": "transformers", "device": "cpu"}
    )
    with pytest.raises(LLMInitializationError) as caught:
        made.load()
    told = str(caught.value)
    assert told.startswith("transformers: tiny could not be loaded: ")
    assert all(
        part in told for part in ("backend transformers", "device cpu", "lllm ", "torch ", "transformers ")
    )
    assert str(tmp_path) not in told
    assert caught.value.__cause__ is not None
