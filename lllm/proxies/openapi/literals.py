"""JSON values as Python literals, laid out as the formatter does it.

Every text becomes a literal of printable characters: nothing of a document can end one.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

WIDTH: Final = 110


class Name(str):
    """A name that stands in the module as it is, not as a text."""


def width(text: str) -> int:
    """Columns of a text."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text
    )


def text_literal(text: str) -> str:
    """A text as a literal on one line."""
    quoted = repr(text)
    if quoted[0] == '"':
        return quoted
    inner = quoted[1:-1].replace("\\'", "'")
    if '"' not in text:
        return f'"{inner}"'
    if "'" not in text or text.count('"') > text.count("'"):
        return quoted
    return '"' + inner.replace('"', '\\"') + '"'


def literal(value: Any, indent: int = 0, before: int = 0, after: int = 1) -> str:
    """A value as a literal, whose first line begins behind `before` columns and whose last is followed by `after`."""
    if isinstance(value, Name):
        return str(value)
    short = _short(value)
    if indent + before + width(short) + after <= WIDTH or not isinstance(value, dict | list | tuple | str):
        return short
    if isinstance(value, str):
        return _long_text(value, indent)
    if not value:
        return short
    inner = " " * (indent + 4)
    opening, closing = "{}" if isinstance(value, dict) else "[]" if isinstance(value, list) else "()"
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            shown = _key(str(key), indent + 4)
            last = width(shown.rpartition("\n")[2].lstrip()) if "\n" in shown else width(shown)
            lines.append(f"{inner}{shown}: {literal(item, indent + 4, last + 2)},")
    else:
        lines += [f"{inner}{literal(item, indent + 4)}," for item in value]
    return "\n".join((opening, *lines, f"{' ' * indent}{closing}"))


def _short(value: Any) -> str:
    match value:
        case Name():
            return str(value)
        case None | bool():
            return repr(value)
        case str():
            return text_literal(value)
        case int():
            return repr(value) if -(10**1000) < value < 10**1000 else hex(value)
        case float():
            return repr(value)
        case dict():
            return (
                "{"
                + ", ".join(f"{text_literal(str(key))}: {_short(item)}" for key, item in value.items())
                + "}"
            )
        case list():
            return "[" + ", ".join(map(_short, value)) + "]"
        case tuple():
            return "(" + ", ".join(map(_short, value)) + ("," if len(value) == 1 else "") + ")"
    raise TypeError(type(value).__name__)


def _key(key: str, indent: int) -> str:
    short = text_literal(key)
    return short if indent + width(short) + 3 <= WIDTH + 10 else _long_text(key, indent)


def _long_text(text: str, indent: int) -> str:
    """A text over several lines, in parentheses."""
    inner = " " * (indent + 4)
    if indent + 4 + width(text_literal(text)) <= WIDTH:
        return f"(\n{inner}{text_literal(text)}\n{' ' * indent})"
    room = max(WIDTH - indent - 4, 40)
    pieces: list[str] = []
    piece = ""
    for word in _words(text, room // 6):
        if piece and width(text_literal(piece + word)) > room:
            pieces.append(piece)
            piece = ""
        piece += word
    pieces.append(piece)
    if len(pieces) == 1:
        return text_literal(text)
    return "\n".join(("(", *(f"{inner}{text_literal(one)}" for one in pieces), f"{' ' * indent})"))


def _words(text: str, longest: int) -> list[str]:
    """The text cut behind spaces, and within what is longer than `longest`."""
    found: list[str] = []
    for word in text.replace("\n", "\n\0").replace(" ", " \0").split("\0"):
        found += [word[start : start + longest] for start in range(0, len(word), longest)]
    return found
