"""The beginnings of recorded calls: which one a call of today is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

from lllm.core import events as ev
from lllm.core.edited import program_messages
from lllm.core.jsonable import unicode_only
from lllm.core.redact import agrees
from lllm.models.message import Message
from lllm.session import Scope

_Place = tuple[str | None, str | None, str | None]
"""The call, the tool call within it, or the stage of a chain that a call was made in."""


class Starts:
    """The CallStarted events of a record, by the call and the tool call that the calls were made in."""

    def __init__(self, record: Sequence[Mapping[str, Any]]) -> None:
        self._waiting: dict[_Place, OrderedDict[str, Mapping[str, Any]]] = {}
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        for event in record:
            if event["kind"] == ev.CALL_STARTED:
                data = event["data"]
                place = data.get("parent"), data.get("via"), data.get("stage")
                self._waiting.setdefault(place, OrderedDict())[event["call"]] = event
                self._places[event["call"]] = place

    def take(self, call: str) -> None:
        """Says that a call of today is this one."""
        with self._lock:
            self._waiting[self._places[call]].pop(call, None)

    def is_taken(self, call: str) -> bool:
        """Whether one is."""
        return call not in self._waiting[self._places[call]]

    def first(self, parent: Scope | None, since: float) -> Mapping[str, Any] | None:
        """The first one made in a scope after event `since` that no call of today is."""
        with self._lock:
            if parent is None or parent.call is None:  # in whatever stage
                outer = [each.values() for place, each in self._waiting.items() if place[0] is None]
                found = merge(*outer, key=lambda event: int(event["seq"]))
                return next((event for event in found if event["seq"] > since), None)
            return next(self._after(parent, since), None)

    def match(
        self,
        parent: Scope | None,
        since: float,
        agent: str,
        add: Sequence[Message],
        key: str | None,
        *,
        same: bool = False,
        loose: bool = False,
    ) -> Mapping[str, Any] | None:
        """Takes the one that a call of `agent` with this key and the messages `add` is: the one with that key, or the first
        with the same words and no key (calls that ran concurrently may come in another order now), else, unless it must be
        the `same`, the first of the agent, else the first. `loose`: made in any tool call of the parent, and in no case one
        of another agent or key."""
        with self._lock:  # agents may be called in threads
            events = self._under(parent) if loose else self._after(parent, since)
            found, alike, first = self._find(events, agent, add, key)
            if found is None and not same:
                found = alike or first
                if loose and (alike is None or alike["data"].get("key") != key):
                    found = None
            if found is not None:
                del self._waiting[self._places[found["call"]]][found["call"]]
            return found

    @staticmethod
    def _find(
        events: Iterator[Mapping[str, Any]], agent: str, add: Sequence[Message], key: str | None
    ) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """The very one, the first of the agent, and the first."""
        first = alike = words = unkeyed = None
        for event in events:
            first = first or event
            if not agrees(event["data"]["agent"], agent):
                continue
            alike = alike or event
            if "key" in event["data"]:
                if key is not None and agrees(event["data"]["key"], key):
                    return event, None, None
                continue
            if words is None:
                words = unicode_only([message.record() for message in add])
            if agrees(program_messages(event["data"]), words):
                if key is None:
                    return event, None, None
                unkeyed = unkeyed or event  # the program was given keys since it was recorded
        return unkeyed, alike, first

    def _after(self, parent: Scope | None, since: float) -> Iterator[Mapping[str, Any]]:
        place = (None, None, None) if parent is None else (parent.call, parent.tool_call, parent.stage)
        return (event for event in self._waiting.get(place, {}).values() if event["seq"] > since)

    def _under(self, parent: Scope | None) -> Iterator[Mapping[str, Any]]:
        call = None if parent is None else parent.call
        there = [each.values() for place, each in self._waiting.items() if place[0] == call]
        return merge(*there, key=lambda event: int(event["seq"]))

    def above(self, call: str | None) -> Iterator[tuple[str, str]]:
        """The calls and tool calls within which a call was made, from the inside out."""
        place = self._places.get(call or "", (None, None, None))
        while place[0] is not None:
            yield place[0], place[1] or ""
            place = self._places.get(place[0], (None, None, None))

    def is_within(self, call: str, outer: str) -> bool:
        """Whether a call was made within another one, however deep."""
        return any(above == outer for above, _ in self.above(call))
