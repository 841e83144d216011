"""Samples of the benchmarks of rollouts and trainings: they run, and compare what they say."""

from __future__ import annotations

import pytest

from benchmarks.rl import WORDINGS, environment, right, rows
from benchmarks.rl_speed import calculator, compare


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # of TRL's own generation
def test_speed_is_measured_beside_trl() -> None:
    found = compare(1, 8, calculator, with_log=False)
    assert set(found) == {"TRL", "lllm, log off"}
    assert all(rate > 0 and cpu > 0 for rate, cpu in found.values())


def test_rows_that_are_held_out_are_no_training_rows() -> None:
    train, held_out = rows(480, "train"), rows(400, "held out")
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in held_out}
    assert len(train) // len(WORDINGS) == 96
    assert environment().check().ok
    assert right("The answer is 12.", "12")
    assert not right("12 or 13", "12")
