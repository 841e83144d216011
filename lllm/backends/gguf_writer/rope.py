"""Rotary positions: as factors of the frequencies, which llama.cpp divides by."""

from __future__ import annotations

import math
from typing import Any, Final

from lllm.errors import ConfigError, listing

EXACT: Final = ("default", "linear", "llama3")
"""Kinds whose frequencies are the same at each position and length; the others change with the length, or scale attention."""


def rope_base(config: Any) -> float:
    """The base of the frequencies."""
    return float(_parameters(config).get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0)


def rope_factors(config: Any, head_size: int) -> Any:
    """Returns the divisor of each frequency, as float32 numbers; None where that is 1 for all. ConfigError for a kind of
    scaling that such factors cannot express."""
    import numpy as np

    given = _parameters(config)
    kind = str(given.get("rope_type") or "default")
    if kind not in EXACT:
        raise ConfigError(
            f"rotary positions of the kind '{kind}' cannot be written as GGUF exactly",
            hint=f"What can: {listing(EXACT)}. The folder itself runs with transformers/FOLDER.",
        )
    if float(given.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ConfigError("a model that rotates a part of each head cannot be written as a llama GGUF")
    if kind == "default":
        return None
    factor = float(given["factor"])
    if kind == "linear":
        return np.full(head_size // 2, factor, dtype=np.float32)
    low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
    original = float(given["original_max_position_embeddings"])
    base = rope_base(config)
    return np.array(
        [
            _llama3(2 * math.pi * base ** (2 * place / head_size), factor, low, high, original)
            for place in range(head_size // 2)
        ],
        dtype=np.float32,
    )


def _llama3(wavelength: float, factor: float, low: float, high: float, original: float) -> float:
    if wavelength < original / high:
        return 1.0
    if wavelength > original / low:
        return factor
    smooth = (original / wavelength - low) / (high - low)
    return 1.0 / ((1.0 - smooth) / factor + smooth)


def _parameters(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})
