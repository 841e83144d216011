"""The working folder of a sandbox, seen from outside: what is in it, what a cell changed, and how it is put back.

What is in it was made by code that nobody trusts. Every name is opened relative to its folder and never through a link. Links
that lead out of the folder, pipes, devices and sockets are left out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from lllm.errors import SandboxError
from lllm.sandbox import removal, snapshot
from lllm.sandbox.contents import Contents
from lllm.sandbox.limits import MIB, Limits
from lllm.sandbox.snapshot import Snapshot, is_text, simple, stamp
from lllm.sandbox.usage import Oversized, Usage

KEPT: Final = 16 * MIB
"""Bytes of a file up to which its content is recorded."""

KEPT_IN_ALL: Final = 64 * MIB
"""Bytes of all contents that are recorded for one cell."""

FEW: Final = 100
"""Files and folders that take less time to look at than another thread to be asked."""

_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW


class Content(NamedTuple):
    """A file that is new or has changed: its digest, its size, its bytes where these are kept, and whether its owner may
    execute it."""

    digest: str
    size: int
    data: bytes | None
    executable: bool = False


class Changes(NamedTuple):
    """What has changed in the folder between two looks.

    Attributes:
        files: files that are new or have changed. removed: files that are gone.
        links: links within the folder that are new or lead elsewhere now, with their targets.
        empty: folders that are new and empty, or in which there is nothing any more.
        gone: links and empty folders that are gone.
    """

    files: dict[str, Content]
    removed: list[str]
    links: dict[str, str]
    empty: list[str]
    gone: list[str]


class Workspace:
    """The working folder.

    Args:
        root: a folder that exists. names: further absolute paths that it has within the sandbox.
    """

    def __init__(self, root: Path, names: tuple[str, ...] = ()) -> None:
        self.root = root
        self._names = names
        self._seen = Snapshot.empty_folder()
        self._known: dict[str, bytes] = {}

    def usage(self, most: int) -> Usage:
        """What it holds; stops counting at so many inodes."""
        used = Usage()
        for path, info, _ in snapshot.walk(self.root):
            used = used.plus(path, info)
            if used.inodes > most or used.too_deep:
                break
        return used

    def _look(self) -> Snapshot:
        return snapshot.take(self.root, self._names)

    def look(self) -> None:
        """Takes what is there now as known."""
        self._seen = self._look()
        self._known = {path: data for path, data in self._known.items() if path in self._seen.files}

    def refresh(self) -> None:
        """Takes note that owners have changed, which is no change of a file: a kernel was started as another user."""
        now = self._look().files
        files = {
            path: found if (found := now.get(path)) is not None and found[:4] == stamp[:4] else stamp
            for path, stamp in self._seen.files.items()
        }
        self._seen = self._seen._replace(files=files)

    def is_unchanged(self, limits: Limits) -> bool:
        """Whether nothing has changed since the last look. False also where there is much to look at, so that it may be called
        where nothing may wait."""
        if len(self._seen.files) + len(self._seen.others) > FEW:
            return False
        try:
            return snapshot.take(self.root, self._names, replace(limits, inodes=FEW)) == self._seen
        except Oversized:
            return False

    def changes(self, limits: Limits | None = None) -> Changes:
        """What is new, has changed or is gone since the last look. This is a look too.

        Raises Oversized, and then it is none, where the folder holds more than `limits` allow: a cell may have ended before
        anybody saw that, and what is known must be within them. They bound what is read, whatever files become meanwhile."""
        before, now = self._seen, snapshot.take(self.root, self._names, limits)
        changed: dict[str, Content] = {}
        left, unread = KEPT_IN_ALL, None if limits is None else limits.disk_bytes
        for path, found in now.files.items():
            if before.files.get(path) == found:
                continue
            content = self._content(path, min(KEPT, left), unread)
            if content is not None:
                changed[path] = content
                left -= len(content.data or b"")
                if unread is not None:
                    unread -= content.size
        self._seen = now
        removed = sorted(set(before.files) - set(now.files))
        for path in (*changed, *removed):
            self._known.pop(path, None)
        self._known.update({path: found.data for path, found in changed.items() if found.data is not None})
        links = {path: target for path, target in now.links.items() if before.links.get(path) != target}
        still = {*now.files, *now.links, *now.empty}
        gone = [*(set(before.links) - still), *(before.empty - now.folders - still)]
        return Changes(changed, removed, links, sorted(now.empty - before.empty), sorted(gone))

    def undo(self) -> list[str]:
        """Puts it back to what it was at the last look. Returns the files that are lost: their content was too large to be
        kept, and they are gone. Nothing may run in it."""
        before = self._seen
        try:
            fd = removal.open_folder(str(self.root))
        except OSError:  # it has been removed, or something else is in its place
            removal.remove(str(self.root))
            self.root.mkdir(mode=0o700)
            fd = removal.open_folder(str(self.root))
        try:
            self._remove_new(fd, "")
        finally:
            os.close(fd)
        now, lost = self._look(), []
        for path in sorted(before.folders - now.folders):
            self.folder(path)
        for path, found in before.files.items():
            if now.files.get(path) == found:
                continue
            if (data := self._known.get(path)) is not None:
                self.write(path, data, executable=found.executable)
            else:
                lost.append(path)
        for path in before.links.keys() - now.links.keys():
            self.link(path, before.links[path])
        self._seen = self._look()
        self._seen.files.update({path: before.files[path] for path in lost})
        return lost

    def _remove_new(self, fd: int, above: str) -> None:
        """Removes what was not there at the last look or has changed since."""
        for name in os.listdir(fd):
            path = f"{above}/{name}" if above else name
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    keep = self._seen.files.get(path) == stamp(info)
                else:
                    target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(info.st_mode) else ""
                    keep = self._seen.others.get(path) == (stat.S_IFMT(info.st_mode), target)
                if not keep:
                    removal.remove(name, fd)
                elif stat.S_ISDIR(info.st_mode):
                    inner = removal.open_folder(name, fd)
                    try:
                        self._remove_new(inner, path)
                    finally:
                        os.close(inner)
            except OSError:
                continue

    def write(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Puts a file in place; folders above it are made. Raises SandboxError for a path that leads out of the folder, or
        through a link."""
        with self._above(path) as (fd, name, owner):
            beside = f".{secrets.token_hex(8)}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(beside, flags, 0o777 if executable else 0o666, dir_fd=fd)
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                if owner is not None:
                    os.fchown(file, *owner)
            os.rename(beside, name, src_dir_fd=fd, dst_dir_fd=fd)
            self._known[path] = data
            self._seen.add(path, stamp(os.stat(name, dir_fd=fd, follow_symlinks=False)))

    def link(self, path: str, target: str) -> None:
        """Makes a link. Raises SandboxError where something is at its path, or it could lead out of the folder."""
        if not simple(path, target):
            raise SandboxError(f"the link {path!r} leads out of the working folder")
        with self._above(path) as (fd, name, owner):
            os.symlink(target, name, dir_fd=fd)
            if owner is not None:
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)

    def folder(self, path: str) -> None:
        """Makes a folder, and those above it. Raises SandboxError where a file or a link is in its place."""
        with self._above(f"{path}/any"):
            pass

    @contextmanager
    def _above(self, path: str) -> Iterator[tuple[int, str, tuple[int, int] | None]]:
        """Opens the folder above a path, which is made where it is missing. Gives it, the name in it, and who has to own what
        is made, where that is not this process's user. Raises SandboxError."""
        parts = check_path(path).split("/")
        fd = removal.open_folder(str(self.root))
        try:
            info = os.fstat(fd)
            owner = (info.st_uid, info.st_gid) if os.geteuid() == 0 else None
            for name in parts[:-1]:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                    if owner is not None:
                        os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
                child = removal.open_folder(name, fd)
                os.close(fd)
                fd = child
            yield fd, parts[-1], owner
        except OSError as error:
            raise SandboxError(f"{path!r} cannot be written: {error.strerror}") from None
        finally:
            os.close(fd)

    def read(self, path: str, most: int = KEPT) -> bytes:
        """A file's bytes. Raises SandboxError where there is none, or a larger one."""
        found = self._content(path, most)
        if found is None:
            raise SandboxError(f"there is no file {path!r} in the working folder")
        if found.data is None:
            raise SandboxError(f"{path!r} has {found.size:,} bytes, at most {most:,} are read")
        return found.data

    def clear(self) -> None:
        """Removes all that is in it."""
        fd = removal.open_folder(str(self.root))
        try:
            for name in os.listdir(fd):
                removal.remove(name, fd)
        finally:
            os.close(fd)
        self._seen, self._known = Snapshot.empty_folder(), {}

    def put_back(self, contents: Contents) -> None:
        """Makes it hold this and nothing else. Files whose content is not known are left out."""
        self.clear()
        for path in sorted(contents.empty):
            self.folder(path)
        for path, data in contents.files.items():
            if data is not None:
                self.write(path, data, executable=path in contents.executable)
        for path, target in contents.links.items():  # at last: nothing is written through one
            self.link(path, target)
        self.look()

    def _content(self, path: str, most: int, unread: int | None = None) -> Content | None:
        """A file's digest, and its bytes where these are at most so many; None where it is no regular file any more. Raises
        Oversized for one that has more than `unread` bytes."""
        parts = path.split("/")
        fds = [removal.open_folder(str(self.root))]
        try:
            for name in parts[:-1]:
                fds.append(removal.open_folder(name, fds[-1]))
            try:
                fds.append(os.open(parts[-1], _FILE, dir_fd=fds[-1]))
            except PermissionError:
                removal.allow(parts[-1], fds[-1], 0o400)
                fds.append(os.open(parts[-1], _FILE, dir_fd=fds[-1]))
            info = os.fstat(fds[-1])
            if not stat.S_ISREG(info.st_mode):
                return None
            hashed, kept, size = hashlib.sha256(), [], 0
            while data := os.read(fds[-1], MIB):
                hashed.update(data)
                size += len(data)
                if unread is not None and size > unread:
                    raise Oversized("the files of the working folder grew while they were read")
                if size <= most:
                    kept.append(data)
            whole = b"".join(kept) if size <= most else None
            return Content(f"sha256:{hashed.hexdigest()}", size, whole, stamp(info).executable)
        except OSError:
            return None
        finally:
            for fd in fds:
                os.close(fd)


def check_path(path: str) -> str:
    """Returns a path that leads downwards from the working folder. Raises SandboxError for any other."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if not all(parts) or {".", ".."} & set(parts) or "\0" in path or not is_text(path):
        raise SandboxError(
            f"{path!r} is not a path in the working folder",
            hint="Paths begin at it and lead downwards: 'data/table.csv'.",
        )
    return path
