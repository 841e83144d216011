"""Which device a local model runs on, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from lllm.errors import ConfigError, LLMInitializationError, nearest

KINDS: Final = ("auto", "cpu", "cuda", "mps")
_SPELLING: Final = re.compile(r"(auto|cpu|cuda|mps)(?::(\d+))?")


def checked(device: str | None) -> str:
    """`device` in lower case, None as auto. Raises ConfigError when it is not `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    Loads nothing: whether the device is there is `resolve`'s to say."""
    given = "auto" if device is None else str(device).strip().lower()
    found = _SPELLING.fullmatch(given)
    if found is None or (found[2] is not None and found[1] != "cuda"):
        close = nearest(given.partition(":")[0], KINDS)
        raise ConfigError(
            f"device is {device!r}; it is auto, cpu, cuda, cuda:N or mps",
            hint=f"Did you mean '{close}'?"
            if close
            else "Leave it out, or give 'auto', for the best one there is.",
        )
    return given


def torch_devices() -> Mapping[str, int]:
    """How many devices of each kind torch can use here; `cpu` is always 1."""
    import torch

    return {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }


def resolve(
    device: str | None = "auto", available: Callable[[], Mapping[str, int]] = torch_devices
) -> tuple[str, str]:
    """The device to use and the reason, in words.

    Args:
        device: `auto` (or None) takes cuda, then mps, then cpu. Any other is taken or refused, never replaced.
        available: gives how many devices of each kind there are. Called only where it matters, so that `cpu` needs no torch.

    Raises ConfigError for a word that is no device, LLMInitializationError for a device that is not here.
    """
    wanted = checked(device)
    if wanted == "cpu":
        return "cpu", "cpu was asked for"
    there = available()
    if wanted == "auto":
        if there.get("cuda"):
            return "cuda", "auto: a CUDA device is here"
        if there.get("mps"):
            return "mps", "auto: no CUDA device is here, an Apple GPU is"
        return "cpu", "auto: neither a CUDA device nor an Apple GPU is here"
    kind, _, index = wanted.partition(":")
    count = there.get(kind, 0)
    if not count:
        raise LLMInitializationError(
            f"device '{wanted}' was asked for and torch finds {_none(kind)} here; available: {_listed(there)}",
            hint="Give device='auto' or 'cpu', or install a torch built for that device.",
        )
    if index and int(index) >= count:
        raise LLMInitializationError(
            f"device '{wanted}' was asked for and there {'is' if count == 1 else 'are'} {count};"
            f" available: {_listed(there)}",
            hint=f"The indices are 0 to {count - 1}." if count > 1 else f"Type: device='{kind}:0'",
        )
    return wanted, f"{wanted} was asked for"


def _none(kind: str) -> str:
    return f"no {'CUDA device' if kind == 'cuda' else 'Apple GPU'}"


def _listed(there: Mapping[str, int]) -> str:
    words = [f"{kind}:{n}" for kind in ("cuda",) for n in range(there.get(kind, 0))]
    return ", ".join([*words, *(["mps"] if there.get("mps") else []), "cpu"])
