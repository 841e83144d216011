"""The display width of text: columns of a terminal, and lines that fit them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator


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
    one line. More text at the end changes the last line only."""
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
