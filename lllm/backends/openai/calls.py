"""Assembles tool calls from the chunks of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from lllm.backends.openai.extras import merge
from lllm.backends.openai.fields import arguments_text, as_object, as_text, joined, kept
from lllm.core.jsonable import unicode_only
from lllm.models.message import unknown
from lllm.ports import ToolCallDelta

_OF_CALL: Final = frozenset(("id", "index", "type", "function", "name", "arguments"))
_OF_FUNCTION: Final = frozenset(("name", "arguments"))


class Slot:
    """A tool call as received so far."""

    __slots__ = ("arguments", "extra", "half", "id", "name")

    def __init__(self) -> None:
        self.half = ""  # half of a surrogate pair at the end of the arguments so far
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    def whole(self) -> bool:
        """True if the arguments so far are complete: what follows is another call."""
        try:
            orjson.loads(self.text)
        except orjson.JSONDecodeError:
            return False
        return True


class Piece:
    """A parsed entry of `tool_calls`. `extras`: keep the provider's own keys."""

    __slots__ = ("arguments", "extra", "id", "index", "name")

    def __init__(self, entry: Any, place: str, extras: bool) -> None:
        call = as_object(entry, place)
        function = call.get("function")
        if not function and ("name" in call or "arguments" in call):
            function = call  # the flat form
        inner = as_object({} if function is None else function, f"{place}.function")
        self.name = as_text(inner.get("name"), f"{place}.function.name")
        self.arguments = arguments_text(inner.get("arguments"), f"{place}.function.arguments")
        ident = call.get("id")
        self.id = str(ident) if isinstance(ident, str | int) and not isinstance(ident, bool) else ""
        self.index = _index(call.get("index"))
        self.extra: Mapping[str, Any] = {}
        if extras:
            self.extra = kept(unknown(call, _OF_CALL))
            if inner is not call and (more := kept(unknown(inner, _OF_FUNCTION))):
                self.extra = {**self.extra, "function": more}


class Calls:
    """The tool calls of one reply."""

    __slots__ = ("_by_index", "_extras", "slots")

    def __init__(self, extras: bool) -> None:
        self.slots: list[Slot] = []
        self._by_index: dict[int, Slot] = {}
        self._extras = extras

    def whole(self, entries: Sequence[Any], place: str) -> None:
        """Adds calls that each came in one chunk, whatever their indexes are."""
        for number, entry in enumerate(entries):
            piece = Piece(entry, f"{place}[{number}]", self._extras)
            slot = Slot()
            slot.id, slot.name = piece.id, piece.name
            slot.arguments.append(unicode_only(piece.arguments))
            merge(slot.extra, piece.extra)
            self.slots.append(slot)

    def add(self, entry: Any, place: str, loose: bool = False) -> Sequence[ToolCallDelta]:
        """Adds one chunk of a call to the call that it belongs to. `loose`: see `fields.loads`."""
        piece = Piece(entry, place, self._extras)
        known = len(self.slots)
        slot = self._slot(piece.index, piece.id, piece.name)
        number = self.slots.index(slot)
        new_id = new_name = None
        if not slot.id and piece.id:
            new_id = slot.id = piece.id
        if not slot.name and piece.name:
            new_name = slot.name = piece.name
        if piece.extra:
            merge(slot.extra, piece.extra)
        arguments = piece.arguments
        if arguments[:1] == "{" and arguments == slot.text and slot.whole():
            arguments = ""  # the complete call is repeated at the end
        if loose:
            arguments, slot.half = joined(slot.half, arguments)
        if arguments:
            slot.arguments.append(arguments)
        if new_id is None and new_name is None and not arguments and number < known:
            return ()
        return (ToolCallDelta(number, new_id, new_name, arguments),)

    def close(self) -> list[ToolCallDelta]:
        """The deltas of the text held back."""
        out = []
        for number, slot in enumerate(self.slots):
            if slot.half:
                slot.arguments.append("\ufffd")
                out.append(ToolCallDelta(number, arguments="\ufffd"))
        return out

    def deltas(self) -> list[ToolCallDelta]:
        """The calls so far, one delta each."""
        return [
            ToolCallDelta(number, slot.id or None, slot.name, slot.text)
            for number, slot in enumerate(self.slots)
        ]

    def _slot(self, index: int | None, ident: str, name: str) -> Slot:
        """Finds the call that a chunk belongs to.

        The index decides, if present. It is wrong with providers that number every call 0 (then a different id comes with
        a different name, or after complete arguments), and missing where complete calls are sent.
        """
        slot = self._unnumbered(ident, name) if index is None else self._by_index.get(index)
        if slot is not None and ident and slot.id and ident != slot.id and name:
            known = next((other for other in self.slots if other.id == ident), None)
            if known is not None:
                slot = known
            elif name != slot.name or slot.whole():
                slot = None
        if slot is None:
            slot = Slot()
            self.slots.append(slot)
        if index is not None:
            self._by_index[index] = slot
        return slot

    def _unnumbered(self, ident: str, name: str) -> Slot | None:
        if not self.slots:
            return None
        if ident:
            return next((slot for slot in self.slots if slot.id == ident), None)
        last = self.slots[-1]
        if name and (name != last.name or last.whole()):
            return None
        return last


def _index(value: Any) -> int | None:
    """The index of a call; some servers send it as text, or omit it."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        return int(value)
    return value if type(value) is int else None
