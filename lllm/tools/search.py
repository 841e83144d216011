"""Finds tools by what they do, in the words of the one who asks. See `lllm.search`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lllm.models.function import Function
from lllm.search import Described
from lllm.search import Index as _Index


class Index(_Index[Function]):
    """Functions, searchable by what they do."""

    def __init__(self, functions: Sequence[Function]) -> None:
        super().__init__(functions, described)


def described(function: Function) -> Described:
    """What is searched of a function."""
    details = " ".join(_details(function.parameters))
    return Described(function.name, function.description, tuple(_names(function.parameters)), details)


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, one in (schema.get("properties") or {}).items():
        yield str(name)
        if isinstance(one, Mapping):
            yield from (str(value) for value in one.get("enum") or () if isinstance(value, str))


def _details(schema: Mapping[str, Any]) -> Iterator[str]:
    for one in (schema.get("properties") or {}).values():
        if isinstance(one, Mapping) and isinstance(text := one.get("description"), str):
            yield text[:200]
