"""The differences between supported releases of transformers; no other module depends on the release.

Features are detected from the signatures of the installed library: this also works for forks, development versions and
models with their own code, unlike a version number.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from lllm.backends.transformers.room import Room

CACHE: Final = ("cache", "past_key_values")
"""Names of the cache parameter of `forward`, current name first: renamed in 5.24, model by model."""
_NEEDED: Final = ("input_ids", "attention_mask", "position_ids", "logits_to_keep")


def cache_parameter(model: Any) -> str | None:
    """Name of `forward`'s cache parameter; None for a model without one."""
    takes = inspect.signature(type(model).forward).parameters
    return next((name for name in CACHE if name in takes), None)


def missing_parameters(model: Any) -> list[str]:
    """Parameters of `forward` that batched decoding needs and this model lacks."""
    takes = inspect.signature(type(model).forward).parameters
    missing = [name for name in _NEEDED if name not in takes]
    return missing if cache_parameter(model) else [*missing, " or ".join(CACHE)]


class Step:
    """A model's forward pass on our cache. Raises ValueError for a model whose `forward` takes no cache."""

    def __init__(self, model: Any) -> None:
        parameter = cache_parameter(model)
        if parameter is None:
            raise ValueError(f"{type(model).__name__}.forward has no parameter {' or '.join(CACHE)}")
        self._model, self._parameter = model, parameter

    def __call__(self, ids: torch.Tensor, room: Room, keep: torch.Tensor | int) -> torch.Tensor:
        """Returns logits (rows, kept, vocabulary) of the next `ids` (rows, width); call `room.begin(width)` before.

        `keep` is transformers' `logits_to_keep`: the number of last positions, or their indexes.
        """
        cache = {self._parameter: room}
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=room.mask,
            position_ids=room.positions,
            use_cache=True,
            logits_to_keep=keep,
            **cache,
        ).logits
        return logits
