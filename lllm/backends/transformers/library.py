"""What differs between the releases of transformers that pyproject.toml allows; nothing else here depends on the release.

The installed library is asked what it takes, by its signatures: a fork, a development version and a model that brings its
own code answer for themselves, which a version number does not.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from lllm.backends.transformers.room import Room

CACHE: Final = ("cache", "past_key_values")
"""What `forward` calls its cache, the present name first: renamed in 5.24, model by model."""
_NEEDED: Final = ("input_ids", "attention_mask", "position_ids", "logits_to_keep")


def cache_parameter(model: Any) -> str | None:
    """The name of the parameter of `forward` that takes a cache; None for a model without one."""
    takes = inspect.signature(type(model).forward).parameters
    return next((name for name in CACHE if name in takes), None)


def missing_parameters(model: Any) -> list[str]:
    """The parameters of `forward` that decoding in a batch needs and this model does not take."""
    takes = inspect.signature(type(model).forward).parameters
    missing = [name for name in _NEEDED if name not in takes]
    return missing if cache_parameter(model) else [*missing, " or ".join(CACHE)]


class Step:
    """A model's forward pass on a cache of ours. Raises ValueError for a model whose `forward` takes no cache."""

    def __init__(self, model: Any) -> None:
        parameter = cache_parameter(model)
        if parameter is None:
            raise ValueError(f"{type(model).__name__}.forward takes no {' or '.join(CACHE)}")
        self._model, self._parameter = model, parameter

    def __call__(self, ids: torch.Tensor, room: Room, keep: torch.Tensor | int) -> torch.Tensor:
        """Logits, (rows, kept, vocabulary), of the next `ids` (rows, width), for which `room.begin(width)` was called.

        `keep` is as `logits_to_keep` of transformers: how many of the last positions, or which.
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
