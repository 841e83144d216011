"""Totals of a session, counted event by event, as events are written or when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.spent import Spending, reused

if TYPE_CHECKING:
    from lllm.core import records

FIGURES: Final = (
    "calls", "failed_calls", "model_calls", "faults", "tool_calls", "failed_tools", "tokens_in", "tokens_out",
    "tokens_cached", "tokens_reasoning", "unpriced", "reused", "tokens_saved",
)  # fmt: skip
"""Counters of a whole session and of each part of it.

`calls` are agent calls, `failed_calls` those that did not end with status done. `model_calls` are requests sent, `faults`
the failed ones. `tool_calls` are tools that ran, `failed_tools` those that returned an error. `unpriced` are replies of
unknown price. `reused` are replies taken from a fork's parent or the cache: no request is sent for them and they cost
nothing; `tokens_saved` are their tokens."""


class _Part(Spending):
    """Counters of one agent, prompt, model or tool."""

    __slots__ = ("calls", "failed_calls", "failed_tools", "faults", "tool_calls")

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.failed_calls = self.faults = self.tool_calls = self.failed_tools = 0

    def told(self) -> dict[str, Any]:
        """FIGURES of the part, with its cost and saved cost in US dollars."""
        paid, saved = self.paid, self.saved
        tokens_in, tokens_out, cached, reasoning = paid.used
        kept_in, kept_out, _, _ = saved.used
        return {
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "model_calls": self.faults + paid.replies,
            "faults": self.faults,
            "tool_calls": self.tool_calls,
            "failed_tools": self.failed_tools,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "tokens_cached": cached,
            "tokens_reasoning": reasoning,
            "unpriced": paid.unpriced,
            "reused": saved.replies,
            "tokens_saved": kept_in + kept_out,
            "cost": format(paid.cost, "f") if paid.cost else "0",
            "saved": format(saved.cost, "f") if saved.cost else "0",
        }


class _Call:
    """An open agent call: the parts it counts towards, and its tool calls."""

    __slots__ = ("names", "part", "place", "ran")

    def __init__(self, place: tuple[str, str, str], part: _Part | None) -> None:
        self.place = place
        self.part = part
        self.names: dict[str, str] = {}  # tool call id -> tool name
        self.ran: set[tuple[Any, str]] | None = None


class Counting:
    """Counts event by event. A malformed event raises whatever error reading it causes."""

    __slots__ = ("_calls", "_ended", "_error", "_parts")

    def __init__(self) -> None:
        self._parts: dict[tuple[str, ...], _Part] = {}
        self._calls: dict[str | None, _Call] = {}
        self._error: str | None = None
        self._ended: int | None = None

    def take(self, kind: str, call: str | None, data: Mapping[str, Any], at: int) -> None:
        if (count := COUNTED.get(kind)) is not None:
            count(self, call, data, at)

    def summary(self, events: int, last: str, problem: str | None) -> dict[str, Any]:
        """The totals so far. `events` and `last` are the number of events counted and the hash of the last one; `problem`
        says what is wrong with the next event. `parts` has the totals per agent, prompt, model and tool; the cost of a
        tool is the cost of the replies that called it."""
        parts = [
            {"agent": place[0], "prompt": place[1], "model": place[2], "tool": place[3], **part.told()}
            for place, part in self._parts.items()
        ]
        return {
            "parts": parts,
            "error": self._error,
            "ended": self._ended,
            "events": events,
            "last": last,
            "problem": problem,
        }

    def _session_ended(self, call: str | None, data: records.SessionEnded, at: int) -> None:
        self._ended = at
        self._error = data.get("error") or (self._error if data.get("status") != "done" else None)

    def _call_started(self, call: str | None, data: records.CallStarted, at: int) -> None:
        path = (data.get("prompt") or {}).get("path") or ""
        found = self._calls[call] = _Call((data.get("agent") or "", path, data.get("model") or ""), None)
        self._part(found).calls += 1

    def _call_ended(self, call: str | None, data: records.CallEnded, at: int) -> None:
        if data["status"] != "done":
            self._part(self._of(call)).failed_calls += 1
            self._error = data.get("error") or self._error
        if (found := self._calls.get(call)) is not None:
            found.names, found.ran = {}, None  # the call has ended

    def _model_failed(self, call: str | None, data: records.ModelFailed, at: int) -> None:
        part = self._part(self._of(call))
        part.faults += not reused(data)
        (part.saved if reused(data) else part.paid).add_broken(data)

    def _model_replied(self, call: str | None, data: records.ModelReplied, at: int) -> None:
        found = self._of(call)
        self._part(found).add(data)
        asked = data["message"].get("tool_calls")
        if asked:
            names = {item["id"]: item["function"]["name"] for item in asked}
            found.names.update(names)
            for name in dict.fromkeys(names.values()):
                self._part(found, name).add(data)

    def _tool_requested(self, call: str | None, data: records.ToolRequested, at: int) -> None:
        # a tool that a resumed session runs again counts once
        found = self._of(call)
        mark = data.get("n"), data["id"]
        if found.ran is None:
            found.ran = set()
        if mark not in found.ran:
            found.ran.add(mark)
            self._part(found, found.names.get(data["id"], data["id"])).tool_calls += 1

    def _tool_returned(self, call: str | None, data: records.ToolReturned, at: int) -> None:
        if not data.get("ok", True) and "reused" not in data:
            found = self._of(call)
            self._part(found, found.names.get(data["id"], data["id"])).failed_tools += 1

    def _of(self, call: str | None) -> _Call:
        found = self._calls.get(call)
        if found is None:
            found = self._calls[call] = _Call(("", "", ""), None)
        return found

    def _part(self, call: _Call, tool: str = "") -> _Part:
        if not tool and call.part is not None:
            return call.part
        place = (*call.place, tool)
        part = self._parts.get(place)
        if part is None:
            part = self._parts[place] = _Part()
        if not tool:
            call.part = part
        return part


COUNTED: Final[Mapping[str, Callable[[Counting, str | None, Any, int], None]]] = {
    ev.SESSION_ENDED: Counting._session_ended,
    ev.CALL_STARTED: Counting._call_started,
    ev.CALL_ENDED: Counting._call_ended,
    ev.MODEL_FAILED: Counting._model_failed,
    ev.MODEL_REPLIED: Counting._model_replied,
    ev.TOOL_REQUESTED: Counting._tool_requested,
    ev.TOOL_RETURNED: Counting._tool_returned,
}
"""Event kind -> the function that counts it."""
