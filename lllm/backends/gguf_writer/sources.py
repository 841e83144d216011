"""A model that is to be written: opened from a folder, or given; adapters merged."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

from lllm.backends.local.packages import needed
from lllm.backends.transformers.load import ends_of, load
from lllm.backends.transformers.options import LoadOptions
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
    model = source if lora is None else _with_adapter(source, lora)
    model = _merged(model, keep=lora is None)
    return Source(model, tokenizer, ends_of(model, tokenizer, "the model"), None)


def _opened(path: Path, lora: str | Path | None) -> Source:
    path = path.expanduser()
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        if lora is not None:
            raise ConfigError(f"{path.name} is an adapter itself", hint="Give the folder of its base model.")
        path, lora = _base_of(path), path
    # bfloat16 would round what is added to the weights
    dtype = "float32" if lora is not None or path.suffix == ".gguf" else "auto"
    loaded = load(str(path), LoadOptions(device="cpu", dtype=dtype))
    if getattr(loaded.model.config, "quantization_config", None) is not None and path.suffix != ".gguf":
        raise ConfigError(
            f"{path.name} holds quantised weights, which cannot be written as GGUF",
            hint="Convert the folder that they were made of.",
        )
    model = loaded.model if lora is None else _merged(_with_adapter(loaded.model, lora), keep=False)
    return Source(model, loaded.tokenizer, loaded.eos, path.resolve().name.removesuffix(".gguf"))


def _base_of(adapter: Path) -> Path:
    named = json.loads((adapter / "adapter_config.json").read_text()).get("base_model_name_or_path")
    if named and (Path(named) / "config.json").is_file():
        return Path(named)
    raise ConfigError(
        f"{adapter.name} is an adapter, and its base model '{named}' is no folder here",
        hint=f"Name the base model: lllm models convert BASE OUT.gguf --lora {adapter.name}",
    )


def _with_adapter(model: Any, lora: str | Path) -> Any:
    needed("peft", "a LoRA adapter", extra="rl")
    from peft import PeftModel

    folder = Path(lora).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ConfigError(f"{folder.name} is no adapter: it has no adapter_config.json")
    return PeftModel.from_pretrained(model, str(folder))


def _merged(model: Any, *, keep: bool) -> Any:
    """The model without adapters. `keep`: the given one is left as it is."""
    if not hasattr(model, "merge_and_unload"):
        return model
    return (copy.deepcopy(model) if keep else model).merge_and_unload()
