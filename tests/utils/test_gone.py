"""Output of a system whose terminal, pipe or file is closed: nothing is shown, and the work continues."""

from __future__ import annotations

import errno
import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from lllm import Agent, MemoryLog, PrintSystem, ScriptedBackend, StreamWrapper, record
from lllm.core.envelope import open_event
from lllm.replay import replay_session


class Dead(io.StringIO):
    """A file whose every write fails, from the `after`-th on."""

    def __init__(self, error: Exception, after: int = 0) -> None:
        super().__init__()
        self.error = error
        self.left = after

    def write(self, text: str, /) -> int:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)


def closed() -> Any:
    made = io.StringIO()
    made.close()
    return made


def dead_terminal() -> Any:
    ours, theirs = pty.openpty()
    os.close(ours)
    return open(theirs, "w")


def dead_pipe() -> Any:
    ours, theirs = os.pipe()
    os.close(ours)
    return open(theirs, "w")


FILES: dict[str, Callable[[], Any]] = {
    "EIO": lambda: Dead(OSError(errno.EIO, "Input/output error")),
    "EPIPE": lambda: Dead(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "midway": lambda: Dead(OSError(errno.EIO, "Input/output error"), after=3),
    "closed": closed,
    "terminal": dead_terminal,
    "pipe": dead_pipe,
}


class Foreign:
    """A foreign stream: it prints without checks, and has widgets."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, *values: Any) -> None:
        print(*values, file=self.file, flush=True)

    def write_stream(self, stream: Any) -> str:
        whole = ""
        for piece in stream:
            whole += piece
            self.write(piece)
        return whole

    def text_input(self, label: str, value: str = "") -> str:
        self.write(label)
        return "typed"

    def spinner(self, text: str) -> Any:
        return Spinner(self)


class Spinner:
    def __init__(self, stream: Foreign) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self.stream.write("begin")

    def __exit__(self, *_: object) -> None:
        self.stream.write("end")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "make", [lambda file: PrintSystem(file, colour=True), Foreign], ids=["ours", "theirs"]
)
@pytest.mark.parametrize("name", FILES)
def test_a_session_outlives_what_it_is_shown_on(name: str, make: Callable[[Any], Any]) -> None:
    store, followed = MemoryLog(), list[str]()
    file = FILES[name]()

    def program() -> str:
        with record("shown", store=store, seed=1) as session:
            stream = StreamWrapper(make(file))
            stream.write("one", {"two": 2})
            with stream.spinner("working"):
                stream.warning("careful")
            stream.write_stream(followed.append(piece) or piece for piece in "abc")  # type: ignore[func-returns-value]
            stream.progress(0.5).progress(1.0)
            if name != "midway":
                assert stream.text_input("Name?", "Ada") == "Ada"
            with stream.expander("more") as part:
                part.json({"x": 1})
            assert Agent("a", ScriptedBackend(["fine"]))("go").content == "fine"
        return session.id

    id = program()
    events = [open_event(body) for body in store.read(id)]
    assert events[-1]["data"]["status"] == "done"
    assert followed == list("abc")
    assert not any(event["data"].get("phase") == "error" for event in events if event["kind"] == "Frontend")
    assert replay_session(id, store=store, entry=program, raises=True).verified
    with suppress(OSError, ValueError):
        file.close()


def test_other_faults_of_a_stream_are_still_its_own() -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError("a number, please")):
        with pytest.raises(type(error)):
            StreamWrapper(Foreign(Dead(error))).write("one")
        with pytest.raises(type(error)):
            PrintSystem(Dead(error)).write("one")


def test_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    for gone in (None, closed()):
        monkeypatch.setattr(sys, "stdout", gone)
        StreamWrapper(PrintSystem()).write("one")


def test_a_warning_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", closed())
    log = logging.getLogger("lllm.session")
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)
    try:

        def follower(call: str, delta: Any) -> None:
            raise RuntimeError("broken")

        with record("warned", store=MemoryLog()) as session:
            session.followers.append(follower)
            assert Agent("a", ScriptedBackend(["fine"]))("go").content == "fine"
    finally:
        log.removeHandler(handler)


OUTLASTS = """
import os, sys
from lllm.terminals import outlast
outlast()
print("begun", flush=True)
sys.stdin.readline()
for _ in range(3):
    print("lost" * 10_000)
    print("lost", file=sys.stderr, flush=True)
sys.stdout.flush()
os.write(1, b"gone")
os.write(int(sys.argv[1]), b"reached the end")
"""


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_process_outlasts_its_output(unbuffered: bool) -> None:
    reads, writes = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, *(["-u"] if unbuffered else []), "-c", OUTLASTS, str(writes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[writes],
        env=environment,
        bufsize=0,
    )
    with process:
        os.close(writes)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        process.stdout.close()
        process.stderr.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert os.read(reads, 100) == b"reached the end"
        assert process.wait(60) == 0
    os.close(reads)
