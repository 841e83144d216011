"""The requests that a scripted backend was asked, kept so that a dialog of many turns takes no more room than its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, overload

from lllm.models.message import Message
from lllm.ports import Request

KEPT: Final = 10_000
"""Requests that are kept."""
_SHORT: Final = 64
"""Requests of fewer messages are kept as they came."""


class _Line:
    """Messages that requests go on with, behind the first `base` of the line `before`; and the characters up to each."""

    __slots__ = ("base", "before", "lengths", "messages")

    def __init__(self, before: _Line | None = None, base: int = 0) -> None:
        self.before, self.base = before, base
        self.messages: list[Message] = []
        self.lengths: list[int] = []

    def fork(self, count: int) -> _Line:
        """A line behind the first `count` messages of this one."""
        line: _Line | None = self
        while line is not None and count <= line.base:
            line = line.before
        return _Line(line, count)

    def length(self, count: int) -> int:
        """Characters of the first `count` messages."""
        line: _Line | None = self
        while line is not None and count <= line.base:
            line = line.before
        return 0 if line is None else line.lengths[count - line.base - 1]

    def first(self, count: int) -> tuple[Message, ...]:
        parts: list[list[Message]] = []
        line: _Line | None = self
        while line is not None:
            if count > line.base:
                parts.append(line.messages[: count - line.base])
                count = line.base
            line = line.before
        return tuple(chain.from_iterable(reversed(parts)))


class Requests(Sequence[Request]):
    """Reads like the list of them, oldest first. Of more than KEPT, the newest are there."""

    def __init__(self) -> None:
        # a long request without its messages: so many of the line's first
        self._kept: deque[tuple[Request, _Line | None, int]] = deque(maxlen=KEPT)
        self._line = _Line()
        self._last: tuple[Message, ...] = ()

    def add(self, request: Request) -> int:
        """Keeps a request. Returns the characters of its messages."""
        messages, last = request.messages, self._last
        same = min(
            len(messages), len(last)
        )  # so many it has in common with the one before: nearly always, all of that
        while same and messages[same - 1] is not last[same - 1]:
            same -= 1
        if messages[:same] != last[:same]:
            same = 0
        if same < len(last):
            self._line = self._line.fork(same)
        line = self._line
        total = line.length(same)
        for message in messages[same:]:
            total += len(message.content) if type(message.content) is str else len(message.text)
            line.messages.append(message)
            line.lengths.append(total)
        self._last = messages
        if len(messages) < _SHORT:
            self._kept.append((request, None, 0))
        else:
            self._kept.append((request._replace(messages=()), line, len(messages)))
        return total

    def clear(self) -> None:
        """Forgets them."""
        self._kept.clear()

    @overload
    def __getitem__(self, at: int) -> Request: ...
    @overload
    def __getitem__(self, at: slice) -> list[Request]: ...
    def __getitem__(self, at: int | slice) -> Request | list[Request]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        request, line, count = self._kept[at]
        return request if line is None else request._replace(messages=line.first(count))

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Requests | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
