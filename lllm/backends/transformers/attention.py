"""Attention of one new token per row on the CPU: plain products, a tenth faster per step there than the fused kernel."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME: Final = "lllm_rows"
"""The name under which transformers finds it."""
_EXTRAS: Final = ("softcap", "s_aux", "position_bias", "cache")


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """The library's `sdpa`, but for a step of several rows with an added mask.

    Shapes: query (rows, heads, width, size), key and value (rows, groups, columns, size); gives (rows, width, heads, size).
    """
    rows, heads, width, size = query.shape
    if (
        width != 1
        or rows == 1
        or attention_mask is None
        or not attention_mask.is_floating_point()
        or any(more.get(name) is not None for name in _EXTRAS)
    ):
        out: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return out
    groups = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    # heads that share keys and values are the rows of one product: nothing is repeated
    asked = (query * scale).reshape(rows, groups, heads // groups, size)
    scores = torch.matmul(asked, key.transpose(2, 3)) + attention_mask
    said = torch.matmul(torch.softmax(scores, -1), value)
    return said.reshape(rows, heads, 1, value.shape[-1]).transpose(1, 2), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
