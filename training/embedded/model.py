"""A small Llama in plain torch, with the weight layout that GGUF's `llama` architecture has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. Every row length is a multiple of 32, as Q8_0 wants it."""

    vocabulary: int = 1024
    width: int = 256
    layers: int = 4
    heads: int = 8
    hidden: int = 704
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5


def rotation(shape: Shape) -> Tensor:
    """Rotary angles as (context, head/2, 2) cosines and sines."""
    half = shape.width // shape.heads // 2
    angles = torch.outer(torch.arange(shape.context), shape.rope_base ** (-torch.arange(half) / half))
    return torch.stack((angles.cos(), angles.sin()), -1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate adjacent pairs of x (batch, time, heads, size)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = turns[:, None, :, 0], turns[:, None, :, 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward, each with its own norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_v = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        y = self.attn_norm(x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)) for layer in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, turns), rotate(k, turns)
        q, k, v = (part.transpose(1, 2).float() for part in (q, k, v))
        with torch.autocast(x.device.type, enabled=False):  # the CPU's fused attention is faster in float32
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).flatten(-2))
        y = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Model(nn.Module):
    """Token ids (batch, time) to logits. The embedding is also the output matrix.

    Parameter names are GGUF's, with `.` for the layer index, so conversion is a plain copy.
    """

    turns: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.register_buffer("turns", rotation(shape), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * shape.layers) ** 0.5 if deep else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_embd(ids)
        turns = self.turns[: ids.shape[1]]
        for block in self.blk:
            x = block(x, turns)
        return functional.linear(self.output_norm(x), self.token_embd.weight)
