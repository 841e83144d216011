"""Text files that are written as their text comes, have their names only when they are whole, and overwrite nothing."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from lllm.errors import ConfigError

_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Faults of a file system that has no hard links, by which a new name is given without replacing one."""
_LONGEST: Final = 200
_SUFFIX: Final = ".txt"


def parse_name(name: object) -> tuple[str, str]:
    """A file's name and its suffix (`.txt` where it has none). ConfigError for what is not the plain name of a file."""
    hint = "Give the name of a file, as in base_filename='draft' or 'draft.md'; its folder is output_dir=."
    if not isinstance(name, str):
        raise ConfigError(f"base_filename must be text, got {type(name).__name__}", hint=hint)
    bad = (
        "is empty" if not name.strip()
        else "has a path in it" if any(mark in name for mark in "/\\:") or name in (".", "..")
        else "begins with a dot" if name.startswith(".")
        else "has characters that cannot be in a name" if not name.isprintable()
        else "is too long" if len(name.encode("utf-8", "surrogatepass")) > _LONGEST
        else None
    )  # fmt: skip
    if bad is not None:
        raise ConfigError(f"base_filename={name[:_LONGEST]!r} {bad}", hint=hint)
    path = Path(name)
    return (path.stem, path.suffix) if path.suffix else (name, _SUFFIX)


def make_folder(folder: Path) -> None:
    """Makes a folder where it is missing. ConfigError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output_dir={str(folder)!r} cannot be made: {error.strerror or error}") from None


class OutputFile:
    """A file of a folder. What is written goes into a hidden file beside it, until `put`.

    Args:
        stem, suffix: its name, where that is free; else a number goes between: `draft-2.txt`.
    """

    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        self._folder = folder
        self._stem, self._suffix = stem, suffix
        self._part = folder / f".{stem}.{os.getpid()}.{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None
        self._written: list[str] = []
        self.failed = False

    def write(self, text: str) -> None:
        """Adds text. Where that fails, nothing more is written before `put`, which then writes all of it."""
        if self.failed:
            return
        try:
            self._add(text.encode("utf-8", "replace"))
            self._written.append(text)
        except OSError:
            self.failed = True
            self.discard()

    def restart(self) -> None:
        """Takes back what was written."""
        self.discard()
        self.failed = False

    def put(self, text: str, *, again: bool = False) -> str:
        """Gives the file its name, with this text in it, and returns its path. An existing file is left as it is, and the next
        free name taken. `again`: a file that has this very text may be this one, put before.

        Raises:
            OSError: the disk is full, or another fault.
        """
        data = text.encode("utf-8", "replace")
        if "".join(self._written) != text:
            self.discard()
        try:
            if self._file is None:
                self._add(data)
            assert self._file is not None
            os.fsync(self._file.fileno())
            self._file.close()
            for path in self._names():
                if again and path.is_file() and path.read_bytes() == data:
                    return str(path)
                if _named(self._part, path):
                    return str(path)
        finally:
            self.discard()
        raise AssertionError("there are always further names")

    def discard(self) -> None:
        """Removes what has no name yet. A second time does nothing."""
        file, self._file = self._file, None
        self._written = []
        if file is not None:
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _add(self, data: bytes) -> None:
        if self._file is None:
            self._file = open(self._part, "xb", buffering=0)  # noqa: SIM115  `put` and `discard` close it
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def _names(self) -> Iterator[Path]:
        yield self._folder / f"{self._stem}{self._suffix}"
        number = 2
        while True:
            yield self._folder / f"{self._stem}-{number}{self._suffix}"
            number += 1


def _named(part: Path, path: Path) -> bool:
    """Gives a file a name that is free, and says whether it was."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # takes the name
        except FileExistsError:
            return False
        os.replace(part, path)
    return True
