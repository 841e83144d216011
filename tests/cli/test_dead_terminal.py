"""A terminal, or the reader of a pipe, that goes away while a command is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lllm.log import SQLiteLog
from tests.cli.screen import Screen
from tests.cli.test_run import change

WORK = """
        import logging, os, subprocess, sys, time, warnings
        from pathlib import Path
        self.stream.write("begun")
        print("begun", flush=True)
        with self.stream.spinner("Waiting"):
            while not Path("gone").exists():
                time.sleep(0.01)
        for _ in range(3):
            print("from print", flush=True)
            print("to stderr", file=sys.stderr, flush=True)
            sys.stdout.write("unflushed ")
            self.stream.write("more")
            self.stream.progress(0.5).progress(0.7)
            with self.stream.expander("part"):
                self.stream.write_stream(iter(["a", "b"]))
            logging.getLogger("lllm").warning("a warning")
            warnings.warn("another")
            subprocess.run(["echo", "from a child"], check=True)
"""
BACKEND = """
import lllm

lllm.registry.add("backend", "good", lambda: lllm.ScriptedBackend(
    lambda request: "<answer>391</answer>" if request.messages[-1].role == "tool"
    else lllm.FunctionCall("", "calculate", '{"expression": "17 * 23"}'), chunk=3))
"""


@pytest.fixture
def project(demo: Path) -> Path:
    (demo / "system/agent/backend.py").write_text(BACKEND)
    change(
        demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/backend.py"'
    )
    # something has been done by then, and something is still to do
    first = '        self.agents["vanilla"].call("demo/task_query", {"task": task})\n'
    change(demo / "system/agent/agent.py", "        reply =", first + WORK + "        reply =")
    return demo


def ended(project: Path) -> str:
    """The status of the project's only session."""
    with SQLiteLog(next(project.rglob("sessions.db"))) as log:
        (info,) = log.sessions()
        return info.status


@pytest.mark.parametrize("words", [("--stream",), ("--json",), ("--quiet",)], ids=" ".join)
def test_the_work_goes_on_when_the_terminal_is_gone(project: Path, words: tuple[str, ...]) -> None:
    screen = Screen("run", "x", *words, cwd=project, NOHUP="1")
    screen.see("begun")
    os.close(screen.ours)
    (project / "gone").touch()
    assert screen.process.wait(120) == 0
    assert ended(project) == "done"


def test_a_session_that_a_hangup_stopped_is_resumed(project: Path) -> None:
    """Without `nohup` the terminal's end is the process's, as of every command."""
    screen = Screen("run", "x", cwd=project)
    screen.see("begun")
    os.close(screen.ours)
    assert screen.process.wait(120) == -signal.SIGHUP
    (project / "gone").touch()
    done = subprocess.run(
        [sys.executable, "-m", "lllm", "resume"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ended(project) == "done"


@pytest.mark.parametrize("json", [False, True])
def test_the_work_goes_on_when_nobody_reads_the_pipe(project: Path, json: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lllm", "run", "x", *(["--json"] if json else [])],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert b"begun" in (process.stderr if json else process.stdout).readline()
        process.stdout.close()
        process.stderr.close()
        (project / "gone").touch()
        assert process.wait(120) == 0
    assert ended(project) == "done"


def test_a_command_that_only_shows_ends_with_its_reader(project: Path) -> None:
    (project / "gone").touch()
    subprocess.run([sys.executable, "-m", "lllm", "run", "x"], cwd=project, capture_output=True, check=True)
    shown = subprocess.run(
        f"{sys.executable} -m lllm show --last | head -n 1",
        shell=True,
        cwd=project,
        capture_output=True,
        check=True,
    )
    assert shown.stdout
    assert not shown.stderr
