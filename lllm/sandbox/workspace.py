"""The working folder of a sandbox, seen from outside: what is in it, what a cell changed, and how it is put back.

What is in it was made by code that nobody trusts. Every name is opened relative to its folder and never through a link; pipes,
devices and sockets are left out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from lllm.errors import SandboxError
from lllm.sandbox import removal
from lllm.sandbox.limits import MIB

KEPT: Final = 16 * MIB
"""Bytes of a file up to which its content is recorded."""

KEPT_IN_ALL: Final = 64 * MIB
"""Bytes of all contents that are recorded for one cell."""

DEEPEST: Final = 40
"""Folders within each other that are looked into."""

_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW


class Stamp(NamedTuple):
    """By what a file is known to be unchanged, and its size in bytes."""

    size: int
    time: int
    inode: int
    changed: int


class Content(NamedTuple):
    """A file that is new or has changed: its digest, its size, and its bytes where these are kept."""

    digest: str
    size: int
    data: bytes | None


class Usage(NamedTuple):
    """What a folder holds. `too_deep`: folders are within each other that are not looked into."""

    bytes: int
    inodes: int
    too_deep: bool


class Workspace:
    """The working folder.

    Args:
        root: a folder that exists.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, Stamp] = {}
        self._others: set[str] = set()
        self._known: dict[str, bytes] = {}

    def usage(self, most: int) -> Usage:
        """What it holds: bytes on the disk, or of all files where that is more than the disk has; stops counting at so many
        inodes."""
        size = inodes = 0
        for path, info in self._walk():
            inodes += 1
            size += info.st_blocks * 512
            if inodes > most:
                break
            if stat.S_ISDIR(info.st_mode) and path.count("/") == DEEPEST - 1:
                return Usage(size, inodes, True)
        return Usage(size, inodes, False)

    def look(self) -> None:
        """Takes what is there now as known."""
        self._seen = self._stamps()
        self._known = {path: data for path, data in self._known.items() if path in self._seen}

    def refresh(self) -> None:
        """Takes note that owners have changed, which is no change of a file: a kernel was started as another user."""
        now = self._stamps()
        self._seen = {
            path: found if (found := now.get(path)) is not None and found[:3] == stamp[:3] else stamp
            for path, stamp in self._seen.items()
        }

    def changes(self) -> tuple[dict[str, Content], list[str]]:
        """The files that are new or have changed since the last look, and those that are gone. This is a look too."""
        before, now = self._seen, self._stamps()
        changed: dict[str, Content] = {}
        left = KEPT_IN_ALL
        for path, stamp in now.items():
            if before.get(path) == stamp:
                continue
            found = self._content(path, min(KEPT, left))
            if found is not None:
                changed[path] = found
                left -= len(found.data or b"")
        self._seen = now
        removed = sorted(set(before) - set(now))
        for path in (*changed, *removed):
            self._known.pop(path, None)
        self._known.update({path: found.data for path, found in changed.items() if found.data is not None})
        return changed, removed

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
        now, lost = self._stamps(), []
        for path, stamp in before.items():
            if now.get(path) == stamp:
                continue
            if (data := self._known.get(path)) is not None:
                self.write(path, data)
            else:
                lost.append(path)
        self._seen = {**self._stamps(), **{path: before[path] for path in lost}}
        return lost

    def _remove_new(self, fd: int, above: str) -> None:
        """Removes what was not there at the last look or has changed since."""
        for name in os.listdir(fd):
            path = f"{above}/{name}" if above else name
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    keep = self._seen.get(path) == _stamp(info)
                else:
                    keep = path in self._others
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

    def write(self, path: str, data: bytes) -> None:
        """Puts a file in place; folders above it are made. Raises SandboxError for a path that leads out of the folder, or
        through a link."""
        parts = check_path(path).split("/")
        fd = removal.open_folder(str(self.root))
        owner = os.fstat(fd)
        try:
            for name in parts[:-1]:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                    if os.geteuid() == 0:
                        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=fd, follow_symlinks=False)
                child = removal.open_folder(name, fd)
                os.close(fd)
                fd = child
            beside = f".{secrets.token_hex(8)}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(beside, flags, 0o666, dir_fd=fd)
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                if os.geteuid() == 0:
                    os.fchown(file, owner.st_uid, owner.st_gid)
            os.rename(beside, parts[-1], src_dir_fd=fd, dst_dir_fd=fd)
            self._known[path] = data
            self._seen[path] = _stamp(os.stat(parts[-1], dir_fd=fd, follow_symlinks=False))
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
        self._seen, self._others, self._known = {}, set(), {}

    def put_back(self, files: Mapping[str, bytes]) -> None:
        """Makes it hold these files and no others."""
        self.clear()
        for path, data in files.items():
            self.write(path, data)
        self.look()

    def tree(self, depth: int = 4, most: int = 200) -> str:
        """Its entries as an indented text, folders with a slash behind, links with an @; at most so many lines."""
        lines: list[str] = []
        for path, info in self._walk(depth):
            if len(lines) == most:
                lines.append("...")
                break
            level = path.count("/")
            end = "/" if stat.S_ISDIR(info.st_mode) else "@" if stat.S_ISLNK(info.st_mode) else ""
            name = path.rpartition("/")[2].encode("unicode_escape").decode() if not path.isprintable() else ""
            lines.append("  " * level + (name or path.rpartition("/")[2]) + end)
        return "\n".join(lines)

    def _stamps(self) -> dict[str, Stamp]:
        found = {}
        self._others = set()
        for path, info in self._walk():
            if not stat.S_ISREG(info.st_mode):
                self._others.add(path)
            elif path.isascii() or _is_text(path):
                found[path] = _stamp(info)
        return found

    def _walk(self, depth: int = DEEPEST) -> Iterator[tuple[str, os.stat_result]]:
        fd = removal.open_folder(str(self.root))
        try:
            yield from _walk(fd, "", depth)
        finally:
            os.close(fd)

    def _content(self, path: str, most: int) -> Content | None:
        """A file's digest and bytes; None where it is no regular file any more."""
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
                if size <= most:
                    kept.append(data)
            return Content(f"sha256:{hashed.hexdigest()}", size, b"".join(kept) if size <= most else None)
        except OSError:
            return None
        finally:
            for fd in fds:
                os.close(fd)


def check_path(path: str) -> str:
    """Returns a path that leads downwards from the working folder. Raises SandboxError for any other."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if not all(parts) or {".", ".."} & set(parts) or "\0" in path or not _is_text(path):
        raise SandboxError(
            f"{path!r} is not a path in the working folder",
            hint="Paths begin at it and lead downwards: 'data/table.csv'.",
        )
    return path


def _stamp(info: os.stat_result) -> Stamp:
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino, info.st_ctime_ns)


def _is_text(path: str) -> bool:
    """Whether a log can hold it: names on a disk are any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(fd: int, above: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(fd)):
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            continue  # gone meanwhile
        path = f"{above}/{name}" if above else name
        yield path, info
        if depth > 1 and stat.S_ISDIR(info.st_mode):
            try:
                child = removal.open_folder(name, fd)
            except OSError:
                continue
            try:
                yield from _walk(child, path, depth - 1)
            finally:
                os.close(child)
