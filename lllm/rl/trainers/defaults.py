"""Defaults for TRL's trainers that suit small models and CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import UnknownKeyError
from lllm.rl.trainers.unused import problem_of

if TYPE_CHECKING:
    from lllm.rl.trainers.spec import TrainerSpec

DEFAULTS: Final = {
    "learning_rate": 1e-5,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,  # the lines of `lllm.rl.trainers.progress` stand in its place
}
ON_CPU: Final = {
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "dataloader_pin_memory": False,
}
"""TRL's own defaults are for a GPU."""


_GRPO: Final = {
    "per_device_train_batch_size": 16,
    "num_generations": 8,
    "max_completion_length": 256,
}
_DATA: Final = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "max_length": None}
"""Rows are whole, and the model's context holds them."""
OF_KIND: Final[Mapping[str, Mapping[str, Any]]] = {
    "grpo": _GRPO,
    "rloo": _GRPO,
    "sft": _DATA,
    "dpo": _DATA,
    "kto": _DATA,
}
"""Where TRL's own default of a trainer is not right for a small model."""


def settings(spec: TrainerSpec, config: type, *, on_cpu: bool) -> dict[str, Any]:
    """The arguments of TRL's config class: the user's over those above. UnknownKeyError for a name that the class does not
    have, ConfigError for a value that is none, or that has no effect."""
    given = spec.checked({field.name for field in fields(config)})
    for name, value in given.items():
        if (problem := problem_of(spec.kind, config, name, value)) is not None:
            raise problem
    if "gradient_checkpointing" in given:  # its name until transformers 5.24
        given["activation_checkpointing"] = given.pop("gradient_checkpointing")
    values = {**DEFAULTS, **OF_KIND[spec.kind], **(ON_CPU if on_cpu else {}), **given}
    values.setdefault("output_dir", spec.output_dir)
    values.setdefault("seed", spec.seed)
    values["remove_unused_columns"] = False
    return values


def is_on_cpu(model: Any) -> bool:
    """Returns True if a model's weights are in the CPU's memory."""
    return bool(next(model.parameters()).device.type == "cpu")


def lora_config(value: Any) -> Any:
    """Returns a `peft.LoraConfig` made of its arguments; returns anything else unchanged. UnknownKeyError for one that it does
    not take."""
    if value is None or not isinstance(value, dict):
        return value
    from peft import LoraConfig

    known = [field.name for field in fields(LoraConfig) if field.init]
    for name in value:
        if name not in known:
            raise UnknownKeyError(name, known, where="lora")
    return LoraConfig(**{"task_type": "CAUSAL_LM", **value})
