"""Who writes a session: one process at a time, also while it has nothing to write.

A claim is a lock on one byte of a file beside the log, at a place that the session's id gives. The kernel drops it when the
process dies, however that happens, so a session whose writer is dead can be claimed at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from lllm.errors import LogWriteError

REMOVING: Final = "\0removing"
COMPACTING: Final = "\0compacting"
WAITING: Final = "\0waiting"
"""Claims that do not belong to a session: removing sessions; rewriting the file, during which appends wait; an append
that has to wait."""

_SET: Final = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_GET: Final = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)


class Claims:
    """The claims of this process on the sessions of one store. `path` is the file of locks, made when it is
    needed; None where no other process can reach the store."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.begin()

    def begin(self) -> None:
        """Nothing is claimed: a new store, or one in a forked child, which must not keep its parent's claims alive."""
        if (fd := getattr(self, "_fd", None)) is not None:
            os.close(fd)
        self._fd: int | None = None
        self._mine: dict[str, bytes] = {}  # session -> what drops the lock
        self._lock = threading.Lock()

    def claim(self, session: str) -> None:
        """Raises LogWriteError while somebody else, in this process or another, writes the session."""
        with self._lock:
            if session in self._mine:
                raise taken(session)
            place = _place(session)
            try:
                if self.path is not None:
                    fcntl.fcntl(self._open(), _SET, _flock(fcntl.F_WRLCK, place))
            except (BlockingIOError, PermissionError) as error:
                if self._fd is None:
                    return  # a folder that nobody may write to: the append says so
                raise taken(session) from error
            except OSError:
                return  # no locks here (a full disk, an odd file system): the order of events still holds
            self._mine[session] = _flock(fcntl.F_UNLCK, place)

    def release(self, session: str) -> None:
        """Lets others claim it."""
        with self._lock:
            unlock = self._mine.pop(session, None)
            if unlock is not None and self._fd is not None:
                with suppress(OSError):
                    fcntl.fcntl(self._fd, _SET, unlock)

    def held(self, session: str) -> bool:
        """Whether somebody, here or elsewhere, writes the session now."""
        with self._lock:
            if session in self._mine:
                return True
            try:
                if self.path is None or (self._fd is None and not self.path.exists()):
                    return False
                found = fcntl.fcntl(self._open(), _GET, _flock(fcntl.F_WRLCK, _place(session)))
            except OSError:
                return False
            return bool(struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK)

    def only(self, session: str) -> bool:
        """True if this is the one session that is claimed here."""
        return len(self._mine) == 1 and session in self._mine

    def any(self, besides: Collection[str] = ()) -> bool:
        """True if any process has a claim, except these claims of this process."""
        with self._lock:
            if self._mine.keys() - besides:
                return True
            try:
                if self.path is None or (self._fd is None and not self.path.exists()):
                    return False
                found = fcntl.fcntl(
                    self._open(), _GET, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                )
            except OSError:
                return False
            return bool(struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Drops all claims."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None
            self._mine.clear()

    def _open(self) -> int:
        if self._fd is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd


def taken(session: str) -> LogWriteError:
    """The error for a session that somebody else writes."""
    return LogWriteError(
        f"session '{session}' is being written by somebody else",
        hint="One session has one writer. Wait until it ends, or fork it: lllm fork " + session,
    )


def _place(session: str) -> int:
    return int.from_bytes(hashlib.sha256(session.encode()).digest()[:7], "big")


def _flock(kind: int, place: int) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, place, 1, 0)
