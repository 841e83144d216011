"""Batches from the terminal: their program is named, and without it nothing is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lllm.log import SQLiteLog

PROGRAM = """
import os

from lllm import Agent, ScriptedBackend, step


def reply(request):
    words = request.messages[-1].text
    if words == "item 5" and not os.path.exists("alive"):
        os.kill(os.getpid(), 9)
    if words == "item 7":
        raise ValueError("seven")
    return words.upper()


def main():
    chain = step(str.strip) >> Agent("a", ScriptedBackend(reply))
    return chain.batch([f"item {n}" for n in range(8)], limit=2, name="things")


if __name__ == "__main__":
    main()
"""


def lllm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A batch whose process was killed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desk.py").write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    assert subprocess.run([sys.executable, "desk.py"], check=False, timeout=60).returncode == -9
    (tmp_path / "alive").touch()
    with SQLiteLog(".lllm/sessions.db") as store:
        return min((info.id for info in store.sessions()), key=len)


def status(batch: str) -> str:
    with SQLiteLog(".lllm/sessions.db") as store:
        return next(info.status for info in store.sessions(prefix=batch) if info.id == batch)


def test_a_batch_is_resumed_replayed_and_forked_with_its_program(batch: str) -> None:
    done = lllm("resume", "--entry", "desk:main")
    assert done.returncode == 0, done.stderr
    assert f"going on with {batch}\n" in done.stderr
    assert "Interrupted were also" not in done.stderr
    assert '"ITEM 5"' in done.stdout
    assert "item 7 failed in stage 1/2" in done.stdout
    assert "token" not in done.stdout
    assert "4 replies from the log" in done.stderr or "5 replies from the log" in done.stderr
    assert status(batch) == "done"
    assert lllm("replay", batch, "--entry", "desk:main").returncode == 0
    fork = lllm("fork", batch, "--entry", "desk:main", "--item", "1", "--at", "7", "--edit", "something else")
    assert fork.returncode == 0, fork.stderr
    assert '"something else"' in fork.stdout


@pytest.mark.parametrize("command", ["resume", "fork"])
def test_without_its_program_nothing_is_done(batch: str, command: str) -> None:
    done = lllm(command, batch)
    assert done.returncode != 0
    assert f"lllm {command} {batch} --entry MODULE:FUNCTION" in done.stderr
    assert status(batch) == "running"
    assert "its items were not replayed" in lllm("replay", batch).stderr
    wrong = lllm(command, batch, "--entry", "desk:mian")
    assert "Did you mean 'main'?" in wrong.stderr
    both = lllm(command, batch, "--entry", "desk:main", "--config", "x.yaml")
    assert both.returncode != 0


def test_what_to_type_names_the_program(batch: str) -> None:
    for given in ((), ("--entry", "desk:mian")):
        told = lllm("resume", batch, *given).stderr
        assert f"To resume it: lllm resume {batch} --entry MODULE:FUNCTION\n" in told


def test_panels_of_a_batch_count_its_items(batch: str) -> None:
    """The calls, and what they used, are in the sessions of the items."""
    done = lllm("resume", batch, "--entry", "desk:main", "--pretty")
    for shown in (done.stderr, lllm("show", batch, "--pretty").stdout):
        assert "8 items: 7 done, 1 failed. Each has a session of its own." in shown
        assert "0 agent calls" not in shown
