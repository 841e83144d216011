"""Linear layers whose weights are laid out for the CPU beforehand: the library lays them out again in every pass."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from lllm.backends.local.fast_path import report_loss
from lllm.errors import text_of

FEWEST: Final = 3
"""Tokens of a pass from which on this is quicker than the library's own product: twice as quick from 15 on."""
SIZES: Final = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Counts of tokens that products are made of, filled up where there are fewer: the library keeps code for each count that it
meets, half a megabyte per layer's shape."""
_CLOSE: Final = 1e-3
"""How far the two products may lie apart, beside the largest number."""


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Within this, the model's float32 layers on the CPU compute without gradients from copies of their weights. These must
    not change meanwhile; the copies are freed at the end. A layer that somebody else has changed stays as it is, and so does a
    model on a torch that lacks the parts, which is reported once."""
    layers = [layer for layer in model.modules() if _fits(layer)]
    try:
        if layers and torch.get_float32_matmul_precision() == "highest" and _works(layers[0]):
            for layer in layers:
                layer.forward = _forward(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # the class's own shows again


def _fits(layer: Any) -> bool:
    return (
        type(layer) is torch.nn.Linear
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
        and "forward" not in vars(layer)
    )


def _forward(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    plain, width, bias = layer.forward, layer.in_features, layer.bias
    product = torch.ops.mkldnn._linear_pointwise
    with torch.no_grad():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), 16)

    def some(given: torch.Tensor) -> torch.Tensor:
        """Of as many tokens as the largest of SIZES, or fewer."""
        count = given.shape[0]
        size = SIZES[bisect_left(SIZES, count)]
        if size != count:
            given = torch.nn.functional.pad(given, (0, 0, 0, size - count))
        out: torch.Tensor = product(given, weight, bias, "none", [], "")
        return out[:count]

    def forward(given: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        if given.numel() < width * FEWEST or given.dtype != torch.float32 or torch.is_grad_enabled():
            out = plain(given)
            return out
        tokens = given.reshape(-1, width)
        if tokens.shape[0] <= SIZES[-1]:
            out = some(tokens)
        else:
            out = torch.cat([some(piece) for piece in tokens.split(SIZES[-1])])
        return out.view(*given.shape[:-1], -1)

    return forward


def _works(layer: Any) -> bool:
    """Whether torch has the parts, tried on a layer."""
    try:
        with torch.no_grad():
            given = torch.linspace(-1, 1, 4 * layer.in_features).reshape(4, -1)
            wanted, got = layer(given), _forward(layer)(given)
            apart = (got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-9)
        reason = "" if apart <= _CLOSE else "a trial gave other numbers"
    except Exception as error:  # parts of torch that it may take away, and kinds of CPU that have none
        reason = f"a trial failed: {(text_of(error).strip() or type(error).__name__).splitlines()[0]}"
    if reason:
        report_loss(
            f"transformers: rollouts on the CPU are decoded slower, with torch's own products: {reason}"
        )
    return not reason
