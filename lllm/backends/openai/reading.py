"""Parses one answer of a chat-completions endpoint, from bytes to a reply. Does no network I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson

from lllm.backends.openai.faults import MISREAD, ErrorObject, Faults
from lllm.backends.openai.fields import Unreadable, has_long_number, loads
from lllm.backends.openai.reply import Assembly
from lllm.deltas import pieces
from lllm.errors import ProviderError
from lllm.http.sse import BOM, Event, SSEParser
from lllm.models.reply import Reply
from lllm.ports import Delta

_loads = orjson.loads
_HEAD: Final = 2000
"""Bytes kept of an answer without events, for the error message, unless it looks like JSON."""
_EVENTS: Final = re.compile(rb"(?:\A|[\r\n])data:")


class Reading:
    """Parses one answer: `whole(data)`, or `feed(piece)` for every chunk of a stream and then `end()`.

    Every error is a ProviderError with the text so far in `partial`. It has no `__cause__`: the caught exception holds
    the whole answer.
    """

    __slots__ = ("_assembly", "_faults", "_head", "_model", "_parser", "begun", "done")

    def __init__(self, assembly: Assembly, faults: Faults, model: str) -> None:
        self._assembly = assembly
        self._faults = faults
        self._model = model
        self._parser: SSEParser | None = None
        self._head = b""  # bytes before the first event: a web page, or an unstreamed answer
        self.begun = False
        """True once an event has arrived."""
        self.done = False
        """True once the stream has announced its end."""

    @property
    def partial(self) -> str:
        return self._assembly.partial

    def noted(self, fault: ProviderError) -> ProviderError:
        """The fault, with the tokens and the model that the answer had named before it broke off."""
        fault.usage, fault.model = self._assembly.used
        return fault

    @property
    def ended(self) -> bool:
        """True if the reply is complete: only usage may be missing."""
        return self.done or self._assembly.finish is not None

    def whole(self, data: bytes) -> Reply:
        """The reply of an unstreamed answer. Some servers stream even if not asked to."""
        data = data.removeprefix(BOM)
        if data.lstrip()[:1] not in (b"{", b"[", b"<") and _EVENTS.search(data):
            for _ in self.feed(data):
                pass
            for _ in self.feed(b""):
                pass
            return self.end()[1]
        try:
            value, loose = loads(data)
        except Unreadable:
            loose, value = False, Unreadable
        if value is Unreadable:
            raise self._faults.of_protocol("the answer is not JSON", data, status=200)
        try:
            self._assembly.loose = loose
            self._assembly.body(value)
            self._assembly.close()
            return self._assembly.reply()
        except MISREAD as error:
            fault = self._fault(error, data)
        raise fault

    def feed(self, piece: bytes) -> Iterator[Delta]:
        """Yields the deltas of the next bytes of a stream; empty bytes at its end release what is still open."""
        last = not piece
        parser = self._parser
        if parser is None:
            parser = self._parser = SSEParser()
        events = parser.close() if last else parser.feed(piece)
        if events:
            self.begun = True
        elif not self.begun and (len(self._head) < _HEAD or self._head.lstrip()[:1] in (b"{", b"[")):
            self._head += piece
        for event in events:
            if self.done:
                return
            try:  # fast path for nearly every event
                value = _loads(event.data)
                odd = bool(event.name) or has_long_number(event.data)
            except ValueError:  # nothing is raised here: the exception would hold the whole event
                odd = True
            if odd:
                yield from self._event(event, cut=last)
                continue
            try:
                deltas = self._assembly.chunk(value)
            except MISREAD as error:
                fault = self._fault(error, event.data)
            else:
                yield from deltas
                continue
            raise fault

    def end(self) -> tuple[Sequence[Delta], Reply]:
        """Returns the deltas held back, and the reply. Raises ProviderError if the stream is incomplete or held no
        answer."""
        if not self.begun and not self.done:
            head = self._head.removeprefix(BOM).strip()
            if head[:1] not in (b"{", b"["):
                raise self._faults.of_protocol("the stream has no events", head, status=200)
            reply = self.whole(head)  # an unstreamed answer with a different content type
            return pieces(reply), reply
        if not self.ended:
            raise self._faults.interrupted("it ended without a finish reason", partial=self.partial)
        try:
            return self._assembly.close(), self._assembly.reply()
        except MISREAD as error:
            fault = self._fault(error, b"")
        raise fault

    def _event(self, event: Event, *, cut: bool) -> Iterator[Delta]:
        """Yields the deltas of one event. `cut`: the connection ended within it."""
        data = event.data
        if data.strip() == b"[DONE]":
            self.done = True
            return
        fault: ProviderError | None = None
        values: Iterable[tuple[Any, bool]]
        try:
            try:
                values = (loads(data),)
            except Unreadable:
                if cut and self.ended:
                    return  # only usage: the reply is complete without it
                values = self._lines(event)
            for value, loose in values:
                if event.name == b"error" and not (isinstance(value, dict) and value.get("error")):
                    raise ErrorObject(value)
                self._assembly.loose = self._assembly.loose or loose
                yield from self._assembly.chunk(value)
        except MISREAD as error:
            fault = self._fault(error, data)
        if fault is not None:
            raise fault

    def _lines(self, event: Event) -> Iterator[tuple[object, bool]]:
        """Yields the values of an event with one value per line: some servers omit the empty line between events."""
        for line in event.data.split(b"\n"):
            if line.strip() == b"[DONE]":
                self.done = True
                return
            if not line.strip():
                continue
            try:
                yield loads(line)
            except Unreadable:
                line = line[:_HEAD]
                if event.name == b"error":
                    yield line.decode("utf-8", "replace"), False
                    return
                break
        else:
            return
        raise self._faults.of_protocol(
            "the answer cannot be read: part of it is not JSON",
            event.data,
            partial=self.partial,
            status=200,
        )

    def _fault(self, error: Exception, data: bytes) -> ProviderError:
        if isinstance(error, ProviderError) and error.status is not None:
            return error  # already created here
        return self._faults.of_misread(error, data, model=self._model, partial=self.partial)
