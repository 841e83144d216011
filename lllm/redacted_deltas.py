"""Removes secrets from the deltas of a reply, also if one is split into several deltas."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from lllm.core.redact import Redactor
from lllm.core.redact_pieces import Pieces
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Restart, TextDelta, ThinkingDelta, ToolCallDelta


class RedactedDeltas:
    """The deltas of one agent call. For each text (the answer, the thinking, the arguments of each tool call) followers
    receive what the log will hold, and the same text in a replay. Text that may begin a secret is held back until the
    next delta."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._texts: dict[type | int, Pieces] = {}
        self._current: type | int | None = None

    def take(self, delta: Delta) -> Iterator[Delta]:
        """Yields what may be shown after this delta."""
        if isinstance(delta, TextDelta | ThinkingDelta):
            text = yield from self._piece(type(delta), delta.text)
            if text:
                yield delta if text is delta.text else type(delta)(text)
        elif isinstance(delta, ToolCallDelta):
            text = yield from self._piece(delta.index, delta.arguments)
            name = None if delta.name is None else self._redactor.text(delta.name)
            id = None if delta.id is None else self._redactor.text(delta.id)
            if text or id is not None or name is not None:
                made = ToolCallDelta(delta.index, id, name, text)
                yield delta if made == delta else made
        elif isinstance(delta, Restart):
            self._forget()
            yield delta
        else:
            yield from self.rest()
            yield Completed(self._reply(delta.reply))

    def rest(self) -> Iterator[Delta]:
        """Yields the text held back; call it after the last delta."""
        for key, text in self._texts.items():
            if rest := text.rest():
                yield _delta(key, rest)
        self._forget()

    def _piece(self, key: type | int, text: str) -> Generator[Delta, None, str]:
        before, self._current = self._current, key
        if before is not None and before != key and (held := self._texts[before].release()):
            yield _delta(before, held)
        pieces = self._texts.get(key)
        if pieces is None:
            pieces = self._texts[key] = Pieces(self._redactor)
        return pieces.take(text)

    def _forget(self) -> None:
        self._texts.clear()
        self._current = None

    def _reply(self, reply: Reply) -> Reply:
        record = reply.record()
        clean = self._redactor.clean(record)
        return reply if clean is record else Reply.from_record(clean)


def _delta(key: type | int, text: str) -> Delta:
    if isinstance(key, int):
        return ToolCallDelta(key, arguments=text)
    made: Delta = key(text)
    return made
