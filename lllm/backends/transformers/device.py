"""The device and the number type that a model is loaded with."""

from __future__ import annotations

from typing import Any, Final

DTYPES: Final = ("auto", "bfloat16", "float16", "float32")


def dtype_of(wanted: str, device: str, *, config: str | None) -> str:
    """The name of the torch dtype to load with.

    `auto` is bfloat16 on CUDA (float16 where the GPU has none), float16 on an Apple GPU, and float32 on the CPU, where half
    precision is mostly slower; only a model that was published in bfloat16 stays so there, at half the memory. Every other name
    is taken as it is.

    Args:
        wanted: one of `DTYPES`.
        device: what `lllm.backends.devices.resolve` gave.
        config: the dtype that the model's config names, or None.
    """
    if wanted != "auto":
        return wanted
    kind = device.partition(":")[0]
    if kind == "cuda":
        return "bfloat16" if _bfloat16() else "float16"
    if kind == "mps":
        return "float16"
    return "bfloat16" if config == "bfloat16" else "float32"


def _bfloat16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def synchronise(device: str) -> None:
    """Waits until the device has done what it was given: before a clock is read."""
    torch: Any = __import__("torch")
    kind = device.partition(":")[0]
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
