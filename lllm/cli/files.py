"""Files that a command writes: looked at before the work is done, and then whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from lllm.core.visible import visible, visible_json
from lllm.errors import ConfigError, LLMError

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What is no fault of the command line."""


def can_be_written(file: Path | None) -> None:
    """Refuses a file that cannot be one, before there is anything to write into it.

    Raises:
        ConfigError: it is a folder, or nothing may be written where it is to be.
    """
    if file is None:
        return
    if not str(file).strip("."):
        raise ConfigError("the file to write has no name", hint="An unset variable?")
    try:
        if file.is_dir():
            raise ConfigError(f"{file} is a folder", hint=f"Name a file in it: {file / 'NAME'}")
        above = next(folder for folder in file.absolute().parents if folder.exists())
    except OSError as error:
        raise refused(file, error) from error
    if not above.is_dir():
        raise refused(file, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(above, os.W_OK) and (file.is_file() or not file.exists()):
        raise refused(file, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


@contextmanager
def writing(file: Path) -> Iterator[BinaryIO]:
    """A file to write to, that is there when all of it is. See `lllm.atomic_files.atomic`.

    Raises:
        ConfigError: it cannot be written there. LLMError: the disk is full, or broken.
    """
    from lllm.atomic_files import atomic

    can_be_written(file)
    try:
        with atomic(file) as there:
            yield there
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refused(file, error) from error


def encoded(text: str, file: BinaryIO, *, json: bool = False) -> bytes:
    """Returns what `file` gets of a text: a terminal (/dev/stdout, /dev/tty) what is visible of it, a file all. `json`: of a
    JSON text."""
    if file.isatty():
        text = visible_json(text) if json else visible(text)
    return text.encode("utf-8")


def refused(file: Path, error: OSError) -> LLMError:
    """What the system said of a file, with what to do about it."""
    message = f"{file} could not be written ({error.strerror or error})"
    if error.errno in FULL:
        return LLMError(message, hint="Make room there, or write to another disk.")
    return ConfigError(message, hint="Name a file in a folder that you may write to.")
