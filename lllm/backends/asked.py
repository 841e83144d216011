"""The requests that a scripted backend was asked, kept so that a dialog of many turns takes no more room than its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, overload

from lllm.models.message import Message
from lllm.ports import Request

_SHORT: Final = 64
"""Requests of fewer messages are kept as they came."""


class _Line:
    """The messages of a dialog that requests go on with, and the characters up to each."""

    __slots__ = ("lengths", "messages")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.lengths: list[int] = []


class Requests(Sequence[Request]):
    """Reads like the list of them, oldest first."""

    def __init__(self) -> None:
        # a long request without its messages: so many of the line's first
        self._kept: list[tuple[Request, _Line | None, int]] = []
        self._line = _Line()
        self._last: tuple[Message, ...] = ()

    def add(self, request: Request) -> int:
        """Keeps a request. Returns the characters of its messages."""
        messages, last = request.messages, self._last
        if messages[: len(last)] != last:  # nearly always, a dialog goes on
            self._line, last = _Line(), ()
        line = self._line
        total = line.lengths[-1] if last else 0
        for message in messages[len(last) :]:
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
        return request if line is None else request._replace(messages=tuple(line.messages[:count]))

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Requests | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
