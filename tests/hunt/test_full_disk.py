"""A disk without room: what was written can be read, and what cannot be written is one clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import os
from lllm import Agent, ScriptedBackend, record
from lllm.log import SQLiteLog
with record("x", store=SQLiteLog("log.db")):
    Agent("a", ScriptedBackend(["y"]))("z")
    if {killed}:
        os.kill(os.getpid(), 9)
"""

# No file may grow: writing fails as on a full disk.
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from lllm import Agent, LLMError, ScriptedBackend, record, replay_session
from lllm.log import SQLiteLog
store = SQLiteLog("log.db")
(info,) = store.sessions()
print(info.events, replay_session(info.id, store=store).verified)
try:
    with record("x", store=store):
        pass
except LLMError as error:
    print(type(error).__name__, "room" in str(error))
"""


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("killed", "events"), [(False, 7), (True, 6)], ids=["ended", "killed"])
def test_a_log_on_a_full_disk_is_read(killed: bool, events: int, tmp_path: Path) -> None:
    python(WRITE.format(killed=killed), tmp_path)
    (tmp_path / "log.db-shm").unlink(missing_ok=True)  # as after a restart of the machine
    assert (tmp_path / "log.db-wal").exists() is killed
    assert python(FULL, tmp_path).splitlines() == [f"{events} True", "LogWriteError True"]
