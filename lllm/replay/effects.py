"""The recorded effects of the program's own code, and how a replayed, resumed or forked session gives them again.

An effect is known again by the place of the code that wants it (the session, a tool call, an agent call's own parser or
handler), its kind, its request and its key. Equal ones are given in the order in which they were requested.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.canonical import decode, encode
from lllm.core.redact import agrees
from lllm.errors import LLMError, OutcomeUnknown, UnknownNameError
from lllm.recorded_value import arguments_of, name_of, pack_error, unpack_error
from lllm.replay.agreement import marked
from lllm.session_effects import Asked, Place, Recalled

if TYPE_CHECKING:
    from lllm.replay.resumed import Decision
    from lllm.replay.tape import Tape

Blob = Callable[[str], bytes]
KINDS: Final = (ev.EFFECT_REQUESTED, ev.EFFECT_RETURNED)
STALL: Final = 60.0
"""Seconds that a recorded cancellation of an effect is waited for."""


class Past:
    """One recorded effect. `requested` is None for what was learnt in passing, `returned` where it never returned."""

    __slots__ = ("n", "place", "requested", "returned", "taken", "tape")

    def __init__(
        self, place: Place, requested: Mapping[str, Any] | None, returned: Mapping[str, Any] | None
    ) -> None:
        self.place = place
        self.requested = requested
        self.returned = returned
        self.n: int = self.first["data"]["n"]
        self.taken = False
        self.tape: Tape | None = None
        """Its events, in a replay, and how far they have come about."""

    @property
    def first(self) -> Mapping[str, Any]:
        """Its first event."""
        found = self.requested or self.returned
        assert found is not None
        return found

    @property
    def data(self) -> Mapping[str, Any]:
        """What it is: kind, request, key, policy."""
        data: Mapping[str, Any] = self.first["data"]
        return data

    def name(self, blob: Blob) -> str:
        """What messages call it."""
        return name_of(self.data["kind"], request_of(self.data, blob))


def request_of(data: Mapping[str, Any], blob: Blob) -> Any:
    """The request of an EffectRequested; None where it has none, or its blob is not here."""
    if "blob" not in data or "value" in data or "as" in data:
        return data.get("request")
    try:
        return decode(blob(data["blob"]))
    except (LLMError, ValueError):
        return None


def effects_of(recorded: Sequence[Mapping[str, Any]]) -> list[Past]:
    """The effects of a session, in the order in which they were requested."""
    found: list[Past] = []
    open_ones: dict[int, Past] = {}
    for event in recorded:
        data = event["data"]
        if event["kind"] == ev.EFFECT_REQUESTED:
            past = open_ones[data["n"]] = Past(_place(event), event, None)
            found.append(past)
        elif event["kind"] == ev.EFFECT_RETURNED:
            if "kind" in data and data["n"] not in open_ones:
                found.append(Past(_place(event), None, event))
            elif (past_or_none := open_ones.get(data["n"])) is not None:
                past_or_none.returned = event
    return found


def _place(event: Mapping[str, Any]) -> Place:
    data = event["data"]
    return _of(Place(event["call"], data.get("via"), data.get("within"), data.get("inside")))


def _of(place: Place) -> Place:
    """The place to look in: the number of an agent call says by itself where its own code runs."""
    return Place(within=place.within, inside=place.inside) if place.within is not None else place


class EffectRecord:
    """The recorded effects of a session, each of which is given again once. `stateful`: tool calls that may run again although
    they have returned."""

    def __init__(
        self,
        recorded: Sequence[Mapping[str, Any]],
        blob: Blob,
        stateful: Collection[tuple[str | None, str]] = (),
    ) -> None:
        self.blob = blob
        self._exact: dict[tuple[Place, str, str | None, bytes], deque[Past]] = {}
        self._marked: dict[tuple[Place, str, str | None], list[tuple[Any, Past]]] = {}
        self._at: dict[Place, list[Past]] = {}
        begun = open_tools(recorded)
        self.answered: dict[int, Past] = {}
        """By the event that answers it."""
        self.last = 0
        """The highest number of an effect."""
        for past in effects_of(recorded):
            self.last = max(self.last, past.n)
            place = past.place
            if (
                place.via is not None
                and past.first["seq"] < begun.get((place.call, place.via), float("inf"))
                and (place.call, place.via) not in stateful
            ):
                continue  # of a tool that has returned: it is not run again
            self._at.setdefault(place, []).append(past)
            if past.returned is not None:
                self.answered[past.returned["seq"]] = past
            data = past.data
            where = place, str(data["kind"]), data.get("key")
            request = request_of(data, blob)
            self._exact.setdefault((*where, encode(request)), deque()).append(past)
            if marked(request):
                self._marked.setdefault(where, []).append((request, past))

    def take(
        self, asked: Asked, place: Place, allowed: Callable[[Past], bool] = lambda past: True
    ) -> Past | None:
        """The recorded effect that this one is, once; None if there is none."""
        place = _of(place)
        where = place, asked.kind, asked.key
        for past in self._exact.get((*where, asked.encoded), ()):
            if not past.taken and allowed(past):
                past.taken = True
                queue = self._exact[*where, asked.encoded]
                while queue and queue[0].taken:
                    queue.popleft()
                return past
        for request, past in self._marked.get(where, ()):
            if not past.taken and allowed(past) and agrees(request, asked.request):
                past.taken = True
                return past
        return None

    def alike(self, asked: Asked, place: Place) -> Iterator[Past]:
        """The recorded effects with the same request in the same place, also those that are given again."""
        data = {"kind": asked.kind, "key": asked.key}
        for past in self._at.get(_of(place), ()):
            if data == {"kind": past.data["kind"], "key": past.data.get("key")} and agrees(
                request_of(past.data, self.blob), asked.request
            ):
                yield past

    def has(self, asked: Asked) -> bool:
        """Whether one like this is still to be given."""
        place = _of(asked.place)
        exact = self._exact.get((place, asked.kind, asked.key, asked.encoded), ())
        return any(not past.taken for past in exact) or any(
            not past.taken and agrees(request, asked.request)
            for request, past in self._marked.get((place, asked.kind, asked.key), ())
        )

    def in_order(self) -> Iterator[Past]:
        """Those that a program brings about in the order of the record. A tool is run again at its end, if at all."""
        for place, pasts in self._at.items():
            if place.via is None and place.inside is None:
                yield from pasts

    def within(self, call: str | None, tool_call: str) -> Iterator[Past]:
        """Those of a tool call, as far as it may run again."""
        for place, pasts in self._at.items():
            if (place.call, place.via) == (call, tool_call):
                yield from pasts

    def next(self, place: Place) -> Past | None:
        """The first effect of this place that is not given again yet."""
        return next((past for past in self._at.get(_of(place), ()) if not past.taken), None)

    def left(self, folded: Collection[str] = ()) -> Iterator[Past]:
        """The effects that the program of today must have wanted and did not: all but those of tools, and of other effects."""
        for place, pasts in self._at.items():
            if place.via is None and place.inside is None and place.within not in folded:
                yield from (past for past in pasts if not past.taken)


def open_tools(recorded: Sequence[Mapping[str, Any]]) -> dict[tuple[str | None, str], int]:
    """The tool calls that had begun and did not return, each with the event that says so: only they are run again."""
    found: dict[tuple[str | None, str], int] = {}
    for event in recorded:
        if event["kind"] == ev.TOOL_REQUESTED:
            found[event["call"], event["data"]["id"]] = event["seq"]
        elif event["kind"] == ev.TOOL_RETURNED:
            found.pop((event["call"], event["data"]["id"]), None)
    return found


def _done(recorded: Sequence[Mapping[str, Any]]) -> set[int]:
    """The numbers of the effects that have returned."""
    return {event["data"]["n"] for event in recorded if event["kind"] == ev.EFFECT_RETURNED}


def stateful_tools(recorded: Sequence[Mapping[str, Any]]) -> set[tuple[str | None, str]]:
    """The calls of tools whose results depend on what they did before."""
    rules = {
        event["call"]: event["data"].get("spec", {}).get("tools", {})
        for event in recorded
        if event["kind"] == ev.CALL_STARTED
    }
    return {
        (event["call"], event["data"]["id"])
        for event in recorded
        if event["kind"] == ev.TOOL_REQUESTED
        and rules.get(event["call"], {}).get(event["data"].get("name"), {}).get("stateful")
    }


# --- replay ----------------------------------------------------------------------------------------------------------


def recalled(past: Past, blob: Blob) -> Recalled:
    """The recorded answer of an effect that has one."""
    assert past.returned is not None
    return Recalled(past.n, past.returned["seq"], past.returned["data"], blob)


NEVER: Final = -1
"""In place of the event that answers an effect: there is none."""


def outlives(past: Past, blob: Blob) -> Recalled:
    """An effect that was still at work when the session ended: nobody has heard of it."""
    return Recalled(past.n, NEVER, {"cancelled": True}, blob)


def present(asked: Asked) -> dict[str, Any]:
    """What today's code wants, as a divergence shows it."""
    data: dict[str, Any] = {"kind": asked.kind, "request": asked.request, **asked.place.record()}
    return data if asked.key is None else {**data, "key": asked.key}


