"""RLOO and PPO on GRPO's path, and trainers of TRL that were built already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from lllm import GRPO, PPO, RLOO, RLEnv
from lllm.errors import ConfigError, UnsupportedError
from lllm.rl.credit import Group, advantages_of
from tests.rl.test_grpo import ROWS, calculator, right

CONFIG: dict[str, Any] = {
    "max_steps": 1,
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 32,
    "temperature": 1.8,
    "learning_rate": 1e-3,
    "disable_tqdm": True,
}


def environment() -> RLEnv:
    return RLEnv(ROWS[:2], right, tools=[calculator], max_turns=3, name="division")


def test_rloo_is_grpo_without_scaling(tmp_path: Path) -> None:
    made = environment() >> RLOO("embedded", output_dir=tmp_path, store="none", force=True, **CONFIG)
    seen: list[Any] = []
    compute = made.trainer._compute_loss

    def spy(model: Any, inputs: Any) -> Any:
        seen.append(inputs["advantages"].clone())
        return compute(model, inputs)

    made.trainer._compute_loss = spy
    assert made.train().global_step == 1
    assert (made.trainer.scale_rewards, made.trainer.loss_type) == ("none", "dr_grpo")
    rewards = [float(one.rollout.reward or 0) for one in made.trainer.last]
    expected = []
    for start in (0, 4):
        group = rewards[start : start + 4]
        for place, own in enumerate(group):
            others = group[:place] + group[place + 1 :]
            expected.append((own - sum(others) / 3) * 3 / 4)  # RLOO's own advantage, times (G-1)/G
    (advantages,) = seen
    assert sorted(advantages.tolist()) == pytest.approx(sorted(expected), abs=1e-6)


def test_advantages_without_scaling_are_those_of_leaving_one_out() -> None:
    rewards = (0.0, 1.0, 0.5, None, 0.25)
    known = [one for one in rewards if one is not None]
    found = advantages_of([Group.of(rewards)], "none")
    for own, advantage in zip(rewards, found, strict=True):
        if own is None:
            assert advantage == 0.0
        else:
            left = (sum(known) - own) / (len(known) - 1)
            assert advantage * len(known) / (len(known) - 1) == pytest.approx(own - left)


def test_rloo_scales_no_rewards() -> None:
    with pytest.raises(ConfigError, match="was given scale_rewards='group'"):
        RLOO("embedded", scale_rewards="group")


def test_ppo_says_what_there_is_instead() -> None:
    with pytest.raises(UnsupportedError, match="PPO cannot be trained with: TRL removed it") as caught:
        _ = environment() >> PPO("some/folder")
    assert "GRPO('some/folder', num_iterations=2)" in str(caught.value.hint)


class Counting(TrainerCallback):  # type: ignore[misc]  # transformers has no types there
    steps = 0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1


def built(folder: Path, rewards: Any = right, prompts: Any = None, **more: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from lllm.rl.trainers.models import open_model

    model, tokenizer = open_model("embedded")
    config = {**CONFIG, "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", **more}
    asked = [[{"role": "user", "content": text}] for text in prompts or [row["prompt"] for row in ROWS[:2]]]
    return GRPOTrainer(
        model=model,
        args=GRPOConfig(output_dir=str(folder), seed=5, **config),
        reward_funcs=rewards,
        train_dataset=Dataset.from_dict({"prompt": asked}),
        processing_class=tokenizer,
        callbacks=[Counting()],
    )


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_a_built_trainer_is_taken_over_where_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOTrainer, RLOOTrainer

    monkeypatch.setattr(GRPOTrainer, "_send_telemetry", lambda self: None)
    trainer = built(tmp_path, epsilon=0.1)
    made = environment() >> trainer
    assert isinstance(made.spec, GRPO)
    assert made.parts[0] is trainer.model
    made.spec.store, made.spec.force = "none", True
    before = [part.detach().clone() for part in trainer.model.parameters()]
    assert made.train().global_step == 1
    args = made.trainer.args
    assert (args.epsilon, args.learning_rate, args.seed, args.output_dir) == (0.1, 1e-3, 5, str(tmp_path))
    (counting,) = [one for one in made.trainer.callback_handler.callbacks if isinstance(one, Counting)]
    assert counting.steps == 1
    assert len(made.trainer.last) == 8
    rewards = {one.rollout.reward for one in made.trainer.last}
    changed = any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert changed or len(rewards) == 1

    trainer.state.global_step = 3
    trainer.tools = [calculator]
    trainer.reward_func_names = ["other"]
    with pytest.raises(UnsupportedError) as caught:
        _ = environment() >> trainer
    for words in (
        "has trained 3 steps",
        "tools of its own",
        "rewards other are not the environment's, which are right",
    ):
        assert words in str(caught.value)
    mine = type("MineTrainer", (GRPOTrainer,), {})
    for kind, words in (
        (RLOOTrainer, "a built RLOOTrainer is not taken over: it has neither tools nor rollouts"),
        (mine, "a built MineTrainer is not taken over: only TRL's own GRPOTrainer is"),
    ):
        with pytest.raises(UnsupportedError, match=words):
            _ = environment() >> kind.__new__(kind)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_prompts_of_others_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import GRPOTrainer

    monkeypatch.setattr(GRPOTrainer, "_send_telemetry", lambda self: None)
    with pytest.raises(UnsupportedError, match="its dataset has prompts that are not the environment's"):
        _ = environment() >> built(tmp_path, prompts=["What else?"])
