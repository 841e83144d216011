"""Adapters of peft, merged into the weights of their base model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

from lllm.backends.local.packages import needed
from lllm.core.visible import visible_line
from lllm.errors import ConfigError, text_of

CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")


def is_adapter(folder: Path) -> bool:
    """Tells a folder with an adapter from one with a model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(adapter: Path) -> Path:
    """The folder of the base model that an adapter names. ConfigError says what to type where there is none."""
    named = _config(adapter).get("base_model_name_or_path")
    if isinstance(named, str) and named and (Path(named) / "config.json").is_file():
        return Path(named)
    what = (
        f"its base model '{visible_line(named)}' is no folder here"
        if isinstance(named, str)
        else "names no base model"
    )
    raise ConfigError(
        f"{visible_line(adapter.name)} is an adapter, and {what}",
        hint=f"Name the base model: lllm models convert BASE OUT.gguf --lora {visible_line(str(adapter))}",
    )


def with_adapter(model: Any, adapter: str | Path) -> Any:
    """The model with an adapter. ConfigError for files that are none, or that do not fit the model."""
    folder = Path(adapter).expanduser()
    name = visible_line(folder.name)
    _config(folder)
    if not any((folder / one).is_file() for one in _WEIGHTS):
        raise ConfigError(f"the adapter {name} has no weights: none of {', '.join(_WEIGHTS)}")
    needed("peft", "a LoRA adapter", extra="rl")
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    try:
        found = PeftModel.from_pretrained(model, str(folder))
        written = set(load_peft_weights(str(folder), device="cpu"))
    except Exception as error:  # of peft, safetensors or torch: whatever the files have in them
        told = (text_of(error).strip() or type(error).__name__).splitlines()
        words = visible_line((told[1] if len(told) > 1 and told[0].endswith(":") else told[0]).strip())
        raise ConfigError(
            f"the adapter {name} cannot be put into the model ({type(error).__name__}): {words}",
            hint="Is this the model that it was trained on, and are its files whole?",
        ) from error
    if differing := sorted(written ^ set(get_peft_model_state_dict(found))):
        raise ConfigError(
            f"the adapter {name} does not have the tensors that its {CONFIG} says; the first one that differs is "
            f"{visible_line(differing[0])}",
            hint="Is this the model that it was trained on, and are its files whole?",
        )
    return found


def merged(model: Any, *, keep: bool) -> Any:
    """The model with its adapters merged into the weights. `keep`: the given one is left as it is. ConfigError for a kind of
    adapter that is no part of the weights."""
    if not hasattr(model, "peft_config"):
        return model
    if not hasattr(model, "merge_and_unload"):
        kinds = ", ".join(
            str(getattr(one.peft_type, "value", one.peft_type)) for one in model.peft_config.values()
        )
        raise ConfigError(
            f"an adapter of the kind {kinds} cannot be merged: it is no change of the weights",
            hint="LoRA adapters can. This one runs with peft alone.",
        )
    return (copy.deepcopy(model) if keep else model).merge_and_unload()


def _config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration."""
    path = folder / CONFIG
    name = visible_line(folder.name)
    if not path.is_file():
        raise ConfigError(f"{name} is no adapter: it has no {CONFIG}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{CONFIG} of the adapter {name} cannot be read: {visible_line(text_of(error))}"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"{CONFIG} of the adapter {name} is a {type(found).__name__}, and must be an object"
        )
    return found
