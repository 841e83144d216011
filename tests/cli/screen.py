"""A process on a terminal of its own (a pty), and what is typed and seen there."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A command of lllm on a terminal. `stdin`, `stdout`: what it has instead of the terminal. The terminal is the one that
    /dev/tty opens."""

    def __init__(
        self,
        *words: str,
        cwd: Path,
        columns: int = 80,
        stdin: IO[bytes] | int | None = None,
        stdout: IO[bytes] | int | None = None,
        **environment: str,
    ) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKES_TERMINAL, *words],
            cwd=cwd,
            stdin=theirs if stdin is None else stdin,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            start_new_session=True,
            env={**inherited, "TERM": "dumb", **environment},
        )
        os.close(theirs)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end within a character
        self.shown = ""
        self.all = ""

    def type(self, words: str) -> None:
        os.write(self.ours, words.encode())

    def interrupt(self) -> None:
        """Sends Ctrl-C after the output was seen: a prompt is printed just before the reading starts."""
        time.sleep(0.3)
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and state.read_text().rpartition(") ")[2].startswith("R"):
            time.sleep(0.02)  # it has not come to the reading yet
        os.kill(self.process.pid, signal.SIGINT)

    def see(self, words: str, seconds: float = 120) -> None:
        """Waits until this is shown, from here on."""
        deadline = time.monotonic() + seconds
        while words not in self.shown:
            ready, _, _ = select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{words!r} did not come: {self.shown!r}"
            try:
                self._take(os.read(self.ours, 65536))
            except OSError:
                raise AssertionError(f"{words!r} did not come before the end: {self.shown!r}") from None
        self.shown = self.shown.partition(words)[2]

    def _take(self, read: bytes) -> None:
        text = ESCAPES.sub("", self._decode(read))
        self.shown += text
        self.all += text

    def end(self, seconds: float = 120) -> int:
        """The exit code. Reads to the end: a full terminal would block the process."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.ours], [], [], 0.05)
            if not ready:
                if self.process.poll() is not None:
                    break
                continue
            try:
                self._take(os.read(self.ours, 65536))
            except OSError:
                break
        return self.process.wait(max(1, deadline - time.monotonic()))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


TAKES_TERMINAL = """
import fcntl, os, signal, sys, termios
if "NOHUP" in os.environ:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
from lllm.cli import main
sys.argv[0] = "lllm"
sys.exit(main())
"""
