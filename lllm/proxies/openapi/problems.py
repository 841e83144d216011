"""Problems of an import: operations that are skipped, and notes about others."""

from __future__ import annotations

from typing import Any, NamedTuple

from lllm.core.visible import visible_line


class Unusable(Exception):
    """A part of a document that cannot be used. The operation that needs it is skipped, with this reason."""


class Skipped(NamedTuple):
    """An operation that was not imported.

    Attributes:
        operation: `POST /pets`. at: the JSON pointer of its place in the document. reason: why.
    """

    operation: str
    at: str
    reason: str


class Note(NamedTuple):
    """Something of an imported operation that was left out or understood in one of several ways. Attributes as of Skipped."""

    operation: str
    at: str
    text: str


def shown(value: Any, most: int = 80) -> str:
    """A value of a document within a message: one line, and not long."""
    text = visible_line(value if isinstance(value, str) else repr(value))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def kind_of(value: Any) -> str:
    """The kind of a value in JSON's words, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return f"the text '{shown(value, 40)}'"
        case list():
            return "a list"
        case _:
            return "an object"


def mapping(value: Any, at: str) -> dict[str, Any]:
    """The value, which must be an object. Unusable says what it is instead."""
    if not isinstance(value, dict):
        raise Unusable(f"{at} must be an object, got {kind_of(value)}")
    return value