def difference(past: Past, asked: Asked, blob: Blob) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Cause, recorded and present side of an effect that is not the recorded one."""
    data = past.data
    recorded = {"kind": data["kind"], "request": request_of(data, blob), **past.place.record()}
    if "key" in data:
        recorded["key"] = data["key"]
    before, now = past.name(blob), asked.name
    if (data["kind"], before) != (asked.kind, now):
        cause = f"code: another effect comes here: '{before}' was recorded, now it is '{now}'"
    elif data.get("key") != asked.key:
        cause = f"code: effect '{now}' has another key"
    else:
        cause = f"code: effect '{now}' has another request"
    return cause, recorded, present(asked)


def not_wanted(past: Past, blob: Blob) -> str:
    """Why a replay diverges that has left an effect."""
    return f"code: the program of today does not do effect '{past.name(blob)}'"


def ended_by_stop(record: Sequence[Mapping[str, Any]], seq: int) -> bool:
    """True if the cancellation at event `seq`, of a call or an effect, has ended the program: it came from outside, and does
    not come again."""
    rest = record[seq + 1 :]
    stopped = {event["call"] for event in rest if event["kind"] == ev.CANCELLED}
    return any(
        event["kind"] == ev.SESSION_ENDED and event["data"].get("status") == "cancelled" for event in rest
    ) and all(_winds_up(event, stopped) for event in rest)


_WINDING_UP: Final = (ev.CANCELLED, ev.CALL_ENDED, ev.SESSION_ENDED, ev.NOTE)
_CUT_SHORT: Final = (ev.STAGE_ENDED, ev.ITEM_ENDED)
_LEARNT: Final = (ev.MODEL_REPLIED, ev.TOOL_RETURNED, ev.APPROVAL_GIVEN)


def _winds_up(event: Mapping[str, Any], stopped: Collection[str]) -> bool:
    """True if a program that is stopped may write this event. `stopped`: the calls that were, which keep what they have learnt
    at the same time."""
    kind, data = event["kind"], event["data"]
    return (
        kind in _WINDING_UP
        or (kind == ev.EFFECT_RETURNED and bool(data.get("cancelled")))
        or (kind in _CUT_SHORT and data.get("status") == "cancelled")
        or (kind in _LEARNT and event["call"] in stopped)
    )


def stop(data: Mapping[str, Any]) -> BaseException:
    """What the code met that was stopped in an effect."""
    return unpack_error(data) if "error" in data else asyncio.CancelledError()


# --- resume ----------------------------------------------------------------------------------------------------------


def no_blob(digest: str) -> bytes:
    """Where there is no store to read from."""
    raise UnknownNameError("blob", digest, ())


def undone(recorded: Sequence[Mapping[str, Any]]) -> list[Past]:
    """The effects that had begun and did not return, of code that is run again."""
    begun, done = open_tools(recorded), _done(recorded)
    return [
        past
        for past in effects_of(recorded)
        if past.returned is None
        and past.place.inside not in done
        and (
            past.place.via is None
            or past.first["seq"] > begun.get((past.place.call, past.place.via), float("inf"))
        )
    ]


def arguments(past: Past, blob: Blob) -> str:
    """What an effect was asked, as text."""
    return encode(arguments_of(past.data["kind"], request_of(past.data, blob))).decode()


def decided(past: Past, name: str, decision: Decision) -> dict[str, Any]:
    """The data of EffectReturned for an effect that somebody has decided about, instead of running it again."""
    if isinstance(decision, Mapping):
        return {"n": past.n, "value": _read(decision["result"]), "uncertain": "result"}
    words = f"'{name}' had begun when the program stopped; whether it took effect is not known. It is not run again."
    return {"n": past.n, **pack_error(OutcomeUnknown(words)), "uncertain": "skip"}


def _read(result: Any) -> Any:
    """The result that somebody gives: JSON in a text is what it says."""
    from lllm.recorded_value import pack

    if isinstance(result, str):
        try:
            return pack(decode(result))
        except (ValueError, TypeError):
            return result
    return pack(result)
