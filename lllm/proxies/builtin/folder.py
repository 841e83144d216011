"""A folder that somebody else names paths in: nothing outside of it is opened, whatever changes meanwhile.

Every part of a path is opened by itself, relative to the folder before it (`openat`), and never through a symbolic link. So a
name that is checked is the one that is opened: there is no moment in between in which a link could take its place. A hard link
cannot be told from a file: whoever may make one in the folder, can already read what it leads to.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    LLMError,
)

_COMMON: Final = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | _COMMON
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _COMMON
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Faults of a file system that has no hard links, by which a new name is given without replacing one."""
_LONGEST: Final = 4096
_DEEPEST: Final = 60
_MOST: Final = 100_000
"""Names of one folder that are looked at."""


class Found(NamedTuple):
    """An entry of a folder: its path from the root, and what `lstat` says."""

    path: str
    info: os.stat_result

    @property
    def kind(self) -> str:
        """file, folder, link or other."""
        return kind_of(self.info.st_mode)


@dataclass(frozen=True)
class Opened:
    """A regular file that is open for reading."""

    fd: int
    info: os.stat_result

    @property
    def size(self) -> int:
        """Its bytes when it was opened."""
        return self.info.st_size

    def at(self, start: int, most: int) -> bytes:
        """At most `most` bytes from `start`."""
        parts = []
        while most > 0 and (data := os.pread(self.fd, min(most, 1 << 20), start)):
            parts.append(data)
            start, most = start + len(data), most - len(data)
        return b"".join(parts)


def kind_of(mode: int) -> str:
    """Returns the kind of a mode, in a word."""
    for name, test in (("file", stat.S_ISREG), ("folder", stat.S_ISDIR), ("link", stat.S_ISLNK)):
        if test(mode):
            return name
    return "other"


