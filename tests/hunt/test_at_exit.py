"""A program that ends in the middle of something ends without a word, and its log says what became of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lllm.log.sqlite import SQLiteLog

LEFT = """
import sys
from lllm import Agent, ScriptedBackend

agent = Agent("a", ScriptedBackend(["many words " * 50], chunk=3, delay=0.01))
pieces = agent.stream("one")
next(pieces)
if len(sys.argv) > 1:
    raise SystemExit(5)
"""


def left(folder: Path, *more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT, *more],
        capture_output=True, text=True, timeout=300, check=False, cwd=folder,
    )  # fmt: skip
    store = SQLiteLog(folder / ".lllm" / "sessions.db")
    (info,) = store.sessions()
    store.close()
    return done.returncode, done.stderr, info.status


def test_a_stream_that_is_not_read_to_its_end(tmp_path: Path) -> None:
    assert left(tmp_path) == (0, "", "cancelled")


def test_a_stream_that_sys_exit_leaves(tmp_path: Path) -> None:
    assert left(tmp_path, "exit") == (5, "", "cancelled")
