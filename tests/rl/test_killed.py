"""A training whose process is killed in the middle of its rollouts, and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lllm.log.sqlite import SQLiteLog
from lllm.rl import Item, RLEnv
from lllm.rl.running import Task
from lllm.rl.trainers.rollouts import RecordedStep

PROGRAM = """
import sys
from pathlib import Path
from lllm.log.sqlite import SQLiteLog
from tests.rl.test_grpo import training

made = training(
    Path(sys.argv[1]) / "run", store=SQLiteLog(sys.argv[2]), max_steps=2, save_strategy="steps", save_steps=1,
    num_generations=4, per_device_train_batch_size=8, max_completion_length=24, concurrency=1,
)
made.train(**({"resume_from_checkpoint": True} if sys.argv[3] == "resume" else {}))
print(" ".join(one.rollout.session for one in made.trainer.last))
"""


def finished(database: Path) -> dict[str, list[bytes]]:
    """The rollouts of the second step that have ended."""
    if not database.exists():
        return {}
    store = SQLiteLog(database)
    try:
        bodies = {one.id: list(store.read(one.id)) for one in store.sessions() if "-step1-" in one.id}
        return {id: body for id, body in bodies.items() if body and b'"SessionEnded"' in body[-1]}
    finally:
        store.close()


def test_what_a_killed_training_has_finished_is_kept(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(database)]
    process = subprocess.Popen([*command, "begin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(finished(database)) < 3:
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it was killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = finished(database)
    assert len(kept) >= 3
    done = subprocess.run([*command, "resume"], capture_output=True, text=True, check=True)
    sessions = done.stdout.split()
    assert len(sessions) == 8
    after = finished(database)
    assert {id: after[id] for id in kept} == kept
    assert set(sessions) >= set(kept)


def test_a_scripted_policy_gives_equal_rows() -> None:
    from lllm import Agent, ScriptedBackend
    from lllm.log.memory import MemoryLog

    def reply(request: Any) -> Any:
        said = len(request.messages)
        seed = request.sampling["seed"]
        return {
            "content": f"{seed % 97}",
            "token_ids": [said, seed % 97],
            "prompt_token_ids": list(range(said)),
            "logprobs": [{"token": "x", "logprob": -1.0, "drawn": -0.5, "top": []}] * 2,
        }

    def rows() -> Any:
        env = RLEnv(
            [{"prompt": "x"}, {"prompt": "y"}],
            lambda completion: float(completion),
            step=lambda turns: "go on" if turns < 3 else None,
            seeds=True,
        )
        step = RecordedStep(env, env.policy(Agent("a", ScriptedBackend(reply), temperature=1.3)))
        tasks = [Task(Item(n, "x"), sample, 7 * sample + n) for n in range(2) for sample in range(3)]
        found = step.batch(tasks, store=MemoryLog())
        return [
            (one.rollout.reward, [(row.ids, row.mask, row.logprobs) for row in one.rows]) for one in found
        ]

    first = rows()
    assert first == rows()
    assert len({reward for reward, _ in first}) > 1
    assert all(own for _, own in first)
