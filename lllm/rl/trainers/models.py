"""Opening models for training."""

from __future__ import annotations

from typing import Any

from lllm.backends.embedded import WEIGHTS
from lllm.backends.transformers.load import load
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import ConfigError


def open_model(model: Any, tokenizer: Any = None) -> tuple[Any, Any]:
    """Returns a model in full precision whose weights can be trained, and its tokenizer.

    Args:
        model: a folder, a GGUF file, `embedded`, or a model of transformers, which needs its `tokenizer`.

    Raises LLMInitializationError, ConfigError.
    """
    if not isinstance(model, str):
        if not hasattr(model, "parameters"):
            if hasattr(model, "__fspath__"):
                return open_model(str(model), tokenizer)
            raise ConfigError(
                f"a {type(model).__name__} cannot be trained",
                hint="Give a folder, a GGUF file, 'embedded', or a model of transformers.",
            )
        if tokenizer is None:
            raise ConfigError("a model that is given as an object needs its tokenizer: tokenizer=...")
        if tokenizer.pad_token_id is None:  # as of a folder
            tokenizer.pad_token = tokenizer.eos_token
        return model.train(), tokenizer
    options: dict[str, Any] = {"dtype": "float32"}
    path = model.removeprefix("transformers/")
    if model == "embedded":
        path = str(WEIGHTS)
        options["chat_template"] = WEIGHTS.with_name("chat_template.jinja").read_text()
    loaded = load(path, LoadOptions.of(options))
    if path.endswith(".gguf"):
        _unpacked(loaded.model)
    return loaded.model.requires_grad_(True).train(), loaded.tokenizer


def _unpacked(model: Any) -> None:
    """Removes the mark of quantisation that transformers leaves on a model of a GGUF file, whose weights are unpacked."""
    model.is_quantized = False
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            setattr(model, name, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
