"""Which device is taken: a table of machines, and what is said where the wanted one is missing."""

from __future__ import annotations

import pytest

from lllm.backends import devices
from lllm.backends.transformers import device as numbers
from lllm.errors import ConfigError, LLMInitializationError

BARE = {"cpu": 1, "cuda": 0, "mps": 0}
ONE_GPU = {"cpu": 1, "cuda": 1, "mps": 0}
TWO_GPUS = {"cpu": 1, "cuda": 2, "mps": 0}
APPLE = {"cpu": 1, "cuda": 0, "mps": 1}


@pytest.mark.parametrize(
    ("asked", "machine", "taken", "reason"),
    [
        ("auto", BARE, "cpu", "neither"),
        (None, BARE, "cpu", "auto"),
        ("auto", ONE_GPU, "cuda", "a CUDA device is here"),
        ("auto", TWO_GPUS, "cuda", "a CUDA device is here"),
        ("auto", APPLE, "mps", "an Apple GPU is"),
        ("auto", {**ONE_GPU, "mps": 1}, "cuda", "a CUDA device is here"),
        ("cpu", ONE_GPU, "cpu", "asked for"),
        ("CUDA", ONE_GPU, "cuda", "asked for"),
        ("cuda:1", TWO_GPUS, "cuda:1", "asked for"),
        ("mps", APPLE, "mps", "asked for"),
    ],
)
def test_taken(asked: str | None, machine: dict[str, int], taken: str, reason: str) -> None:
    device, why = devices.resolve(asked, lambda: machine)
    assert device == taken
    assert reason in why


@pytest.mark.parametrize(
    ("asked", "machine", "said"),
    [
        ("cuda", BARE, "no CUDA device here; available: cpu"),
        ("cuda:0", APPLE, "no CUDA device here; available: mps, cpu"),
        ("mps", TWO_GPUS, "no Apple GPU here; available: cuda:0, cuda:1, cpu"),
        ("cuda:2", TWO_GPUS, "there are 2; available: cuda:0, cuda:1, cpu"),
        ("cuda:1", ONE_GPU, "there is 1; available: cuda:0, cpu"),
    ],
)
def test_a_missing_device_is_an_error_and_nothing_else_is_taken(
    asked: str, machine: dict[str, int], said: str
) -> None:
    with pytest.raises(LLMInitializationError) as caught:
        devices.resolve(asked, lambda: machine)
    assert said in caught.value.message
    assert f"'{asked}'" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("asked", "said"),
    [("gpu", "auto, cpu, cuda"), ("cuda:x", "'cuda'"), ("cpu:0", "'cpu'"), ("cdua", "'cuda'"), ("", "auto")],
)
def test_a_word_that_is_no_device(asked: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        devices.resolve(asked, lambda: pytest.fail("nobody needs to look"))
    assert said in str(caught.value)


def test_the_cpu_needs_no_look_at_the_machine() -> None:
    assert devices.resolve("cpu", lambda: pytest.fail("nobody needs to look"))[0] == "cpu"


def test_what_torch_finds_is_what_is_there() -> None:
    import torch

    there = devices.torch_devices()
    assert there["cpu"] == 1
    assert (there["cuda"] > 0) == torch.cuda.is_available()
    assert bool(there["mps"]) == torch.backends.mps.is_available()


@pytest.mark.parametrize(
    ("wanted", "device", "config", "bfloat16", "taken"),
    [
        ("auto", "cuda", None, True, "bfloat16"),
        ("auto", "cuda:1", "float32", True, "bfloat16"),
        ("auto", "cuda", "bfloat16", False, "float16"),
        ("auto", "mps", "bfloat16", True, "float16"),
        ("auto", "cpu", None, True, "float32"),
        ("auto", "cpu", "float16", True, "float32"),
        ("auto", "cpu", "bfloat16", True, "bfloat16"),
        ("float16", "cpu", "float32", True, "float16"),
        ("bfloat16", "mps", None, True, "bfloat16"),
        ("float32", "cuda", "bfloat16", True, "float32"),
    ],
)
def test_the_numbers_that_a_device_gets(
    wanted: str,
    device: str,
    config: str | None,
    bfloat16: bool,
    taken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numbers, "_bfloat16", lambda: bfloat16)
    assert numbers.dtype_of(wanted, device, config=config) == taken
