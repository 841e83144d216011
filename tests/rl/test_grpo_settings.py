"""GRPO in its other settings: adapters, a reference model, several passes over a batch, and a training that is gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm.errors import ConfigError, UnsupportedError
from lllm.log.memory import MemoryLog
from lllm.rl import reward
from lllm.rl.rewards import rewards_of
from lllm.rl.trainers.signs import signs
from tests.rl.test_grpo import training

SMALL: dict[str, Any] = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 24}


def test_an_adapter_with_a_reference(tmp_path: Path) -> None:
    made = training(
        tmp_path,
        store="none",
        lora={"r": 4, "target_modules": ["q_proj", "v_proj"]},
        beta=0.04,
        **SMALL,
    )
    made.train()
    log = made.trainer.state.log_history[0]
    assert log["kl"] == pytest.approx(0, abs=1e-4)  # the first step begins at the reference
    assert log["sampling/drift_max"] < 1e-4
    assert (tmp_path / "adapter_model.safetensors").is_file()
    trainable = [name for name, part in made.trainer.model.named_parameters() if part.requires_grad]
    assert trainable
    assert all("lora" in name for name in trainable)


def test_several_passes_over_what_was_generated(tmp_path: Path) -> None:
    made = training(
        tmp_path,
        store="none",
        beta=0.04,
        num_iterations=2,
        steps_per_generation=2,
        max_steps=4,
        num_generations=2,
        per_device_train_batch_size=4,
        max_completion_length=24,
        learning_rate=2e-3,
    )
    versions: list[str] = []
    roll_out = made.trainer._rollouts

    def counted(inputs: Any, step: int) -> Any:
        versions.append(made.trainer.policy_backend.version)
        return roll_out(inputs, step)

    made.trainer._rollouts = counted
    made.train()
    assert [one.split("-")[0] for one in versions] == ["0"]  # one generation for four passes
    assert made.trainer.state.global_step == 4


def test_a_loss_that_is_a_mean_over_rows_is_refused_for_branches(tmp_path: Path) -> None:
    from dataclasses import replace

    made = training(tmp_path, store="none", loss_type="grpo", **SMALL)
    roll_out = made.trainer._rollouts

    def branched(inputs: Any, step: int) -> Any:
        return [replace(one, rows=one.rows * 2) for one in roll_out(inputs, step)]

    made.trainer._rollouts = branched
    with pytest.raises(UnsupportedError, match="a mean over rows"):
        made.train()


def test_a_training_is_gone_on_with(tmp_path: Path) -> None:
    """What was finished under the same version is taken from the log, and ends where an uninterrupted training does."""
    store = MemoryLog()
    settings: dict[str, Any] = {
        **SMALL,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "learning_rate": 1e-4,
    }
    whole = training(tmp_path / "run", store=store, **settings)
    whole.train()
    sessions = {id: list(store.read(id)) for id in store._sessions}
    asked: list[Any] = []
    again = training(tmp_path / "run", store=store, **settings)
    backend = again.trainer.policy_backend
    stream = backend.stream

    def counted(request: Any) -> Any:
        asked.append(request)
        return stream(request)

    backend.stream = counted
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert again.trainer.state.global_step == 2
    assert not asked
    assert {id: list(store.read(id)) for id in sessions} == sessions
    for one, other in zip(whole.trainer.last, again.trainer.last, strict=True):
        assert one.rows == other.rows
        assert one.rollout.reward == other.rollout.reward
    for a, b in zip(whole.parts[0].parameters(), again.parts[0].parameters(), strict=True):
        assert a.equal(b)


def history(**metrics: list[float]) -> list[dict[str, float]]:
    count = len(next(iter(metrics.values())))
    return [{"step": n, **{name: values[n] for name, values in metrics.items()}} for n in range(count)]


@reward(weight=1, name="right")
def right_one(completion: str) -> float:
    return 1.0


@reward(weight=0.1, name="short")
def short_one(completion: str) -> float:
    return 1.0


SIGNS: list[tuple[str, dict[str, list[float]]]] = [
    ("silent", {"frac_reward_zero_std": [0.9] * 10, "groups/solved": [7] * 10}),
    ("missing", {"rollouts/missing": [0.1] * 10}),
    ("cut", {"rollouts/cut": [0.7] * 10}),
    ("length", {"completions/mean_length": [10.0] * 10 + [40.0] * 10}),
    ("dominated", {"rewards/right/mean": [1.0] * 10, "rewards/short/mean": [0.1] * 10}),
    ("drift", {"sampling/drift_mean": [0.1] * 10}),
]


@pytest.mark.parametrize(("name", "metrics"), SIGNS)
def test_a_sign_is_seen_and_only_where_it_is(name: str, metrics: dict[str, list[float]]) -> None:
    rewards = rewards_of([right_one, short_one])
    assert list(signs(history(**metrics), rewards)) == [name]
    calm = {
        "frac_reward_zero_std": [0.3] * 20,
        "rollouts/missing": [0.0] * 20,
        "rollouts/cut": [0.1] * 20,
        "completions/mean_length": [30.0] * 20,
        "rewards/right/mean": [0.5] * 20,
        "rewards/short/mean": [0.9] * 20,
        "sampling/drift_mean": [1e-6] * 20,
    }
    assert not signs(history(**calm), rewards)


def test_a_sign_warns_once_and_stops_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import TrainerControl, TrainerState

    from lllm.rl.trainers.signs import Watching

    rewards = rewards_of([right_one])
    state = TrainerState(global_step=9)
    for stop_on, stops in (((), False), (("missing",), True)):
        watching, control = Watching(rewards, stop_on), TrainerControl()
        state.log_history = history(**{"rollouts/missing": [0.5] * 10})
        caplog.clear()
        watching.on_log(None, state, control)
        watching.on_log(None, state, control)
        assert caplog.text.count("50% of the rollouts have no reward") == 1
        assert control.should_training_stop is stops
    with pytest.raises(ConfigError, match="stop_on has hack"):
        Watching(rewards, ["hack"])
