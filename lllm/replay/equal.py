"""What a recorded session learnt from the world, by what was asked: a fork is given it again where it asks the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lllm.core import events as ev
from lllm.core.canonical import encode
from lllm.core.jsonable import unicode_only
from lllm.models.message import Message
from lllm.replay.edit import Edit
from lllm.replay.effects import stateful_tools

_Waiting = dict[Any, deque[Mapping[str, Any]]]


class EqualQuestions:
    """The recorded answers that were not given again yet.

    Args:
        record: the events of the recorded session.
        edit: the event whose content is another one, if any.
        holds: whether what an event says still holds.
        given: the events that were given again.
    """

    def __init__(
        self,
        record: Sequence[Mapping[str, Any]],
        edit: Edit | None,
        holds: Callable[[Mapping[str, Any]], bool],
        given: set[int],
    ) -> None:
        self._edited = None if edit is None else edit.seq
        self._holds = holds
        self._given = given
        self._replies: _Waiting = {}
        self._results: _Waiting = {}
        self._approvals: _Waiting = {}
        self._shown: _Waiting = {}
        self.requests: dict[str, list[str]] = {}
        """Of each recorded call the hashes of its requests."""
        self._read(record)

    def _read(self, record: Sequence[Mapping[str, Any]]) -> None:
        shown: dict[str | None, bytes] = {}  # of each call what was shown last
        places: dict[tuple[str, str], str] = {}
        again = self._run_again(record)
        for event in record:
            kind, call, data = event["kind"], event["call"], event["data"]
            if kind == ev.MODEL_REQUESTED:
                self.requests.setdefault(call, []).append(data.get("request", ""))
            elif kind == ev.MODEL_REPLIED:
                self._replies.setdefault(self.requests[call][-1], deque()).append(event)
                places.update(asked_of(call, data))
            elif kind == ev.TOOL_RETURNED and (
                event["seq"] == self._edited or ("reused" not in data and (call, data["id"]) not in again)
            ):
                self._results.setdefault(places[call, data["id"]], deque()).append(event)
            elif kind == ev.FRONTEND and "args" in data:
                shown[call] = _shown(data)
            elif kind == ev.FRONTEND and "value" in data and not data.keys() & {"type", "secret"}:
                self._shown.setdefault((call, shown.get(call, b"")), deque()).append(event)
            elif kind == ev.APPROVAL_GIVEN:
                self._approvals.setdefault(places[call, data["id"]], deque()).append(event)

    def _run_again(self, record: Sequence[Mapping[str, Any]]) -> set[tuple[str | None, str | None]]:
        """The tool calls that are run again although they have a result: agents as tools, whose own calls are answered;
        stateful tools, whose effects are; and whatever stands above the call that is edited."""
        begun = {event["call"]: event["data"] for event in record if event["kind"] == ev.CALL_STARTED}
        asked: dict[tuple[str, str], str] = {}
        for event in record:
            if event["kind"] == ev.MODEL_REPLIED:
                asked.update(asked_of(event["call"], event["data"]))
        above = {
            call: (data.get("parent"), data.get("via")) for call, data in begun.items() if data.get("via")
        }
        out = {
            place
            for call, place in above.items()
            if asked.get(place, "").partition(" ")[0] == begun[call]["agent"]
        }
        call = record[self._edited]["call"] if self._edited is not None else None
        while call in above:
            out.add(above[call])
            call = above[call][0]
        return out | stateful_tools(record)

    def reply(self, request: str, call: str) -> Mapping[str, Any] | None:
        """The reply to a request, given by its hash, of the recorded call that this one stands for."""
        return self._take(self._replies.get(request), call)

    def result(
        self, place: str, call: str, tool_call: str, wanted: Callable[[str], bool]
    ) -> Mapping[str, Any] | None:
        """The result of a tool call; `place` says what was asked (see `asked_of`). `wanted`: whether the call of today has
        made a tool call of this id."""
        return self._take(self._results.get(place), call, tool_call, wanted)

    def approval(self, place: str, call: str, tool_call: str) -> Mapping[str, Any] | None:
        """What was said about a tool call. An old yes was for what was done then: what is done now is asked about now."""
        found = self._take(self._approvals.get(place), call, tool_call)
        if found is None or not found["data"]["approved"]:
            return found
        return found if any(map(self._open, self._results.get(place, ()))) else None

    def answer(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the frontend answered to the same output."""
        return self._take(self._shown.get((call, _shown(shown))), call)

    def _open(self, event: Mapping[str, Any]) -> bool:
        return event["seq"] not in self._given and (event["seq"] == self._edited or self._holds(event))

    def _take(
        self,
        waiting: deque[Mapping[str, Any]] | None,
        call: str | None,
        tool_call: str | None = None,
        wanted: Callable[[str], bool] | None = None,
    ) -> Mapping[str, Any] | None:
        """An answer, once: of the very tool call, else of the call, else the first one anywhere. An edited one is for its own
        call alone; and for its own tool call, unless the model of today has given that another id."""
        best: tuple[int, Mapping[str, Any]] | None = None
        for event in waiting or ():
            if self._open(event):
                id = event["data"].get("id")
                near = 0 if event["call"] != call else 1 + (id == tool_call)
                if event["seq"] == self._edited and (near == 0 or (near == 1 and wanted and wanted(id))):
                    continue
                if best is None or near > best[0]:
                    best = near, event
        if best is None:
            return None
        assert waiting is not None
        waiting.remove(best[1])
        self._given.add(best[1]["seq"])
        return best[1]


def asked_of(call: str, reply: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Of each tool call of a reply what is asked: the tool and its arguments, in one form."""
    out = {}
    for item in Message.from_dict(reply["message"]).tool_calls:
        try:
            arguments = encode(item.parsed()).decode()
        except ValueError:
            arguments = item.arguments
        out[call, item.id] = f"{item.name} {arguments}"
    return out


def _shown(data: Mapping[str, Any]) -> bytes:
    """What is shown, without the numbers of elements: they may be others in a fork."""
    return encode(unicode_only([data["method"], data["args"], data["kwargs"]]))
