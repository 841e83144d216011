"""Settings of TRL's config classes that are refused: of a wrong type, or about parts that are not TRL's here (rollouts,
rewards, models). If they were accepted and ignored, the training would not be the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.rl.trainers.typed import hints_of, misfit

_ROLLOUTS: Final = (
    "Rollouts are agent calls, which sample from the model's own distribution at `temperature`."
)
_ENGINE: Final = "Rollouts run on lllm's own engine, side by side: `concurrency`."
_REWARDS: Final = (
    "Weights are the environment's: @reward(weight=...), or `weight` below `rewards` in its YAML file."
)
_SEEN: Final = "Rollouts are sessions (`lllm show`), and some of them are written to samples.md."
_MODEL: Final = "The model is opened by lllm, in full precision. Give one that you opened as an object, with its tokenizer."
_EVALUATE: Final = (
    "Try the model before and after: training.evaluate(rows), or `lllm rl run ENVIRONMENT --model ...`."
)
_TOKENS: Final = "Rows have their tokens, and the mask of what the model wrote."
_NOT_CUT: Final = "No row is cut: one that is longer than `max_length` is left out, and counted."

_EVERY: Final[Mapping[str, str]] = {
    # setting: what there is instead
    "model_init_kwargs": _MODEL,
    "trust_remote_code": _MODEL,
    "eval_strategy": _EVALUATE,
    "do_eval": _EVALUATE,
    "resume_from_checkpoint": "Go on with training.train(resume_from_checkpoint=True), or lllm train --resume.",
}
_GRPO: Final[Mapping[str, str]] = {
    **_EVERY,
    "top_p": _ROLLOUTS,
    "top_k": _ROLLOUTS,
    "min_p": _ROLLOUTS,
    "repetition_penalty": _ROLLOUTS,
    "generation_kwargs": _ROLLOUTS,
    "chat_template_kwargs": _ROLLOUTS,
    "use_vllm": _ENGINE,
    "cache_implementation": _ENGINE,
    "use_transformers_paged": _ENGINE,
    "use_transformers_continuous_batching": _ENGINE,
    "transformers_continuous_batching_config": _ENGINE,
    "reward_weights": _REWARDS,
    "multi_objective_aggregation": _REWARDS,
    "mask_truncated_completions": "Rollouts that ran into a limit are masked by the environment: RLEnv(..., cut='mask').",
    "max_tool_calling_iterations": "The environment has the limit: RLEnv(..., max_turns=4).",
    "sync_ref_model": "The reference is the model that the training began with.",
    "log_completions": _SEEN,
    "log_completions_hub_repo": _SEEN,
    "log_unique_prompts": _SEEN,
    "num_completions_to_print": _SEEN,
    "num_generations_eval": _EVALUATE,
}
_DATA: Final[Mapping[str, str]] = {**_EVERY, "truncation_mode": _NOT_CUT, "padding_free": "Rows are padded."}
UNUSED: Final[Mapping[str, Mapping[str, str]]] = {
    "grpo": _GRPO,
    "rloo": _GRPO,
    "sft": {
        **_DATA,
        "chat_template_path": _TOKENS,
        "dataset_text_field": _TOKENS,
        "dataset_kwargs": _TOKENS,
        "eos_token": _TOKENS,
        "assistant_only_loss": _TOKENS,
        "completion_only_loss": _TOKENS,
        "packing": "Rows are padded.",
        "eval_packing": _EVALUATE,
    },
    "dpo": _DATA,
    "kto": _EVERY,
}
"""By trainer: settings that have no effect, and what there is instead."""


_LEAST: Final[Mapping[str, float]] = {
    # setting: the least that it can be; 0: it is more
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "num_iterations": 1,
    "max_completion_length": 1,
    "max_length": 1,
    "save_total_limit": 1,
    "temperature": 0,
    "num_train_epochs": 0,
    "logging_steps": 0,
    "save_steps": 0,
}

_CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    # of the trainers with rollouts: TRL looks at them after its first
    "loss_type": ("dapo", "bnpo", "dr_grpo", "grpo", "cispo", "sapo", "vespo", "luspo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False),
}


def problem_of(kind: str, config: type, name: str, value: Any) -> ConfigError | None:
    """Returns the problem with a setting of a trainer: a wrong type, or that it has no effect. TRL's default values are never a
    problem."""
    if (wanted := misfit(hints_of(config).get(name), value)) is not None:
        return ConfigError(f"{name} is {value!r:.60}; it is {wanted}")
    if name == "max_steps" and value == 0:
        return ConfigError(
            "max_steps is 0, which trains nothing",
            hint="A number of steps; or -1, and num_train_epochs says how long it goes on.",
        )
    least = _LEAST.get(name)
    if least is not None and value is not None and (value < least or value == 0):
        return ConfigError(f"{name} is {value!r:.60}; it is {f'{least} or more' if least else 'more than 0'}")
    choices = _CHOICES.get(name, ()) if kind in ("grpo", "rloo") else ()
    if choices and value not in choices:
        return ConfigError(f"{name} is {value!r:.60}; it is one of {', '.join(map(str, choices))}")
    instead = UNUSED[kind].get(name)
    if instead is None or value == _default(config, name):
        return None
    return ConfigError(f"{name}={value!r:.60} has no effect in a training of lllm", hint=instead)


def _default(config: Any, name: str) -> Any:
    for one in fields(config):
        if one.name == name:
            return one.default if one.default_factory is MISSING else one.default_factory()
    return None