class Folder:
    """See above.

    Arguments:
        root: the folder; where it is a symbolic link, what that leads to now.
        hidden: whether names that begin with a dot exist.

    Raises:
        ConfigError: no such folder.
    """

    def __init__(self, root: str | Path, *, hidden: bool = False) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise ConfigError("files cannot be opened safely on this system: it has no openat and O_NOFOLLOW")
        try:
            self.root = Path(root).expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"the root {str(root)!r} cannot be opened: {_reason(error)}") from None
        if not self.root.is_dir():
            raise ConfigError(f"the root {str(root)!r} must be a folder")
        self.hidden = hidden

    # --- names

    def parts(self, path: str) -> tuple[str, ...]:
        """The names that a path consists of; () for the root.

        Raises:
            EndpointDenied: it leads out of the root, or to a hidden name. EndpointRejected: no file can be named that.
        """
        if "\0" in path or len(path) > _LONGEST:
            raise EndpointRejected(f"{_shown(path)} is not a path: it has NUL characters or is too long")
        try:
            path.encode()
        except UnicodeEncodeError:
            raise EndpointRejected(f"{_shown(path)} is not a path: it cannot be written as UTF-8") from None
        if path.startswith("/"):
            raise EndpointDenied(
                f"{_shown(path)} is an absolute path",
                hint="Paths begin at the root folder: 'folder/file.txt'.",
            )
        found = tuple(part for part in path.split("/") if part not in ("", "."))
        if ".." in found:
            raise EndpointDenied(
                f"{_shown(path)} contains '..'",
                hint="Paths begin at the root folder and only lead downwards.",
            )
        if not self.hidden and (names := [part for part in found if is_hidden(part)]):
            raise EndpointDenied(
                f"{_shown(path)} is hidden",
                hint=f"Names that begin with a dot, as {_shown(names[0])}, are not available.",
            )
        return found

    # --- reading

    @contextmanager
    def file(self, path: str) -> Iterator[Opened]:
        """A file, open for reading.

        Raises:
            EndpointNotFound, EndpointDenied, EndpointRejected: no such file, one that may not be read, or no regular file.
        """
        parts = self._of_file(path)
        with self._entered(parts[:-1]) as parent:
            self._regular(parent, parts)
            with self._failing(parent, parts):
                fd = os.open(parts[-1], _FILE, dir_fd=parent)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise EndpointDenied(f"{_shown(path)} is not a regular file")
            with self._failing(None, parts):
                yield Opened(fd, info)
        finally:
            os.close(fd)

    def _of_file(self, path: str) -> tuple[str, ...]:
        """The names that the path of a file consists of. Raises as `parts` does, and EndpointRejected for one of a folder."""
        parts = self.parts(path)
        if not parts:
            raise EndpointRejected(f"{_shown(path)} is a folder")
        if path.endswith("/"):
            raise EndpointRejected(f"{_shown(path)} ends with '/', as the path of a folder does")
        return parts

    def info(self, path: str) -> Found:
        """Returns the entry at a path, without following a link there. Raises as `file` does."""
        parts = self.parts(path)
        with self._entered(parts[:-1]) as parent, self._failing(parent, parts):
            return Found("/".join(parts), os.lstat(self.root) if not parts else _lstat(parts[-1], parent))

    def walk(self, path: str, depth: int = _DEEPEST, *, hidden: bool = False) -> Iterator[Found]:
        """The entries of a folder, sorted by name, folders before their contents. A folder that cannot be opened, or is gone
        meanwhile, counts as empty. Names that are not UTF-8 are left out.

        Arguments:
            depth: 1 is the folder alone. hidden: with names that begin with a dot, where these exist.
        """
        parts = self.parts(path)
        with self._entered(parts) as fd:
            yield from self._walk(fd, "/".join(parts), min(depth, _DEEPEST), hidden and self.hidden)

    def _walk(self, fd: int, above: str, depth: int, hidden: bool) -> Iterator[Found]:
        for name, info in _entries(fd, hidden):
            path = f"{above}/{name}" if above else name
            yield Found(path, info)
            if depth > 1 and stat.S_ISDIR(info.st_mode):
                with suppress(OSError):
                    child = os.open(name, _FOLDER, dir_fd=fd)
                    try:
                        yield from self._walk(child, path, depth - 1, hidden)
                    finally:
                        os.close(child)

    # --- writing

    def write(self, path: str, data: bytes, before: os.stat_result | None) -> None:
        """Puts a file in place, whole or not at all: it is written beside, synced, and renamed.

        Arguments:
            before: what was known of the file that it takes the place of; None for a new one. Missing folders are made.

        Raises:
            EndpointRejected: the file is not as it was before. EndpointError: the disk is full, or another fault.
            EndpointDenied: as for reading, or a file that may not be written.
        """
        parts = self._of_file(path)
        if before is None and not "".join(parts).isprintable():
            raise EndpointRejected(
                f"{_shown(path)} cannot be the name of a new file: it has control characters"
            )
        made: list[int] | None = [] if before is None else None
        try:
            self._write(parts, data, before, made)
        except BaseException:
            self._unmake(parts, made or [])
            raise

    def _write(
        self, parts: tuple[str, ...], data: bytes, before: os.stat_result | None, made: list[int] | None
    ) -> None:
        path = "/".join(parts)
        with self._entered(parts[:-1], made) as parent, self._failing(None, parts):
            if before is not None and not before.st_mode & 0o222:
                raise EndpointDenied(f"{_shown(path)} is read-only")
            if before is None and (other := self._nearest(parent, parts)):
                raise EndpointRejected(
                    f"{_shown(path)} differs only in case, or in how its accents are written, from a name that exists",
                    hint=other,
                )
            beside = f".lllm-{secrets.token_hex(8)}.tmp"
            fd = os.open(beside, _NEW, 0o666, dir_fd=parent)
            try:
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(fd, view) :]
                    if before is not None:
                        os.fchmod(fd, before.st_mode & 0o777)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                self._put(parent, beside, parts, before)
            except BaseException:
                with suppress(OSError):
                    os.unlink(beside, dir_fd=parent)
                raise
            with suppress(OSError):  # not every file system syncs folders
                os.fsync(parent)

    def _unmake(self, parts: tuple[str, ...], made: list[int]) -> None:
        """Removes folders that were made for a file which could not be written, unless something else is in them now."""
        for count in reversed(made):
            with suppress(OSError, EndpointError), self._entered(parts[: count - 1]) as parent:
                os.rmdir(parts[count - 1], dir_fd=parent)

    def _put(self, parent: int, beside: str, parts: tuple[str, ...], before: os.stat_result | None) -> None:
        name = parts[-1]
        if before is None:
            taken = EndpointRejected(f"{_shown('/'.join(parts))} has been created meanwhile")
            try:
                os.link(beside, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                raise taken from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with suppress(FileNotFoundError):
                    _lstat(name, parent)
                    raise taken from None
                os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                os.unlink(beside, dir_fd=parent)
            return
        self._regular(parent, parts)
        if not same(before, _lstat(name, parent)):
            raise EndpointRejected(f"{_shown('/'.join(parts))} has changed meanwhile", hint="Read it again.")
        os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)

    # --- opening

    @contextmanager
    def _entered(self, parts: tuple[str, ...], made: list[int] | None = None) -> Iterator[int]:
        """The folder at a path, opened name by name. `made`: missing ones are made, and their depths added to it."""
        if len(parts) > _DEEPEST:
            raise EndpointRejected(f"{_shown('/'.join(parts))} is more than {_DEEPEST} folders deep")
        with self._failing(None, ()):
            fd = os.open(self.root, _FOLDER)
        try:
            for count, name in enumerate(parts, 1):
                with self._failing(fd, parts[:count]):
                    if made is not None:
                        with suppress(FileExistsError):
                            os.mkdir(name, dir_fd=fd)
                            made.append(count)
                    child = os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = child
            yield fd
        finally:
            os.close(fd)

    def _regular(self, parent: int, parts: tuple[str, ...]) -> None:
        """Raises for anything but a regular file: opening a device or a pipe may already do something."""
        with self._failing(parent, parts):
            mode = _lstat(parts[-1], parent).st_mode
        _refuse("/".join(parts), mode)

    @contextmanager
    def _failing(self, parent: int | None, parts: tuple[str, ...]) -> Iterator[None]:
        """An OSError as an error that a model can read. `parent`: the folder of the last name."""
        try:
            yield
        except LLMError:
            raise
        except OSError as error:
            raise self._error(error, parent, parts) from None

    def _error(self, error: OSError, parent: int | None, parts: tuple[str, ...]) -> EndpointError:
        path = _shown("/".join(parts) or ".")
        if error.errno == errno.ENOENT:
            return EndpointNotFound(f"there is no {path}", hint=self._nearest(parent, parts))
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return EndpointDenied(f"{path}: {_reason(error)}")
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and parent is not None and parts:
            with suppress(OSError):
                if stat.S_ISLNK(_lstat(parts[-1], parent).st_mode):
                    return EndpointDenied(f"{path} is a symbolic link, which is not followed")
            return EndpointRejected(f"{path} is not a folder")
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            return EndpointRejected(f"{path}: {_reason(error)}")
        return EndpointError(f"{path}: {_reason(error)}")

    def _nearest(self, parent: int | None, parts: tuple[str, ...]) -> str | None:
        """A name that differs in case, or in how its accents are written."""
        if parent is None or not parts:
            return None
        wanted = _folded(parts[-1])
        with suppress(OSError):
            for name, _ in _entries(parent, self.hidden):
                if _folded(name) == wanted:
                    return f"There is {_shown('/'.join((*parts[:-1], name)))}."
        return None


