"""The transformers library under every name that its releases have for the same thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lllm.backends.transformers.fit import fit
from lllm.backends.transformers.library import CACHE, Step, cache_parameter, missing_parameters
from lllm.backends.transformers.load import Loaded


def model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


NATIVE = cache_parameter(model())
"""What the installed release calls it."""


def loaded(model: Any) -> Loaded:
    return Loaded(
        model=model, tokenizer=None, device="cpu", why="a test", dtype="float32", context=64,
        eos=frozenset({2}), name="tiny", seconds=0.0,
    )  # fmt: skip


def _cache(
    self: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    position_ids: Any = None,
    cache: Any = None,
    use_cache: Any = None,
    logits_to_keep: Any = 0,
) -> Any:
    return _forward(self, input_ids, attention_mask, position_ids, cache, use_cache, logits_to_keep)


def _past_key_values(
    self: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    position_ids: Any = None,
    past_key_values: Any = None,
    use_cache: Any = None,
    logits_to_keep: Any = 0,
) -> Any:
    return _forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep)


def _neither(
    self: Any, input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None, **more: Any
) -> Any:
    return LlamaForCausalLM.forward(self, input_ids, attention_mask, position_ids, **more)


def _forward(
    self: Any, ids: Any, mask: Any, positions: Any, cache: Any, use_cache: Any, keep: Any
) -> Any:  # the class's own name for it, whatever this release calls it
    given = {str(NATIVE): cache}
    return LlamaForCausalLM.forward(
        self, ids, mask, positions, use_cache=use_cache, logits_to_keep=keep, **given
    )


@pytest.mark.parametrize(("name", "forward"), [("cache", _cache), ("past_key_values", _past_key_values)])
def test_the_cache_is_passed_by_either_name(name: str, forward: Callable[..., Any]) -> None:
    tiny = model()
    tiny.__class__ = type("Renamed", (LlamaForCausalLM,), {"forward": forward})
    assert cache_parameter(tiny) == name
    assert missing_parameters(tiny) == []
    shapes, reason = fit(loaded(tiny))
    assert reason == ""
    assert len(shapes) == 2


def test_the_installed_release_decodes_a_plain_model_in_batches() -> None:
    assert fit(loaded(model()))[1] == ""


def test_a_forward_without_a_cache_says_what_it_lacks() -> None:
    tiny = model()
    tiny.__class__ = type("Plain", (LlamaForCausalLM,), {"forward": _neither})
    assert fit(loaded(tiny)) == ([], f"it takes no logits_to_keep, {' or '.join(CACHE)}")
    with pytest.raises(ValueError, match="forward has no parameter cache or past_key_values"):
        Step(tiny)
