"""Server-sent events, read from bytes that may be cut anywhere."""

from __future__ import annotations

from typing import Final, NamedTuple

BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name (empty for most) and its data."""

    name: bytes
    data: bytes


class SSEParser:
    """`feed(piece)` returns the events completed by this chunk; `close()` the event that was still open.

    Follows the standard: `data:` lines are joined by a newline, an empty line ends an event, a line that starts with a
    colon is a comment (such as heartbeats), lines end with LF, CRLF or CR, a byte order mark at the start is ignored. One
    exception: `close()` returns an event without its final empty line, because some servers never send it.
    """

    __slots__ = ("_after_cr", "_data", "_name", "_rest", "_start")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # a line whose end has not come, in the pieces that have
        self._start: bytes | None = b""  # the first bytes, while they may be a byte order mark
        self._data: list[bytes] = []
        self._name = b""
        self._after_cr = (
            False  # the last piece ended with CR: an LF right after it belongs to that line's end
        )

    def feed(self, piece: bytes) -> list[Event]:
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < 3 and BOM.startswith(piece):
                self._start = piece
                return []
            self._start = None
            piece = piece.removeprefix(BOM)
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest and b"\n" in piece:
            piece, self._rest = b"".join((*self._rest, piece)), []
        lines = piece.split(b"\n")
        if last := lines.pop():
            self._rest.append(last)
        events: list[Event] = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append(self._event())
            else:
                self._name = b""
        return events

    def close(self) -> list[Event]:
        """The event that was not ended properly, if there is one."""
        line = b"".join((*self._rest, self._start or b""))
        self._start, self._rest = None, []
        if line:
            self._line(line)
        return [self._event()] if self._data else []

    def _event(self) -> Event:
        data = self._data
        event = Event(self._name, data[0] if len(data) == 1 else b"\n".join(data))
        self._data = []
        self._name = b""
        return event

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ")
        elif line == b"data":
            self._data.append(b"")
        # everything else is a comment, an id, a retry time, or a field that the standard tells us to ignore
