"""The recorded events, and the session that is matched against them."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.canonical import decode, digest, encode
from lllm.core.events import Event
from lllm.core.jsonable import same_record, unicode_only
from lllm.core.redact import agrees
from lllm.core.spec import Spec
from lllm.errors import LLMError, ReplayDivergence
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.replay.agreement import as_recorded
from lllm.replay.blame import blame
from lllm.session import Scope, Session


class Unfinished(LLMError):
    """The record ends before the call does: a crash, or a session that is still running."""


class Tape:
    """The recorded events of one call (or of the session as a whole), and how far they have been matched."""

    __slots__ = ("at", "events", "inside", "members", "queued", "waiting")

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.at = 0
        self.waiting: list[asyncio.Future[bool]] = []  # who waits for its turn
        self.members = 0  # so many effects are done side by side
        self.queued = 0  # so many of them wait for another
        self.inside: asyncio.Future[bool] | None = None  # who waits and keeps them from it

    def peek(self) -> dict[str, Any] | None:
        return self.events[self.at] if self.at < len(self.events) else None

    def coming(self) -> dict[str, Any] | None:
        """The next event that the code of today must bring about itself."""
        rest = self.events[self.at :]
        return next((event for event in rest if event["kind"] != ev.CALL_RESUMED), None)

    def advance(self) -> None:
        """The next event was brought about: everybody looks whose turn it is."""
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(False)

    def judge(self) -> None:
        """When every one of the group waits, nobody brings the next event about: the first goes on without its turn. Where
        others wait for one of them to be done, it is that one: it was done when they began, and died before it said so."""
        if not self.waiting or len(self.waiting) + self.queued < self.members:
            return
        first = self.inside if self.queued and self.inside in self.waiting else self.waiting[0]
        if first is not None and not first.done():
            self.waiting.remove(first)
            first.set_result(True)


class Replayed(Session):
    """A session that compares where a live one writes, and remembers where a live one acts."""

    replaying = True
    answers = True

    def opened_by(self, kind: str) -> bool:
        return self.unopened and (self.record[0]["data"].get("entry") or {}).get("kind") == kind

    def __init__(self, session: str, store: LogStore, recorded: Sequence[Mapping[str, Any]]) -> None:
        first = recorded[0]["data"] if recorded else {}
        super().__init__(store, id=session, seed=first.get("seed", ""))
        self.started = True
        self.logs = True
        self._figures = None
        self.record = list(recorded)
        self.shown: set[int] = set()
        tapes: dict[str | None, list[dict[str, Any]]] = {}
        for event in self.record:
            if event["kind"] == ev.SESSION_RESUMED or (event["kind"] == ev.NOTE and "of" in event["data"]):
                continue  # no code writes it: another process went on, or the runtime noted something
            if event["kind"] in (ev.FRONTEND, ev.ARTIFACT) and event["call"] is not None:
                self.shown |= _numbers(event["data"])
                continue  # a tool showed it, and the tool is not run
            tapes.setdefault(event["call"], []).append(dict(event))
        self.tapes = {call: Tape(events) for call, events in tapes.items()}
        self.taken: set[str] = set()
        self.reexecuted: set[str] = set()
        self.folded: set[str] = set()
        self.divergence: ReplayDivergence | None = None
        self._marked: set[str | None] = set()  # calls whose start equals the recorded one except for secrets
        self._raw: dict[str, bytes] = {}  # blobs produced by today's code
        self._steps = 0  # events that were brought about again
        start = self.tapes.get(None)
        if start is not None and start.events and start.events[0]["kind"] == ev.SESSION_STARTED:
            start.at = 1

    # --- what a live session writes

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        tape = self.tapes.get(call)
        found = tape.peek() if tape is not None else None
        if call is None and found is not None and cut_off(found) and kind != ev.SESSION_ENDED:
            raise Unfinished("the session was cancelled here")
        if tape is None or found is None:
            if call is None or kind == ev.CALL_ENDED or self._open_ended(call):
                raise self._unfinished_or(kind, data, call)
            raise self.diverged(None, kind, data, "the code of today does more than was recorded", None)
        try:
            encoded = encode(data)
        except UnicodeEncodeError:  # cannot be logged: the recorded call continued with clean text
            data, value = unicode_only(data), None
            encoded = encode(data)
        recorded = found["data"]
        if found["kind"] == kind and encode(recorded) != encoded:
            data, value = self._as_recorded(kind, recorded, data, call), None
            encoded = encode(data)
        if found["kind"] != kind or (encode(recorded) != encoded and not same_record(recorded, data)):
            cause, old, new, hint = blame(found, kind, data)
            if cause.startswith("tool schema"):
                old, new = self._schemas(recorded, data) or (old, new)
            raise self.diverged(found, kind, data, cause, hint, old, new)
        tape.at += 1
        self._steps += 1
        tape.advance()
        return Event(kind, data, found["at"], call, dialog, value)

    def _as_recorded(
        self, kind: str, recorded: Mapping[str, Any], present: Mapping[str, Any], call: str | None
    ) -> Mapping[str, Any]:
        """The data produced by today's code, with the recorded values where both agree."""
        if kind == ev.MODEL_REQUESTED and call in self._marked:
            return {**present, "request": recorded.get("request")}  # a hash of what agrees
        if kind == ev.CALL_STARTED:
            self._marked.add(call)
        return as_recorded(kind, recorded, present, self.store.blob, self._raw.__getitem__)

    def keep(self, data: bytes) -> str:
        name = digest(data)
        self._raw[name] = data
        return name

    def cleaned(self, data: bytes) -> bytes:
        """Returns the blob unchanged: it is compared unredacted, see agreement.py."""
        return data

    def _schemas(
        self, recorded: Mapping[str, Any], present: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The schemas that differ, by tool, on both sides: an event holds their digest, a blob what they say. None where
        the blob is not there."""
        try:
            blobs = self.store.blob(recorded["specs"]), self._raw[present["specs"]]
        except (KeyError, LLMError):
            return None
        old, new = ({spec["function"]["name"]: spec["function"] for spec in decode(blob)} for blob in blobs)
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        return {name: old.get(name) for name in names}, {name: new.get(name) for name in names}

    def write(self, event: Event) -> None:
        """It is in the record already."""

    async def flush(self) -> None:
        """Nothing is written."""

    def left(self, call: str, task: asyncio.Task[Any]) -> None:
        """How the call went on is recorded: it comes to that end by itself."""

    shows = False

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        tape = self.tapes.get(call)
        found = tape.peek() if tape is not None else None
        if (
            found is None
            or found["kind"] != ev.FRONTEND
            or found["data"].get("phase") not in ("value", "error")
        ):
            return None
        data: Mapping[str, Any] = found["data"]
        return data if data["method"] == shown["method"] else None

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        """The recorded start stands."""

    async def end(self, status: str, **data: Any) -> None:
        tape = self.tapes.get(None)
        found = tape.peek() if tape is not None else None
        if found is None:
            return
        if cut_off(found) and status != "cancelled":
            raise Unfinished("the session was cancelled here")
        self.emit(ev.SESSION_ENDED, {"status": status, **data})

    def new_call(self, agent: str, parent: Scope | None, add: Sequence[Message] = ()) -> str:
        """The recorded call that this one must be: the next of the same agent under the same parent, if there is one
        that opens with the same words (calls that ran side by side may come in another order now)."""
        waiting = begun(self.record, self.taken, parent, self.since(parent))
        same = [event for event in waiting if agrees(event["data"]["agent"], agent)]
        if len(same) > 1:
            words = unicode_only([message.record() for message in add])
            same = [event for event in same if agrees(event["data"]["add"], words)] or same
        chosen = next(iter(same or waiting), None)
        if chosen is None:
            if not any(event["kind"] == ev.SESSION_ENDED and not cut_off(event) for event in self.record):
                raise Unfinished("the record ends before this call")
            raise self.diverged(
                None, ev.CALL_STARTED, {"agent": agent}, "the code of today makes a call more", None
            )
        self.taken.add(chosen["call"])
        self.reexecuted.add(chosen["call"])
        return str(chosen["call"])

    def since(self, parent: Scope | None) -> float:
        """The event before those that the present run of a tool call can have written. Models give the same id to tool
        calls of several rounds: what an earlier one did is not this one's."""
        tape = self.tapes.get(parent.call) if parent is not None and parent.call is not None else None
        begun, done = -1.0, False
        if tape is None or parent is None:
            return begun
        for event in tape.events[: tape.at]:
            if event["data"].get("id") != parent.tool_call:
                continue
            if event["kind"] == ev.TOOL_REQUESTED and (done or begun < 0):
                begun, done = event["seq"], False
            elif event["kind"] == ev.TOOL_RETURNED:
                done = True
        return float("inf") if done else begun

    # --- what a live session does

    def behind(self, call: str) -> bool:
        return True

    def resumption(self, call: str) -> Mapping[str, Any] | None:
        found = self.tapes[call].peek()
        return found["data"] if found is not None and found["kind"] == ev.CALL_RESUMED else None

    def rules(self, call: str) -> int:
        tape = self.tapes.get(call)
        return super().rules(call) if tape is None else recorded_rules(tape.events)

    def recorded(self, call: str, kinds: Sequence[str], tool_call: str | None = None) -> Event | None:
        """The recorded answer to an effect."""
        tape = self.tapes[call]
        for event in tape.events[tape.at :]:
            if event["kind"] in kinds and (
                tool_call is None or event["data"].get("id", tool_call) == tool_call
            ):
                return Event(event["kind"], event["data"], event["at"], call, event["dialog"])
            if tool_call is None and event["kind"] != ev.CALL_RESUMED:
                break
        raise self._unfinished(call)

    def late(self, call: str, tool_call: str) -> Event | None:
        return self.recorded(call, (ev.TOOL_RETURNED, *_STOPS), tool_call)

    def asked_within(self, call: str, tool_call: str) -> bool:
        parent = Scope(self, call, tool_call)
        return bool(begun(self.record, self.taken, parent, self.since(parent)))

    def stopped(self, call: str) -> Event | None:
        """The recorded stop, when the call was stopped right here."""
        found = self.tapes[call].peek()
        if found is None or found["kind"] not in _STOPS:
            return None
        return Event(found["kind"], found["data"], found["at"], call, found["dialog"])

    async def turn(self, call: str, kind: str, tool_call: str) -> None:
        """Waits until the recorded order comes to this event. When every task of the group waits, the code of today does
        not do what comes next in the record; the first waiter then goes on, and its event is the divergence."""
        tape = self.tapes[call]
        while True:
            found = tape.coming()
            if found is None or found["kind"] in _STOPS:
                if kind in _STOPS:
                    await self._inner_ones(call)
                return
            if found["kind"] == kind and found["data"].get("id") == tool_call:
                return
            if await self._stalls(tape):
                return

    def gathers(self, call: str, count: int) -> None:
        tape = self.tapes.get(call)
        if tape is not None:
            tape.members = count
            tape.judge()

    def queues(self, call: str, more: int) -> None:
        tape = self.tapes.get(call)
        if tape is not None:
            tape.queued += more
            tape.judge()

    async def _stalls(self, tape: Tape, *, alone: bool = False) -> bool:
        """Waits until a tape goes on. True for one who waits, when all of the group do; and where nothing at all goes on for
        STALL seconds. `alone`: whether others are kept waiting by this one."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        tape.waiting.append(waiter)
        if alone:
            tape.inside = waiter
        tape.judge()
        looks, seen = 0, self._steps
        try:
            while looks * _LOOK < STALL:
                done, _ = await asyncio.wait((waiter,), timeout=_LOOK)
                if done:
                    return waiter.result()
                # a process that was suspended has looked once
                looks, seen = looks + 1 if seen == self._steps else 0, self._steps
            return True
        finally:
            if waiter in tape.waiting:
                tape.waiting.remove(waiter)

    async def _inner_ones(self, call: str) -> None:
        """Waits until the calls within this one have come to their recorded ends: its own stop would cut them short."""
        opened = (event for event in self.record if event["kind"] == ev.CALL_STARTED)
        inner = [event["call"] for event in opened if event["data"].get("parent") == call]
        looks, seen = 0, self._steps
        while looks * _MOMENT < _INNER:
            if all(name not in self.taken or self.tapes[name].peek() is None for name in inner):
                return
            await asyncio.sleep(_MOMENT)
            looks, seen = looks + 1 if seen == self._steps else 0, self._steps

    # --- verdicts

    def complete(self, whole: bool, notes: list[str]) -> None:
        """What was recorded and not done again."""
        for call, tape in self.tapes.items():
            left = tape.peek()
            if left is None or call in self.folded:
                continue
            if call is None and not whole:
                shown = sum(1 for event in tape.events[tape.at :] if event["kind"] != ev.SESSION_ENDED)
                if shown:
                    notes.append(
                        f"{shown} events of the program itself (frontend, artifacts) were not re-executed"
                    )
                continue
            raise self.diverged(
                left, left["kind"], None, "the code of today does less than was recorded", None
            )

    def _open_ended(self, call: str) -> bool:
        tape = self.tapes.get(call)
        return tape is not None and not any(event["kind"] == ev.CALL_ENDED for event in tape.events)

    def _unfinished_or(self, kind: str, data: Mapping[str, Any], call: str | None) -> LLMError:
        if call is None and any(event["kind"] == ev.SESSION_ENDED for event in self.record):
            return self.diverged(None, kind, data, "the code of today does more than was recorded", None)
        return Unfinished("the record ends here")

    def _unfinished(self, call: str) -> LLMError:
        if self._open_ended(call):
            return Unfinished("the record ends here")
        tape = self.tapes[call]
        found = tape.peek()
        return self.diverged(
            found, "an effect", None, "the code of today wants an effect that was not recorded", None
        )

    def diverged(
        self,
        found: Mapping[str, Any] | None,
        kind: str,
        data: Any,
        cause: str,
        hint: str | None,
        recorded: Any = None,
        present: Any = None,
    ) -> ReplayDivergence:
        where = (
            f"event {found['seq']} ({found['kind']})"
            if found is not None
            else f"after the record's end ({kind})"
        )
        if recorded is None and present is None:
            recorded, present = (found["data"] if found is not None else None), data
        recorded, present = map(self.redactor.clean, (recorded, present))  # they are shown in the error
        error = ReplayDivergence(
            f"diverged at {where}: {self.redactor.text(cause)}",
            seq=found["seq"] if found is not None else None,
            kind=found["kind"] if found is not None else kind,
            cause=cause,
            recorded=recorded,
            present=present,
            hint=hint,
        )
        if self.divergence is None:
            self.divergence = error
        return error


def recorded_rules(events: Sequence[Mapping[str, Any]]) -> int:
    """The version of the rules of the first call in these events."""
    started: Mapping[str, Any] = next((e["data"] for e in events if e["kind"] == ev.CALL_STARTED), {})
    return Spec.from_record(started.get("spec", {})).rules


def begun(
    record: Sequence[Mapping[str, Any]], taken: Container[str], parent: Scope | None, since: float
) -> list[Mapping[str, Any]]:
    """The recorded beginnings of calls under `parent` that no call of today stands for yet, after event `since`, in order."""
    call, via = (parent.call, parent.tool_call) if parent is not None else (None, None)
    return [
        event
        for event in record
        if event["kind"] == ev.CALL_STARTED
        and event["call"] not in taken
        and event["data"].get("parent") == call
        and event["data"].get("via") == via
        and event["seq"] > since
    ]


_STOPS: Final = (ev.LIMIT_REACHED, ev.CANCELLED)
STALL: Final = 60.0
"""Seconds after which a replayed group of tools counts as diverged, where nothing at all goes on and yet not all wait."""
_INNER: Final = 2.0
"""Seconds without progress after which calls within a stopped one are not waited for."""

_LOOK: Final = 0.1
_MOMENT: Final = 0.001


def _numbers(shown: Mapping[str, Any]) -> set[int]:
    """The numbers of the elements that a Frontend event speaks of."""
    found = shown.get("id", ())
    return {found} if isinstance(found, int) else set(found)


def cut_off(event: Mapping[str, Any]) -> bool:
    """Whether an event says that somebody stopped the program: what it would have done next is not in the record."""
    return bool(event["kind"] == ev.SESSION_ENDED and event["data"].get("status") == "cancelled")
