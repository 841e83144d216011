"""GRPO on rollouts: what reaches TRL's loss is what the policy read and wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lllm import GRPO, PPO, RLEnv, replay_session, tool
from lllm.errors import ConfigError, UnknownKeyError
from lllm.log.memory import MemoryLog
from lllm.rl.rows import recorded, rows_of

ROWS = [
    {"prompt": f"Divide {a * b} by {b}.", "answer": str(a)} for a, b in ((12, 7), (31, 3), (8, 9), (25, 4))
]


@tool
def calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.
    """
    left, _, right = expression.replace(" ", "").partition("/")
    return str(int(left) // int(right))


def right(completion: str, answer: str) -> bool:
    return f" {answer}." in completion


def training(folder: Path, **more: Any) -> Any:
    given = {"reference": lambda answer: f"It is {answer}.", **more.pop("env", {})}
    env = RLEnv(ROWS, right, tools=[calculator], max_turns=3, name="division", **given)
    config: dict[str, Any] = {
        "max_steps": 1,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 32,
        "temperature": 1.3,
        "learning_rate": 1e-3,
        "disable_tqdm": True,
    }
    return env >> GRPO("embedded", output_dir=folder, **{**config, **more})


def test_one_step_trains_on_rollouts(tmp_path: Path) -> None:
    store = MemoryLog()
    made = training(tmp_path, store=store, env={"step": None})
    before = [part.detach().clone() for part in made.parts[0].parameters()]
    consumed: list[tuple[list[int], list[int]]] = []
    compute = made.trainer._compute_loss

    def spy(model: Any, inputs: Any) -> Any:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        for row, own, loss in zip(ids, mask, inputs["tool_mask"], strict=True):
            written = [0] * int(inputs["prompt_mask"].size(1)) + loss.tolist()
            consumed.append(
                (row[own.bool()].tolist(), [w for w, m in zip(written, own.tolist(), strict=True) if m])
            )
        return compute(model, inputs)

    made.trainer._compute_loss = spy
    made.trainer.args.per_device_train_batch_size = 8
    result = made.train()
    assert result.global_step == 1
    rollouts = made.trainer.last
    assert len(rollouts) == 8
    assert len({one.rollout.session for one in rollouts}) == 8
    expected = []
    for one in rollouts:
        assert one.rollout.policy == made.trainer.policy_backend.version or one.rollout.policy.startswith(
            "0-"
        )
        segments = recorded(store, one.rollout.session or "").segments()
        (row,) = rows_of(segments, one.rollout.session)
        assert one.rows == (row,)
        assert replay_session(one.rollout.session or "", store=store).verified
        expected.append((list(row.ids), [*[0] * len(row.prompt), *row.mask]))
    assert sorted(consumed) == sorted(expected)
    rewards = [one.rollout.reward for one in rollouts]
    if len(set(rewards)) > 1:
        assert any(not torch.equal(a, b) for a, b in zip(before, made.parts[0].parameters(), strict=True))
    log = made.trainer.state.log_history[0]
    assert log["sampling/drift_max"] < 1e-4
    assert log["rollouts/missing"] == 0
    assert log["rows"] == 8


def test_equal_seeds_give_equal_rows(tmp_path: Path) -> None:
    def rows(seed: int) -> Any:
        made = training(tmp_path, store=MemoryLog(), seed=seed, max_steps=1)
        made.train()
        return [one.rows[0].ids for one in made.trainer.last]

    first = rows(3)
    assert first == rows(3)
    assert first != rows(4)


def test_what_is_missing_is_no_row_and_no_zero(tmp_path: Path) -> None:
    failing = iter(range(10_000))

    def setup() -> None:
        if next(failing) % 4 == 0:
            raise RuntimeError("lost")

    made = training(tmp_path, store="none", env={"setup": setup}, force=True)
    made.train()
    missing = [one for one in made.trainer.last if one.rollout.reward is None]
    assert len(missing) == 2
    assert all(not one.rows for one in missing)
    log = made.trainer.state.log_history[0]
    assert log["rollouts/missing"] == 0.25
    assert log["rollouts/open"] == 0
    assert log["rows"] == 6


def test_the_trained_model_answers_where_it_is_deployed(tmp_path: Path) -> None:
    from lllm import LLM

    made = training(tmp_path / "run", store="none")
    made.train()
    trained = made.evaluate(ROWS)
    deployed = made.env(LLM(f"transformers/{tmp_path / 'run'}"), temperature=0, store=MemoryLog())
    assert [one.completion for one in deployed] == [one.completion for one in trained]


def test_rewards_that_pay_for_something_else_are_refused(tmp_path: Path) -> None:
    env = RLEnv(ROWS, lambda completion: 1.0)
    made = env >> GRPO("embedded", output_dir=tmp_path, max_steps=1)
    with pytest.raises(ConfigError, match="pay for something else than the task") as caught:
        made.train()
    assert "force=True" in str(caught.value)
    assert (env >> GRPO("embedded", force=True)).checked() is None


def test_curves_and_a_card_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = training(tmp_path, store="none", report_to="tensorboard")
    made.train()
    out, err = capsys.readouterr()
    assert not out
    assert "step 1/1  reward " in err
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    samples = (tmp_path / "samples.md").read_text()
    assert "# Rollouts of the first batch" in samples
    assert "Divide " in samples
    assert "calculator(" in samples
    assert (tmp_path / "rewards.png").read_bytes().startswith(b"\x89PNG")
    card = (tmp_path / "README.md").read_text()
    for words in (
        "`embedded`",
        "`division`",
        "right (weight 1",
        "calculator",
        made.trainer.policy_backend.version,
    ):
        assert words in card


def test_the_control_shuffles_within_groups() -> None:
    from lllm.rl import Item, Rollout
    from lllm.rl.trainers.grpo import shuffled
    from lllm.rl.trainers.rollouts import Trained

    given = [Trained(Rollout(Item(n // 4, "x"), n % 4, reward=float(n)), ()) for n in range(8)]
    found = [one.rollout.reward for one in shuffled(given, 4, "seed")]
    assert found != [one.rollout.reward for one in given]
    assert sorted(found[:4]) == [0, 1, 2, 3]  # type: ignore[type-var]
    assert sorted(found[4:]) == [4, 5, 6, 7]  # type: ignore[type-var]
    with pytest.raises(ConfigError):
        GRPO("embedded", control="zero")


def test_a_slip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownKeyError, match="learning_rate"):
        _ = training(tmp_path, learnin_rate=1).trainer
    with pytest.raises(ConfigError, match="rewards and rollouts are the environment's"):
        _ = training(tmp_path, reward_funcs=[right]).trainer
    with pytest.raises(ConfigError, match="trains in an environment"):
        _ = "env" >> GRPO("embedded")
    with pytest.raises(ConfigError, match="the class PPO was given"):
        _ = RLEnv(ROWS, right) >> PPO
    with pytest.raises(ConfigError, match="cannot be followed by int"):
        _ = RLEnv(ROWS, right) >> 5


def test_nobody_is_told_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry

    told: list[Any] = []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: None)
    monkeypatch.setattr(_telemetry._TELEMETRY_QUEUE, "put", told.append)
    assert training(tmp_path, store="none").trainer is not None
    assert told == []


def test_the_trained_model_is_exported_as_gguf(tmp_path: Path) -> None:
    from lllm import LLM
    from lllm.backends.embedded import EmbeddedBackend

    made = training(tmp_path / "run", store="none")
    made.train()
    path = made.export_gguf(tmp_path / "trained.gguf", kind="F32")
    expected = [one.completion for one in made.evaluate(ROWS)]
    found = made.env(LLM(EmbeddedBackend(path)), temperature=0, max_tokens=48, store=MemoryLog())
    assert [one.completion for one in found] == expected
