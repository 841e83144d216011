"""A reward that raises, and an environment that fails, are told by name while a training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import GRPO, RLEnv
from lllm.errors import ConfigError
from tests.rl.test_grpo import ROWS, right, training

SMALL: dict[str, Any] = {
    "max_steps": 2,
    "num_generations": 2,
    "per_device_train_batch_size": 2,
    "max_completion_length": 8,
    "force": True,
    "store": "none",
}


def test_a_reward_that_raises_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def clever(completion: str) -> float:
        raise ValueError("no such column")

    made = RLEnv(ROWS, [right, clever]) >> GRPO("embedded", output_dir=tmp_path, **SMALL)
    before = [part.detach().clone() for part in made.parts[0].parameters()]
    made.train()
    words = "'clever' is missing from 2 of 2 rollouts: ValueError: no such column"
    assert caplog.text.count(words) == 1
    assert all(a.equal(b) for a, b in zip(before, made.parts[0].parameters(), strict=True))
    assert made.trainer.state.log_history[0]["entropy"] == 0  # of no token


def test_an_environment_that_fails_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def setup() -> None:
        raise RuntimeError("no world")

    training(tmp_path, env={"setup": setup}, **SMALL).train()
    assert "'setup' is missing from 2 of 2 rollouts: setup raised RuntimeError: no world" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "yes", None])
def test_what_is_no_number_is_no_reward(value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It reaches no weight."""
    made = RLEnv(ROWS, lambda completion: value) >> GRPO("embedded", output_dir=tmp_path, **SMALL)
    made.train()
    assert all(bool(part.isfinite().all()) for part in made.parts[0].parameters())
    assert "is missing from 2 of 2 rollouts" in caplog.text


def test_what_a_library_says_of_settings_is_a_configuration_error(tmp_path: Path) -> None:
    for more, words in (
        ({"lora": {"r": -1}}, "should be a positive integer"),
        ({"lora": {"target_modules": ["nothing"]}}, "not found in the base model"),
        ({"lora": {"rank": 4}}, "unknown key 'rank'"),
        ({"report_to": "nowhere"}, "nowhere is not supported"),
    ):
        with pytest.raises(ConfigError, match=words):
            _ = training(tmp_path, **{**SMALL, **more}).trainer
