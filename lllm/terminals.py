"""Writes to terminals and pipes that may be closed: a closed window, a dropped connection, a reader that has exited.

Output that cannot be shown is dropped and the work continues: the log has everything. `show` is for text that this
package prints; `outlast` covers everything else that the process prints.
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
    """True if an error means that output can no longer be shown: the terminal was closed, the pipe has no reader, or the
    file object is closed."""
    if isinstance(error, OSError):
        return error.errno in _GONE
    return isinstance(error, ValueError) and "closed file" in str(error)


def is_terminal(stream: Any) -> bool:
    """True if a stream is a terminal. False for a closed stream."""
    try:
        return bool(stream is not None and stream.isatty())
    except (OSError, ValueError):
        return False


def capable(stream: Any) -> bool:
    """True if a stream is a terminal that understands escape sequences."""
    return is_terminal(stream) and os.environ.get("TERM", "") not in ("", "dumb")


def has_colours(stream: Any) -> bool:
    """True if a stream is a terminal that shows colours, and NO_COLOR is not set."""
    return not os.environ.get("NO_COLOR") and capable(stream)


def columns(stream: Any) -> int:
    """Columns of a stream's terminal: $COLUMNS, else what the terminal says, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def show(stream: Any, text: str, *, flush: bool = True) -> bool:
    """Writes text to a stream. Returns False, without raising, if the stream is closed; every other error is raised."""
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
    """Logs a warning, without raising if a handler's stream is closed: `logging` itself lets that error through."""
    try:
        log.warning(words, *values)
    except (OSError, ValueError) as error:
        if not is_gone(error):
            raise


def outlast() -> None:
    """From here on, printing does not fail because stdout or stderr is closed. A replaced stream (a test's, a notebook's)
    is left unchanged."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)  # unbuffered ($PYTHONUNBUFFERED): the raw file itself
        if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
            continue
        with suppress(OSError, ValueError):
            stream.flush()
            lasting = _Lasting(stream.fileno(), "w", closefd=False)
            lasting.before = stream  # keep it: collecting it would close the descriptor
            wrapped = io.TextIOWrapper(
                lasting if raw is buffer else io.BufferedWriter(lasting),
                stream.encoding,
                stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, wrapped)


class _Lasting(io.FileIO):
    """A file descriptor that becomes /dev/null when its target is closed, for child processes, too."""

    before: Any = None
    """The stream with this descriptor."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not is_gone(error):
                raise
            _bury(self.fileno())
            return memoryview(data).nbytes


def _bury(found: int) -> None:
    """Redirects a closed descriptor to /dev/null, and also stdout and stderr if they are closed."""
    null = os.open(os.devnull, os.O_WRONLY)
    watched = select.poll()
    for descriptor in (1, 2):
        watched.register(descriptor, 0)  # errors and hangups are always reported
    for descriptor in {found, *(gone for gone, _ in watched.poll(0))}:
        os.dup2(null, descriptor)
    os.close(null)
