"""Writing to a terminal or pipe that may be gone: a closed window, a dropped connection, a reader that has seen enough.

What cannot be shown is dropped, and the work goes on: the log has all of it. `show` is for text that this package prints;
`outlast` sees to everything else that a process prints, whoever does.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from logging import Logger

_GONE: Final = frozenset((errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO, errno.ENODEV, errno.ECONNRESET))


def is_gone(error: BaseException) -> bool:
    """Whether an error says that nobody can see what is printed any more: the terminal was closed, nobody reads the pipe, or
    the file object is closed."""
    if isinstance(error, OSError):
        return error.errno in _GONE
    return isinstance(error, ValueError) and "closed file" in str(error)


def show(stream: Any, text: str, *, flush: bool = True) -> bool:
    """Writes text to a stream. False, and nothing is raised, where that is gone; every other error is raised."""
    if stream is None:
        return False
    try:
        stream.write(text)
        if flush:
            stream.flush()
    except (OSError, ValueError) as error:
        if not is_gone(error):
            raise
        return False
    return True


def warn(log: Logger, words: str, *values: Any) -> None:
    """Logs a warning. Nothing is raised where what a handler of it prints to is gone: `logging` itself lets a closed stream
    through."""
    try:
        log.warning(words, *values)
    except (OSError, ValueError) as error:
        if not is_gone(error):
            raise


def outlast() -> None:
    """From here on nothing that this process prints fails because stdout or stderr is gone. A stream of somebody else's in
    their place (a test's, a notebook's) is left as it is."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)  # without buffers ($PYTHONUNBUFFERED) it stands there alone
        if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
            continue
        with suppress(OSError, ValueError):
            stream.flush()
            lasting = _Lasting(stream.fileno(), "w", closefd=False)
            lasting.before = stream  # nobody else may hold it, and collected it would close the descriptor
            wrapped = io.TextIOWrapper(
                lasting if raw is buffer else io.BufferedWriter(lasting),
                stream.encoding,
                stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, wrapped)


class _Lasting(io.FileIO):
    """A file descriptor that becomes /dev/null when what it was is gone, for child processes, too."""

    before: Any = None
    """The stream whose descriptor it is."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not is_gone(error):
                raise
            _bury(self.fileno())
            return memoryview(data).nbytes


def _bury(found: int) -> None:
    """Puts /dev/null in the place of a descriptor that is gone, and of stdout and stderr, where they are gone as well."""
    null = os.open(os.devnull, os.O_WRONLY)
    watched = select.poll()
    for descriptor in (1, 2):
        watched.register(descriptor, 0)  # an error or a hangup is told in any case
    for descriptor in {found, *(gone for gone, _ in watched.poll(0))}:
        os.dup2(null, descriptor)
    os.close(null)
