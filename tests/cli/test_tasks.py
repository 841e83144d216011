"""The task: an argument, piped text, or both."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal


def asked(lllm: Terminal) -> str:
    return lllm.backends[-1].requests[0].messages[-1].text.partition("\n\nUse the tools")[0]


def test_what_is_piped_in_stands_below_the_argument(lllm: Terminal, demo: Path) -> None:
    assert lllm("run", "Summarise", stdin="line 1\n{x} <b>\nline 3\n").code == 0
    assert asked(lllm) == "Summarise\n\n<stdin>\nline 1\n{x} <b>\nline 3\n</stdin>"
    assert lllm("sessions", "--json").json[0]["task"] == asked(lllm)
    assert lllm("replay", "--last").code == 0


@pytest.mark.parametrize("stdin", ["", "\n", "  \n \n"])
def test_an_empty_pipe_adds_nothing(lllm: Terminal, demo: Path, stdin: str) -> None:
    assert lllm("run", "Summarise", stdin=stdin).code == 0
    assert asked(lllm) == "Summarise"


def test_stdin_can_be_left_alone(lllm: Terminal, demo: Path) -> None:
    assert lllm("run", "Summarise", "--no-stdin", stdin="a loop's other lines\n").code == 0
    assert asked(lllm) == "Summarise"


def test_an_empty_argument_beside_a_pipe(lllm: Terminal, demo: Path) -> None:
    assert lllm("run", "", stdin="What is 17 times 23?\n").code == 0
    assert asked(lllm) == "What is 17 times 23?"


def run(demo: Path, *words: str, stdin: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", "run", *words],
        cwd=demo,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "LLLM_MODEL": "embedded"},
    )


def task(demo: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lllm", "show", "--last"], cwd=demo, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_pipe_that_nobody_writes_to_does_not_hang_it(demo: Path) -> None:
    ours, theirs = os.pipe()
    try:
        done = run(demo, "What is 17 times 23?", stdin=ours)
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "nothing came from stdin within 3 s" in done.stderr
    assert "--stdin" in done.stderr


def test_a_slow_pipe_is_waited_for_where_that_is_wanted(demo: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3.5); print('the log')"], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    began = time.monotonic()
    done = run(demo, "What is 17 times 23?", "--stdin", stdin=writer.stdout.fileno())
    writer.wait()
    writer.stdout.close()
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 2.5
    assert done.stderr == ""
    assert "the log" in task(demo)


def test_a_closed_stdin_is_an_empty_one(demo: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m lllm run 'What is 17 times 23?' <&-"],
        cwd=demo, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "LLLM_MODEL": "embedded"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_text_is_refused(demo: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"\xff\xfe\x00binary")
    os.close(theirs)
    try:
        done = run(demo, "Summarise", stdin=ours)
    finally:
        os.close(ours)
    assert done.returncode == 2
    assert "not UTF-8 text" in done.stderr
