"""The folder of a training: what goes on finds its own rollouts, what starts from scratch finds none; one process at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lllm import GRPO, RLEnv, tool
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl.trainers.folder import alone, last_checkpoint, name_of, write_name
from lllm.rl.trainers.models import open_model
from tests.rl.test_grpo import ROWS, right, training

SMALL: dict[str, Any] = {
    "num_generations": 2,
    "per_device_train_batch_size": 2,
    "max_completion_length": 24,
    "force": True,
}


def asked(made: Any) -> list[Any]:
    """What the policy of a training is asked, as it is trained."""
    found: list[Any] = []
    backend = made.policy_backend
    stream = backend.stream

    def counted(request: Any) -> Any:
        found.append(request)
        return stream(request)

    backend.stream = counted
    return found


def test_a_training_from_scratch_takes_no_rollouts_of_an_older_one(tmp_path: Path) -> None:
    """Its tools are others by now, and a log does not know that."""
    store = MemoryLog()
    first = training(tmp_path, store=store, **SMALL)
    first.train()

    @tool
    def calculator(expression: str) -> str:
        """Calculates.

        Args:
            expression: arithmetic.
        """
        return "7777"

    again = training(tmp_path, store=store, **SMALL)
    again.env.tools = [calculator]
    again.train()
    assert first.run != again.run
    told = [message.text for one in again.trainer.last for message in one.rollout.messages]
    assert any("7777" in text for text in told)


def test_one_that_ended_before_its_first_checkpoint_goes_on_with_its_rollouts(tmp_path: Path) -> None:
    store = MemoryLog()
    first = training(tmp_path, store=store, **SMALL)
    first.train()  # no checkpoint: save_strategy is "no"
    again = training(tmp_path, store=store, **SMALL)
    requests = asked(again)
    again.train(resume_from_checkpoint=True)
    assert again.trainer.state.global_step == 1
    assert not requests
    assert [one.rows for one in again.trainer.last] == [one.rows for one in first.trainer.last]


def test_where_there_is_none_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no training in .* to go on with"):
        training(tmp_path, store="none", **SMALL).train(resume_from_checkpoint=True)
    assert name_of(tmp_path) is None
    write_name(tmp_path, "abc123")
    assert name_of(tmp_path) == "abc123"
    for damaged in ("", "[]", '{"name": 3}', json.dumps({"name": "../../x"})):
        (tmp_path / "training.json").write_text(damaged)
        assert name_of(tmp_path) is None


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    settings = {**SMALL, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    training(tmp_path, store="none", **settings).train()
    cut = tmp_path / "checkpoint-2"
    (cut / "trainer_state.json").unlink()
    (cut / "model.safetensors").write_bytes(b"")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    again = training(tmp_path, store="none", **settings)
    again.train(resume_from_checkpoint=True)
    assert again.trainer.state.global_step == 2
    assert [entry["step"] for entry in again.trainer.state.log_history if "reward" in entry] == [1, 2]


def test_one_that_is_at_its_end_does_no_step_more(tmp_path: Path) -> None:
    settings = {**SMALL, "save_strategy": "steps", "save_steps": 1}
    training(tmp_path, store="none", **settings).train()
    again = training(tmp_path, store="none", **settings)
    with pytest.raises(ConfigError, match="has done all of its 1 steps"):
        again.train(resume_from_checkpoint=True)
    assert not (tmp_path / "checkpoint-2").exists()


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    """Its rollouts would be missing, all of them."""
    model, tokenizer = open_model("embedded")
    tokenizer.chat_template = None
    made = RLEnv(ROWS, right) >> GRPO(model, tokenizer=tokenizer, output_dir=tmp_path, **SMALL)
    with pytest.raises(ConfigError, match="the model has no chat template"):
        made.train()


HOLD = """
import sys, time
from pathlib import Path
from lllm.rl.trainers.folder import alone
with alone(Path(sys.argv[1])):
    print("trains", flush=True)
    time.sleep(600)
"""


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    made = training(tmp_path, store="none", **SMALL)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "trains\n"
        with pytest.raises(ConfigError, match="another process trains in"):
            made.train()
        assert not (tmp_path / "training.json").exists()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with alone(tmp_path):  # one that has died holds nothing
        pass
