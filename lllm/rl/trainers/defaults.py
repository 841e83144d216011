"""Settings of TRL's trainers where neither the user nor TRL's own default is right for a small model or a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

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


def settings(spec: TrainerSpec, config: type, model: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of TRL's config class: the user's over `defaults` over those above. UnknownKeyError for a name that the
    class does not have."""
    given = spec.checked({field.name for field in fields(config)})
    if "gradient_checkpointing" in given:  # its name until transformers 5.24
        given["activation_checkpointing"] = given.pop("gradient_checkpointing")
    on_cpu = next(model.parameters()).device.type == "cpu"
    values = {**DEFAULTS, **defaults, **(ON_CPU if on_cpu else {}), **given}
    values.setdefault("output_dir", spec.output_dir)
    values.setdefault("seed", spec.seed)
    values["remove_unused_columns"] = False
    return values


def lora_config(value: Any) -> Any:
    """A `peft.LoraConfig` from its arguments; anything else as it is."""
    if value is None or not isinstance(value, dict):
        return value
    from peft import LoraConfig

    return LoraConfig(**{"task_type": "CAUSAL_LM", **value})
