"""Reads `.env` files like python-dotenv, because other programs read the same file: multi-line values, quotes and
escapes, comments, `export`, names with dots, lone names, and `${NAME}` or `${NAME:-default}` in values.

Unreadable lines are skipped and reported; nothing is raised. The one difference: references may not add more than
10,000,000 characters to a file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple


class Line(NamedTuple):
    """A variable of the file, or the problem of a line (without the line itself: it may be a key)."""

    number: int
    name: str = ""
    value: str = ""
    problem: str | None = None


def read_lines(text: str, real: Mapping[str, str]) -> Iterator[Line]:
    """Yields the variables of a file, in order. `${NAME}` is a real variable (`real`), else one of an earlier line, else
    empty. A lone name without `=` is ignored."""
    earlier: dict[str, str] = {}
    reader, room = _Reader(text), _ROOM
    while reader.at < len(text):
        reader.take(_SPACE)
        number = reader.line
        try:
            found = reader.binding()
        except _Unreadable as error:
            reader.take(_REST)
            yield Line(number, problem=str(error))
            continue
        if found is None:
            continue
        name, value = found
        if "${" in value:
            added = sum(len(_referred(one, earlier, real)) for one in _REFERENCE.finditer(value))
            if added > room:
                yield Line(number, problem=f"references add more than {_ROOM:,} characters to the file")
                continue
            room -= added
            value = _REFERENCE.sub(lambda one: _referred(one, earlier, real), value)
        earlier[name] = value
        yield Line(number, name, value)


def decoded(data: bytes) -> tuple[str, bool]:
    """Returns a file's text, and whether the encoding was guessed: UTF-8, or UTF-16 with a byte order mark, else
    Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), False
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return data.decode("latin-1"), True


class _Unreadable(Exception):
    """The problem of a line."""


class _Reader:
    """A position in a text. It never moves back, not even after an unreadable line, like python-dotenv."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1

    def take(self, form: re.Pattern[str], problem: str = "not a line of the form NAME=value") -> str:
        found = form.match(self.text, self.at)
        if found is None:
            raise _Unreadable(problem)
        self.at = found.end()
        self.line += len(_NEWLINE.findall(found.group()))
        return found.group(found.lastindex or 0)

    def next(self) -> str:
        return self.text[self.at : self.at + 1]

    def binding(self) -> tuple[str, str] | None:
        """Reads the variable at this position; None for a comment, a lone name, or the end."""
        if not self.next():
            return None
        self.take(_EXPORT)
        name, value = "", None
        if self.next() != "#":
            name = self.take(_QUOTED_NAME if self.next() == "'" else _NAME)
        self.take(_BLANKS)
        if self.next() == "=":
            equals = self.take(_EQUALS)
            value = "" if len(equals) > 1 and self.next() == "#" else self.value()
        self.take(_COMMENT)
        self.take(_END)
        return (name, value) if name and value is not None else None

    def value(self) -> str:
        quote = self.next()
        if quote == "'":
            return re.sub(r"\\([\\'])", r"\1", self.take(_SINGLE, "a quote is not closed"))
        if quote == '"':
            text = self.take(_DOUBLE, "a quote is not closed")
            return re.sub(r"\\([\\'\"abfnrtv])", lambda one: _ESCAPES.get(one[1], one[1]), text)
        return re.sub(r"\s+#.*", "", self.take(_PLAIN)).rstrip()


_NEWLINE: Final = re.compile(r"\r\n|\n|\r")
_SPACE: Final = re.compile(r"\s*")
_BLANKS: Final = re.compile(r"[^\S\r\n]*")
_EXPORT: Final = re.compile(r"(?:export[^\S\r\n]+)?")
_QUOTED_NAME: Final = re.compile(r"'([^']+)'")
_NAME: Final = re.compile(r"[^=#\s]+")
_EQUALS: Final = re.compile(r"=[^\S\r\n]*")
_SINGLE: Final = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_PLAIN: Final = re.compile(r"[^\r\n]*")
_COMMENT: Final = re.compile(r"(?:[^\S\r\n]*#[^\r\n]*)?")
_END: Final = re.compile(r"[^\S\r\n]*(?:\r\n|\n|\r|$)")
_REST: Final = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)?")
_REFERENCE: Final = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
_ROOM: Final = 10_000_000
"""How many characters references may add to a file: a value of references to references doubles with every line."""
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _referred(one: re.Match[str], earlier: Mapping[str, str], real: Mapping[str, str]) -> str:
    name = one["name"]
    return real[name] if name in real else earlier.get(name, one["default"] or "")
