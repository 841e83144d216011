"""A model that is to be written: opened from a folder, or given; adapters merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lllm.backends.gguf_writer.adapters import base_of, is_adapter, merged, with_adapter
from lllm.backends.transformers.load import ends_of, load
from lllm.backends.transformers.options import LoadOptions
from lllm.backends.transformers.weights_report import counted, named
from lllm.errors import ConfigError


class Source(NamedTuple):
    """A model without adapters, its tokenizer, the tokens that end its turns, and its name."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    name: str | None


def open_source(source: Any, tokenizer: Any = None, lora: str | Path | None = None) -> Source:
    """The model of a folder, a GGUF file, or an object of transformers or peft."""
    if isinstance(source, str | Path):
        if tokenizer is not None:
            raise ConfigError("a folder has its own tokenizer: leave tokenizer= out")
        return _opened(Path(source), lora)
    if not hasattr(source, "state_dict"):
        raise ConfigError(
            f"{type(source).__name__} cannot be written as GGUF",
            hint="Give a folder that save_pretrained wrote, or a model of transformers with its tokenizer.",
        )
    if tokenizer is None:
        raise ConfigError("a model that is given as an object needs its tokenizer: tokenizer=...")
    model = source if lora is None else with_adapter(source, lora)
    model = merged(model, keep=lora is None)
    return Source(model, tokenizer, ends_of(model, tokenizer, "the model"), None)


def _opened(path: Path, lora: str | Path | None) -> Source:
    path = path.expanduser()
    if is_adapter(path):
        if lora is not None:
            raise ConfigError(f"{path.name} is an adapter itself", hint="Give the folder of its base model.")
        path, lora = base_of(path), path
    # bfloat16 would round what is added to the weights
    dtype = "float32" if lora is not None or path.suffix == ".gguf" else "auto"
    loaded = load(str(path), LoadOptions(device="cpu", dtype=dtype))
    if getattr(loaded.model.config, "quantization_config", None) is not None and path.suffix != ".gguf":
        raise ConfigError(
            f"{path.name} holds quantised weights, which cannot be written as GGUF",
            hint="Convert the folder that they were made of.",
        )
    if loaded.unused and path.suffix != ".gguf":
        raise ConfigError(
            f"{path.name} holds {counted(loaded.unused)} that its config.json has no place for: {named(loaded.unused)}",
            hint="Correct its config.json: what would be written is a part of the model.",
        )
    model = loaded.model if lora is None else merged(with_adapter(loaded.model, lora), keep=False)
    return Source(model, loaded.tokenizer, loaded.eos, path.resolve().name.removesuffix(".gguf"))
