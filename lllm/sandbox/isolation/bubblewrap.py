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

    @property
    def pid(self) -> int:
        """Of bubblewrap itself."""
        return self._popen.pid

    def code(self) -> int | None:
        """See `Process`."""
        return self._popen.poll()

    def said(self) -> str:
        """See `Process`."""
        if self._popen.stderr is None or self._popen.stderr.closed or self._popen.poll() is None:
            return ""
        os.set_blocking(self._popen.stderr.fileno(), False)
        with suppress(OSError, ValueError):
            return (self._popen.stderr.read(4000) or b"").decode("utf-8", "replace").strip()
        return ""

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
            for stream in (self._popen.stdin, self._popen.stderr):
                if stream is not None:
                    stream.close()
            if self._user is not None:
                self._user.kill()
                self._user.free()
                self._user = None
