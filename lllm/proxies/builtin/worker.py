"""Runs what may take too long, or too much memory, in a process of its own that is killed in time.

Python's `re` and SQLite cannot be stopped in a thread: one holds the interpreter's lock, the other is asked only between its
steps. The process is Python without site packages, the project or the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from lllm.errors import EndpointError, EndpointTimeout

MEMORY: Final = 1 << 30
"""Bytes that such a process may allocate."""

ALONE: Final = 10
"""Seconds after its time at which such a process ends itself."""


class Worker:
    """A running script, which answers each line of JSON with one. Used as a context manager.

    Arguments:
        script: a file that imports the standard library alone; it is given MEMORY as an argument, and the seconds
            after which it ends itself, should this process be gone by then. seconds: after these it is killed.
        what: is named in errors.
    """

    def __init__(self, script: Path, seconds: float, what: str) -> None:
        self._what, self._seconds = what, seconds
        self._late = threading.Event()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable or "python3",
                    "-I",
                    "-S",
                    str(script),
                    str(MEMORY),
                    str(int(seconds) + ALONE),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                cwd="/",
            )
        except OSError as error:
            raise EndpointError(f"{what}: no process could be started: {error.strerror}") from None
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        self._late.set()
        self._process.kill()

    def ask(self, request: Any, data: bytes = b"") -> Any:
        """Sends a request, with bytes after it, and returns the answer.

        Raises:
            EndpointTimeout: the time is over. EndpointError: it ended without an answer, as where its memory ran out.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + data)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if line.endswith(b"\n"):
                return json.loads(line)
        except (OSError, ValueError):
            pass
        if self._late.is_set():
            raise EndpointTimeout(f"{self._what} took longer than {self._seconds:g} s and was stopped")
        raise EndpointError(f"{self._what} ended without an answer, as if its memory had run out")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        with suppress(OSError), self._process:  # closing flushes what a killed process has not read
            pass
        self._process.wait()