def is_hidden(name: str) -> bool:
    """True if a name begins with a dot, also behind characters that some file systems ignore."""
    return name.lstrip("".join(char for char in name if unicodedata.category(char) == "Cf")).startswith(".")


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """True if two looks at a file saw the same, unchanged."""
    return all(
        getattr(one, key) == getattr(other, key) for key in ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    )


def too_large(path: str, size: int, most: int) -> EndpointAnswerInvalid:
    """The error for a file that is larger than what is read of one."""
    return EndpointAnswerInvalid(f"{_shown(path)} has {size:,} bytes, and at most {most:,} are possible here")


def _refuse(path: str, mode: int) -> None:
    kind = kind_of(mode)
    if kind == "link":
        raise EndpointDenied(f"{_shown(path)} is a symbolic link, which is not followed")
    if kind == "folder":
        raise EndpointRejected(f"{_shown(path)} is a folder")
    if kind == "other":
        raise EndpointDenied(f"{_shown(path)} is a device, pipe or socket")


def _entries(fd: int, hidden: bool) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(fd) as entries:
        for number, entry in enumerate(entries):
            if number >= _MOST:
                break
            name = entry.name
            if (is_hidden(name) and not hidden) or (not name.isprintable() and _broken(name)):
                continue
            with suppress(OSError):
                found.append((name, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda pair: pair[0])


def _broken(name: str) -> bool:
    return any(0xD800 <= ord(char) <= 0xDFFF for char in name)


def _lstat(name: str, parent: int) -> os.stat_result:
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shown(path: str) -> str:
    return repr(path if len(path) <= 200 else f"{path[:200]}...")


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
