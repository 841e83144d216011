"""A terminal's width and colours, and the display width of text. Needs no package: output must work without `rich`."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def width() -> int:
    """Columns of the terminal; $COLUMNS, or 80 if unknown."""
    return max(20, shutil.get_terminal_size().columns)


def is_terminal(stream: Any) -> bool:
    """True if a stream is a terminal. False for a closed stream."""
    try:
        return bool(stream is not None and stream.isatty())
    except (OSError, ValueError):
        return False


def capable(stream: Any) -> bool:
    """True if a stream is a terminal that understands escape sequences."""
    return is_terminal(stream) and os.environ.get("TERM", "") not in ("", "dumb")


def paint(text: str, style: str | None, stream: Any) -> str:
    """Styles text (bold, dim, a colour) if the stream is a terminal that supports it and NO_COLOR is not set."""
    if not style or not text or os.environ.get("NO_COLOR") or not capable(stream):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def columns(text: str) -> int:
    """Columns that a line takes: East Asian characters and emoji take two, accents none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def pad(text: str, wide: int) -> str:
    """Pads a line with spaces to a width."""
    return text + " " * (wide - columns(text))


def cut(text: str, wide: int) -> str:
    """Cuts a line to a width, with an ellipsis if it does not fit."""
    if columns(text) <= wide:
        return text
    taken = 0
    for index, char in enumerate(text):
        taken += _columns(char)
        if taken > wide - 1:
            return text[:index].rstrip() + "…"
    return text


def wrap(text: str, wide: int) -> list[str]:
    """Wraps a line to a width, at spaces if possible, else after a slash. Leading spaces are kept; an empty line stays
    one line."""
    return [line for part in text.split("\n") for line in _wrapped(part.expandtabs(4), max(1, wide))]


def _wrapped(line: str, wide: int) -> Iterator[str]:
    while columns(line) > wide:
        taken, at = 0, 0
        while at < len(line) and taken + _columns(line[at]) <= wide:
            taken += _columns(line[at])
            at += 1
        space = line.rfind(" ", 0, at + 1)
        if space > 0 and line[:space].strip():
            yield line[:space].rstrip()
            line = line[space + 1 :]
        else:
            at = max(1, at)
            slash = line.rfind("/", 0, at) + 1  # a path is easier to read when names stay whole
            at = slash if slash > at // 3 and line[:slash].strip("/") else at
            yield line[:at]
            line = line[at:]
    yield line
