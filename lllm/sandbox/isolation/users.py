"""The user as whom code in a sandbox runs, where lllm itself is root."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import secrets
import signal
import stat
import struct
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from lllm.errors import SandboxError

RANGE: Final = range(61_184, 65_520)
"""Ids of users that exist for one process only, as systemd's DynamicUser takes them
(https://systemd.io/UIDS-GIDS)."""


LOCKS: Final = ("/run",)
"""Where the file of locks is, for all processes of lllm that run as root here."""

RIGHTS: Final = (0, 5, 6, 7)
"""CAP_CHOWN, CAP_KILL, CAP_SETGID and CAP_SETUID."""


@cache
def may_switch() -> bool:
    """Whether this process can start others as other users: as root, unless it is root only of a user namespace that has not
    so many users, or in a container that has taken these rights away."""
    try:
        status = Path("/proc/self/status").read_text()
        maps = [Path(f"/proc/self/{name}_map").read_text() for name in ("uid", "gid")]
    except OSError:
        return False
    found = re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)
    held = int(found[1], 16) if found else 0
    spans = [[line.split() for line in text.splitlines()] for text in maps]
    covered = (
        any(int(first) <= RANGE[0] and RANGE[-1] < int(first) + int(count) for first, _, count in lines)
        for lines in spans
    )
    return os.geteuid() == 0 and all(held >> right & 1 for right in RIGHTS) and all(covered)


class User:
    """An id that no account, no process and no other sandbox has: limits count by user. It is taken until `free`.

    It is marked as taken by a lock, which ends with the process that holds it.
    """

    def __init__(self, id: int, lock: BinaryIO) -> None:
        self.id = id
        self._lock = lock

    def free(self) -> None:
        """Lets others have it. All of its processes must have ended."""
        self._lock.close()

    def kill(self) -> None:
        """Kills all processes of this user."""
        while found := [pid for pid, owner in _running() if owner == self.id]:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)


def take(folder: Path) -> User:
    """The user to whom a working folder belongs from now on, with what is in it: its user before, if that is free."""
    owner = os.stat(folder).st_uid
    user = _take(owner) if owner in RANGE else None
    if user is None:
        user = _fresh()
        give(folder, user.id)
    return user


def tasks(user: int) -> int:
    """How many processes and threads a user has: a limit of their number counts them all."""
    count = 0
    for pid, owner in _running():
        if owner == user:
            with suppress(OSError):
                count += len(os.listdir(f"/proc/{pid}/task"))
    return count


def _fresh() -> User:
    for _ in range(1000):
        id = RANGE[secrets.randbelow(len(RANGE))]
        if (user := _take(id)) is not None:
            return user
    raise SandboxError(
        "no id is free for the user of a sandbox", hint=f"Ids {RANGE[0]} to {RANGE[-1]} are in use."
    )


def _take(id: int) -> User | None:
    lock = _locks()
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, id, 1, 0))
        if not any(owner == id for _, owner in _running()) and not _has_account(id):
            return User(id, lock)
    except OSError:
        pass
    lock.close()
    return None


def _locks() -> BinaryIO:
    """The file of locks, a byte for each id: of the machine, or of the temporary folder where only that can be written. No
    other user may open it: code in a sandbox could take all ids. Raises SandboxError where it is another user's."""
    folder = next((one for one in LOCKS if os.access(one, os.W_OK)), tempfile.gettempdir())
    path = os.path.join(folder, "lllm-users")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SandboxError(f"'{path}' cannot be opened: {error.strerror}") from None
    lock, info = os.fdopen(file, "r+b", buffering=0), os.fstat(file)
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        lock.close()
        raise SandboxError(
            f"'{path}' belongs to another user, or may be opened by one", hint="Remove it and try again."
        )
    return lock


def _has_account(id: int) -> bool:
    try:
        pwd.getpwuid(id)
    except KeyError:
        return False
    return True


def _running() -> list[tuple[int, int]]:
    """All processes that have not ended, with their users."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                owner = entry.stat().st_uid
                if owner not in RANGE or not _ended(entry.path):
                    found.append((int(entry.name), owner))
    return found


def _ended(path: str) -> bool:
    """Whether a process is a zombie: its parent has not yet asked how it ended."""
    with open(f"{path}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def give(folder: Path, user: int) -> None:
    """Makes a folder, and what is in it, belong to a user. A file that also has a name elsewhere is left as it is, unless a
    sandbox has made it: that other name may be one that its owner did not want to give away."""
    for above, _, files in os.walk(folder):
        os.chown(above, user, user, follow_symlinks=False)
        for name in files:
            path = os.path.join(above, name)
            info = os.lstat(path)
            if info.st_nlink == 1 or info.st_uid in RANGE or not stat.S_ISREG(info.st_mode):
                os.chown(path, user, user, follow_symlinks=False)
