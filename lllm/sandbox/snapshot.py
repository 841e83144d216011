"""A folder at one moment: what is in it, seen from outside and without following a link."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lllm.sandbox import removal
from lllm.sandbox.limits import Limits
from lllm.sandbox.usage import DEEPEST, Oversized, Usage

LONGEST: Final = 1_024
"""Characters of a link's target up to which it is recorded."""


class Stamp(NamedTuple):
    """By what a file is known to be unchanged, its size in bytes, and whether its owner may execute it."""

    size: int
    time: int
    inode: int
    executable: bool
    changed: int


class Snapshot(NamedTuple):
    """What a folder holds. Names that are no UTF-8 are in `others` only.

    Attributes:
        files: regular files.
        links: links that stay within the folder, with their targets; see `within`.
        folders: all of them. empty: those in which nothing that is recorded is.
        others: everything but regular files, with its type, and of links the target.
    """

    files: dict[str, Stamp]
    links: dict[str, str]
    folders: set[str]
    empty: set[str]
    others: dict[str, tuple[int, str]]

    @classmethod
    def empty_folder(cls) -> Snapshot:
        """Of a folder with nothing in it."""
        return cls({}, {}, set(), set(), {})

    def add(self, path: str, file: Stamp) -> None:
        """Takes note of a file that was put in place."""
        self.files[path] = file
        self.links.pop(path, None)
        while path := above(path):
            self.folders.add(path)
            self.empty.discard(path)
            self.others[path] = stat.S_IFDIR, ""


def take(root: Path, names: tuple[str, ...] = (), limits: Limits | None = None) -> Snapshot:
    """Looks at a folder. `names`: further absolute paths by which links may name it. Raises Oversized where it holds more than
    `limits` allow."""
    found, used = Snapshot.empty_folder(), Usage()
    raw: dict[str, str] = {}
    for path, info, target in walk(root):
        if limits is not None:
            used = used.plus(path, info)
            if excess := used.excess(limits):
                raise Oversized(excess)
        kind = stat.S_IFMT(info.st_mode)
        if kind != stat.S_IFREG:
            found.others[path] = kind, target
        if not is_text(path):
            continue
        if kind == stat.S_IFREG:
            found.files[path] = stamp(info)
        elif kind == stat.S_IFDIR:
            found.folders.add(path)
        elif kind == stat.S_IFLNK:
            raw[path] = target
    for path, target in raw.items():
        if (inside := within(path, target, found.folders, (str(root), *names))) is not None:
            found.links[path] = inside
    filled = {above(path) for path in (*found.files, *found.links, *found.folders)}
    found.empty.update(found.folders - filled)
    return found


def within(path: str, target: str, folders: set[str], names: tuple[str, ...] = ()) -> str | None:
    """The target of a link, where it stays within the folder, in a form in which it does so whatever becomes of other links:
    relative, and upwards at its beginning only. None for any other, and for one that is no UTF-8.

    Args:
        path: of the link, from the folder. folders: those that are none of links. names: absolute paths of the folder.
    """
    if not is_text(target) or not 0 < len(target) <= LONGEST:
        return None
    if target.startswith("/"):
        name = next((name for name in names if target == name or target.startswith(f"{name}/")), None)
        if name is None:
            return None
        here: list[str] = []
        parts = target[len(name) :].split("/")
    else:
        here = path.split("/")[:-1]
        parts = target.split("/")
        if simple(path, target):
            return target
    for part in parts:
        if part in ("", "."):
            continue
        if part != "..":
            here.append(part)
        elif not here or "/".join(here) not in folders:
            return None  # out of the folder, or nobody knows whereto
        else:
            here.pop()
    return posixpath.relpath(f"/{'/'.join(here)}", f"/{above(path)}")


def simple(path: str, target: str) -> bool:
    """True for a relative target that goes upwards at its beginning only, and not out of the folder. Such links stay within,
    whatever other such links there are: upwards from a real folder is a real one."""
    if not target or target.startswith("/") or "\0" in target or not is_text(target):
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return up <= path.count("/") and ".." not in parts[up:]


def walk(root: Path, depth: int = DEEPEST) -> Iterator[tuple[str, os.stat_result, str]]:
    """Everything in a folder, by its path from there; of links the target, else ""."""
    fd = removal.open_folder(str(root))
    try:
        yield from _walk(fd, "", depth)
    finally:
        os.close(fd)


def _walk(fd: int, above: str, depth: int) -> Iterator[tuple[str, os.stat_result, str]]:
    for name in sorted(os.listdir(fd)):
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(info.st_mode) else ""
        except OSError:
            continue  # gone meanwhile
        path = f"{above}/{name}" if above else name
        yield path, info, target
        if depth > 1 and stat.S_ISDIR(info.st_mode):
            try:
                child = removal.open_folder(name, fd)
            except OSError:
                continue
            try:
                yield from _walk(child, path, depth - 1)
            finally:
                os.close(child)


def stamp(info: os.stat_result) -> Stamp:
    """The stamp of a file."""
    executable = bool(info.st_mode & stat.S_IXUSR)
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino, executable, info.st_ctime_ns)


def above(path: str) -> str:
    """The folder above a path, "" for the outermost."""
    return path.rpartition("/")[0]


def is_text(path: str) -> bool:
    """Whether a log can hold it: names on a disk are any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
