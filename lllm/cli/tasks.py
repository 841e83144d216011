"""The task of a command line: its argument, stdin, or both."""

from __future__ import annotations

import os
import select
import stat
import sys
from typing import Final

from lllm.cli import output, screen
from lllm.errors import ConfigError

PATIENCE: Final = 3.0
"""Seconds to wait for the first byte of a pipe next to an argument."""
EXAMPLE: Final = 'Type: lllm run "What is 17 times 23?"'


def task_of(given: str | None, stdin: bool | None = None) -> str:
    """Returns the task: the argument followed by the piped text, or one of them. `-` reads stdin.

    A program may be started with a pipe as its stdin that is never written to or closed. So next to an argument, a pipe
    without data within `PATIENCE` is ignored, with a note. `stdin` waits for it (True), or does not read it (False).

    Raises:
        ConfigError: there is no task, or it is not text.
    """
    if given in (None, "-"):
        if given is None and (screen.is_terminal(sys.stdin) or stdin is False):
            raise ConfigError("there is no task", hint=EXAMPLE)
        words = _read().strip()
    else:
        assert given is not None
        words = joined(given, "" if stdin is False else _piped(wait=bool(stdin)))
    try:
        words.encode()
    except UnicodeError:
        raise ConfigError("the task is not UTF-8 text") from None
    if not words.strip():
        raise ConfigError("the task is empty", hint=EXAMPLE)
    return words


def joined(task: str, piped: str) -> str:
    """A task followed by the text that it is about."""
    if not piped.strip():
        return task
    return f"{task}\n\n<stdin>\n{piped.strip(chr(10))}\n</stdin>" if task.strip() else piped.strip()


def _piped(*, wait: bool) -> str:
    """The text of stdin next to an argument; "" on a terminal."""
    if screen.is_terminal(sys.stdin):
        return ""
    if not wait and not _something_comes():
        output.say(
            f"note: nothing came from stdin within {PATIENCE:g} s, so it is ignored. To wait for it: --stdin"
        )
        return ""
    return _read()


def _something_comes() -> bool:
    """True if stdin can be read, or is at its end. Always True for files."""
    try:
        file = sys.stdin.fileno()
        mode = os.fstat(file).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return True
        return bool(select.select([file], [], [], PATIENCE)[0])
    except (OSError, ValueError):  # not a file: a test's StringIO
        return True


def _read() -> str:
    try:
        return sys.stdin.read()
    except UnicodeError:
        raise ConfigError("the piped text is not UTF-8") from None
