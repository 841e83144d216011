"""Settings that a training would not obey are refused, before anything is loaded: a wrong type, a value that is none, and what
is TRL's own way to sample or to score."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import trl

from lllm import DPO, GRPO, KTO, RLOO, SFT
from lllm.errors import ConfigError
from lllm.rl.trainers.defaults import settings
from lllm.rl.trainers.local import without_deprecations
from lllm.rl.trainers.unused import UNUSED

CONFIGS: dict[Any, Any] = {
    GRPO: trl.GRPOConfig,
    RLOO: trl.GRPOConfig,
    SFT: trl.SFTConfig,
    DPO: trl.DPOConfig,
    KTO: trl.KTOConfig,
}
WRONG: list[tuple[Any, str, Any, str]] = [
    (GRPO, "top_p", 0.9, "no effect"),
    (GRPO, "generation_kwargs", {"top_k": 3}, "no effect"),
    (GRPO, "mask_truncated_completions", True, "cut='mask'"),
    (GRPO, "reward_weights", [2.0], "weight"),
    (GRPO, "max_tool_calling_iterations", 2, "max_turns"),
    (GRPO, "multi_objective_aggregation", "normalize_then_sum", "no effect"),
    (GRPO, "use_vllm", True, "no effect"),
    (GRPO, "log_completions", True, "samples.md"),
    (GRPO, "eval_strategy", "steps", "evaluate"),
    (RLOO, "top_k", 5, "no effect"),
    (SFT, "assistant_only_loss", True, "no effect"),
    (SFT, "packing", True, "no effect"),
    (DPO, "truncation_mode", "keep_end", "No row is cut"),
    (KTO, "model_init_kwargs", {"dtype": "bfloat16"}, "opened by lllm"),
    (GRPO, "max_steps", 0, "trains nothing"),
    (GRPO, "max_steps", "ten", "it is a whole number"),
    (GRPO, "max_steps", 2.5, "it is a whole number"),
    (GRPO, "max_steps", True, "it is a whole number"),
    (GRPO, "learning_rate", "1e-5x", "it is a number"),
    (GRPO, "bf16", "yes", "true or false or null"),
    (GRPO, "report_to", 3, "null or text or a list"),
    (GRPO, "temperature", 0, "more than 0"),
    (GRPO, "max_completion_length", -3, "1 or more"),
    (GRPO, "per_device_train_batch_size", 0, "1 or more"),
    (GRPO, "loss_type", "foo", "dapo, bnpo, dr_grpo"),
    (GRPO, "importance_sampling_level", "turn", "token, sequence"),
    (GRPO, "scale_rewards", "groups", "group, batch, none"),
    (DPO, "beta", "strong", "it is a number"),
]


@pytest.mark.parametrize(("kind", "name", "value", "words"), WRONG)
def test_what_is_not_obeyed_is_refused(kind: Any, name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(kind("embedded", **{name: value}), CONFIGS[kind], on_cpu=True)
    assert name in caught.value.message
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_defaults_of_trl_are_none_of_them(kind: Any) -> None:
    names = {one.name for one in fields(CONFIGS[kind])}
    assert UNUSED[kind.kind].keys() <= names
    with without_deprecations():
        own = CONFIGS[kind](use_cpu=True, bf16=False)
    given = {name: getattr(own, name) for name in UNUSED[kind.kind]}
    given |= {"max_steps": -1, "learning_rate": 1, "report_to": ["tensorboard"], "warmup_steps": 0.5}
    assert settings(kind("embedded", **given), CONFIGS[kind], on_cpu=True)["learning_rate"] == 1


def test_one_sign_is_a_list_of_one() -> None:
    assert GRPO("embedded", stop_on="missing").stop_on == ("missing",)
