"""Whatever the command line was started with: closed streams, a reader that leaves, a folder that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lllm.cli import app

LLLM = f"{sys.executable} -m lllm"


def shell(line: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "LLLM_LOG_DIR": str(folder / "log")},
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_nothing_to_fail_for(closed: str, tmp_path: Path) -> None:
    assert shell(f"{LLLM} list backends {closed}", tmp_path) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_with_a_closed_stream_runs(closed: str, tmp_path: Path) -> None:
    environment = "LLLM_MODEL=embedded"
    assert shell(f"{environment} {LLLM} run 'What is 17 times 23?' {closed}", tmp_path) == (0, "")
    code, said = shell(f"{environment} {LLLM} replay --last", tmp_path)
    assert code == 0, said


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("words", ["--version", "--help", "list backends", "doctor", "schema"])
def test_a_reader_may_leave(words: str, tmp_path: Path) -> None:
    # `true` reads nothing; by the time that the first word is printed it is gone
    assert shell(f"(sleep 0.1; {LLLM} {words}) | true; exit ${{PIPESTATUS[0]}}", tmp_path) == (0, "")


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    code, said = shell(f"mkdir gone && cd gone && rmdir ../gone && {LLLM} list backends", tmp_path)
    assert code == 2
    assert said == "error: the folder that you are in has been deleted. Type: cd\n"


def test_what_an_interrupt_left_half_imported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lllm.llm.connect", ModuleType("connect"))
    monkeypatch.setitem(sys.modules, "lllm.sync", ModuleType("sync"))
    app._close()
