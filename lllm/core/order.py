"""The order in which a session's events may appear, beyond what the state machine of each call allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lllm.core import events as ev


class EventOrder:
    """Takes a session's events one by one and reports events in the wrong place."""

    __slots__ = ("_asked", "_begun", "_ended", "_opened", "_over", "_tools")

    def __init__(self) -> None:
        self._opened = False
        self._over = False
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._asked: set[str] = set()  # calls with a model request that has no answer yet
        self._tools: set[tuple[str, str]] = set()  # tools that were requested

    def misplaced(self, event: Mapping[str, Any]) -> str:
        """Says what is wrong with the place of the next event; "" if nothing is."""
        kind, call, data = event["kind"], event["call"], event["data"]
        if self._over:
            return "the session has ended"
        if kind == ev.SESSION_ENDED:
            self._over = True
        if kind == ev.SESSION_STARTED:
            again, self._opened = self._opened or event["seq"] > 0, True
            return "a session begins once, with its first event" if again else ""
        if call is None:
            return ""
        if kind == ev.CALL_STARTED:
            again = call in self._begun
            self._begun.add(call)
            return f"call {call} begins twice" if again else ""
        if kind in (ev.FRONTEND, ev.ARTIFACT, ev.NOTE, *ev.STAGES):
            return ""
        if call not in self._begun:
            return f"call {call} has not begun"
        if call in self._ended:
            return f"call {call} has ended"
        if kind == ev.CALL_ENDED:
            self._ended.add(call)
        elif kind == ev.MODEL_REQUESTED:
            self._asked.add(call)
        elif kind in (ev.MODEL_REPLIED, ev.MODEL_FAILED):
            if call not in self._asked:
                return f"no model was asked in call {call}"
            self._asked.discard(call)
        elif kind == ev.TOOL_REQUESTED:
            self._tools.add((call, data["id"]))
        elif kind == ev.TOOL_RETURNED and "reused" not in data and (call, data["id"]) not in self._tools:
            return f"the tool call {data['id']} was not begun"
        return ""
