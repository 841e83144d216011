"""Tests with a tiny model whether the installed torch and transformers can decode a plain model in batches."""

from __future__ import annotations

from functools import cache

from lllm.backends.local.packages import open_library
from lllm.backends.transformers.loaded import Loaded


@cache
def batching() -> str:
    """Returns '' if they can, else the reason. Imports torch, which takes seconds.

    Raises DependencyError if one of them is not installed, LLMInitializationError if one cannot be imported.
    """
    for package in ("torch", "transformers"):
        open_library(package, package=package, extra="transformers", purpose="the transformers backend")
    from transformers import LlamaConfig, LlamaForCausalLM

    from lllm.backends.transformers.engine import fit

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    loaded = Loaded(
        model=model, tokenizer=None, device="cpu", why="", dtype="float32", context=64, eos=frozenset({2}),
        name="a plain model", seconds=0.0,
    )  # fmt: skip
    return fit(loaded)[1]
