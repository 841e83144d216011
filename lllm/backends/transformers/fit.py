"""A test of a model for decoding in batches of our own, done with the model itself."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from lllm.backends.local.fast_path import report_loss
from lllm.backends.transformers import attention as ours
from lllm.backends.transformers.fill import Fill, new_room
from lllm.backends.transformers.library import CACHE, Step, cache_parameter, missing_parameters
from lllm.backends.transformers.load import Loaded
from lllm.backends.transformers.room import Shape
from lllm.errors import text_of

_CLOSE = {"float32": 1e-3}
"""How far two ways to compute the same logits may lie apart, beside the largest; half precision is coarser."""


def fit(loaded: Loaded) -> tuple[list[Shape], str]:
    """The shape of each layer's keys and values, and '' for a model that our batches decode as `generate` does; else [] and
    the reason: such a model is decoded by `generate`, one request at a time."""
    model = loaded.model
    if model.config.is_encoder_decoder:
        return [], "it is an encoder and a decoder"
    if loaded.compiled == "on":
        return [], "it is compiled, and every new shape of a batch would be compiled anew"
    attention = getattr(model.config, "_attn_implementation", None)
    if attention == ours.NAME:  # another engine has it already
        attention = "sdpa"
    if attention not in ("sdpa", "eager"):
        return [], f"its attention is {attention}, not sdpa or eager"
    if missing := missing_parameters(model):
        return [], f"it takes no {', '.join(missing)}"
    if getattr(model.config, "alibi", False):
        return [], "its positions are a bias (ALiBi)"
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if kinds - {DynamicLayer}:
        names = sorted(kind.__name__ for kind in kinds - {DynamicLayer})
        return [], f"its cache has layers of the kind {', '.join(names)}"
    if attention == "sdpa" and loaded.device == "cpu" and loaded.dtype == "float32":
        model.set_attn_implementation(ours.NAME)
        shapes, reason = _trial(loaded)
        if not reason:
            return shapes, ""
        model.set_attn_implementation("sdpa")
        shapes, other = _trial(loaded)
        if not other:
            report_loss(f"transformers: {loaded.name} decodes batches a tenth slower, with sdpa: {reason}")
        return shapes, other
    return _trial(loaded)


def _trial(loaded: Loaded) -> tuple[list[Shape], str]:
    try:
        with torch.inference_mode():
            return _try(loaded)
    except Exception as error:
        told = (text_of(error).strip() or type(error).__name__).splitlines()[0]
        return [], f"a trial failed: {told}"


def _try(loaded: Loaded) -> tuple[list[Shape], str]:
    """Two texts of different length, and a token behind each, in a batch and alone."""
    model, size = loaded.model, loaded.model.get_input_embeddings().weight.shape[0]
    texts = [[(7 * place + 3) % size for place in range(length)] for length in (5, 3)]
    behind = 11 % size
    alone, shapes = [], []
    for text in texts:
        cache = DynamicCache(config=model.config)
        ids = torch.tensor([[*text, behind]], device=loaded.device)
        given = {cache_parameter(model) or CACHE[0]: cache}
        alone.append(model(input_ids=ids, use_cache=True, **given).logits[0, -2:])
        shapes = [_shape(layer) for layer in cache.layers]
    empty = new_room(loaded, shapes)
    for _ in texts:
        empty.add([], 0)
    step, fill = Step(model), Fill((), (), texts, empty)
    fill.advance(step, 64)
    room = new_room(loaded, shapes)
    for row, text in enumerate(texts):
        room.add([fill.room.row(row, len(text))], len(text))
    room.begin(1)
    after = step(torch.tensor([[behind]] * 2, device=loaded.device), room, 1)[:, -1]
    for row, wanted in enumerate(alone):
        apart = (torch.stack([fill.logits[row], after[row]]) - wanted).abs().max() / wanted.abs().max()
        if not apart <= _CLOSE.get(loaded.dtype, 0.1):
            return [], "a trial in a batch gave other numbers than alone"
    return shapes, ""


def _shape(layer: Any) -> Shape:
    return Shape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3])
