"""A mapping that is a value: `with_` gives another one, in about the time of its logarithm, and leaves the old one as it is.

A call of thousands of tool rounds remembers something of each of them. A tuple, or a copied dict, would make every round
cost as much as all before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Known(Generic[V]):
    """Values by text. Equal to another one that holds the same."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[dict[str, V | None], ...] = ()) -> None:
        self._parts = parts  # newest first, each at least twice the size of the one before; None: removed

    def get(self, key: str) -> V | None:
        """The value, or None."""
        for part in self._parts:
            if key in part:
                return part[key]
        return None

    def with_(self, key: str, value: V) -> Known[V]:
        """The mapping with this value."""
        return self._put(key, value)

    def without(self, key: str) -> Known[V]:
        """The mapping without a value for this key."""
        return self if self.get(key) is None else self._put(key, None)

    def _put(self, key: str, value: V | None) -> Known[V]:
        parts = self._parts
        new: dict[str, V | None] = {key: value}
        at = 0
        while at < len(parts) and len(parts[at]) <= len(new):
            new = {**parts[at], **new}
            at += 1
        if at < len(parts):
            return Known((new, *parts[at:]))
        if None in new.values():  # below it there is nothing that could come to light again
            new = {key: value for key, value in new.items() if value is not None}
        return Known((new,)) if new else Known()

    def only(self, wanted: Callable[[V], bool]) -> Known[V]:
        """Those that are wanted: the mapping itself where that is all of them. Looks at each."""
        found = self.held()
        kept: dict[str, V | None] = {key: value for key, value in found.items() if wanted(value)}
        return self if len(kept) == len(found) else Known((kept,)) if kept else Known()

    def held(self) -> dict[str, V]:
        """All of it."""
        whole: dict[str, V | None] = {}
        for part in reversed(self._parts):
            whole.update(part)
        return {key: value for key, value in whole.items() if value is not None}

    def __bool__(self) -> bool:
        """False: there is nothing. (True: there is, or was, something.)"""
        return bool(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and (self._parts == other._parts or self.held() == other.held())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Known({self.held()!r})"
