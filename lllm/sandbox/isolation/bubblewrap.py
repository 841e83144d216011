"""The processes of a kernel behind bubblewrap."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from typing import Final

from lllm.sandbox.isolation import tree
from lllm.sandbox.isolation.users import User
from lllm.sync import spawn

SECONDS: Final = 10.0
"""Time limit for the end of what has been killed."""


class Bubblewrap:
    """A running bubblewrap. With it dies all that is inside: it is the parent of their first process. See
    `lllm.sandbox.kernel.Process`."""

    def __init__(self, popen: subprocess.Popen[bytes], user: User | None, in_memory: tuple[str, ...]) -> None:
        self.in_memory = in_memory
        self._popen = popen
        self._user = user
        self._lock = threading.Lock()
        self._said = b""
        self._said_all = threading.Event()
        try:
            spawn(self._read)
        except RuntimeError:  # no more threads
            popen.kill()
            popen.wait()
            raise

    @property
    def pid(self) -> int:
        """Of bubblewrap itself."""
        return self._popen.pid

    def code(self) -> int | None:
        """See `Process`."""
        return self._popen.poll()

    def said(self) -> str:
        """See `Process`."""
        if self._popen.poll() is None:
            return ""
        self._said_all.wait(SECONDS)
        return self._said.decode("utf-8", "replace").strip()

    def _read(self) -> None:
        """Reads all that is printed as an error, which may be much, and keeps the beginning. Where nobody read it, code that
        prints would wait for ever."""
        assert self._popen.stderr is not None
        with self._popen.stderr as stream, suppress(OSError, ValueError):
            while data := os.read(stream.fileno(), 65_536):
                self._said = (self._said + data)[:4_000]
        self._said_all.set()

    def _first(self) -> list[int]:
        """Descriptors of the first process inside, whose end is that of all others there."""
        found = []
        for pid in tree.children(self._popen.pid) if self._popen.poll() is None else ():
            with suppress(OSError):
                found.append(os.pidfd_open(pid))
        return found

    def kill(self) -> None:
        """See `Process`."""
        with self._lock:
            first = self._first()
            with suppress(ProcessLookupError):
                self._popen.kill()
            self._popen.wait()
            for fd in first:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], SECONDS)  # it ends after all others inside
                os.close(fd)
            if self._popen.stdin is not None:
                self._popen.stdin.close()
            if self._user is not None:
                self._user.kill()
                self._user.free()
                self._user = None
