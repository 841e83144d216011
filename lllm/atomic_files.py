"""Text files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, line ends as they are. A byte order mark is no part of it."""
    return Path(path).read_bytes().decode("utf-8-sig")


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 file. See `atomic`."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, that takes the place of `path` when the block has ended without an exception. A reader, and a
    process that is killed half-way, sees the old file or the new one, never a part. Folders above it are made; an
    existing file keeps its mode. What is no file (/dev/stdout, a named pipe) is written to as it is."""
    target = Path(path)
    if target.exists() and not target.is_file():
        with open(target, "wb") as there:
            yield there
        return
    target = target.resolve() if target.is_symlink() else target  # a link stays one
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            if target.exists():
                os.chmod(part, target.stat().st_mode & 0o7777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
