"""The inputs that a log names besides answers, in a replay: timers, jobs, and calls that are handed back (`lllm.inputs`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.ports import Restart, TextDelta
from lllm.stream_inputs import count_of, from_record, since_restart

if TYPE_CHECKING:
    from lllm.inputs import Reading, Timer
    from lllm.ports import Delta
    from lllm.replay.idle import Loop

Waiter = tuple["Loop", asyncio.Future[None]]


class Input:
    """One of them, at its place in the record.

    Attributes:
        name: `t3`, `e1`, `c2`, `f1`, `s2`.
        deltas: of a stream, those that came.
        stopped: whether it did not come, because its caller was stopped just then.
        requests: so many cancellations had been asked for when its caller heard of one; of a stream, so many deltas came.
        unread: of who reads a stream and was stopped: so many deltas that it was given it had not read.
        at: 1 when it has come, as in a tape of one event.
    """

    __slots__ = ("at", "deltas", "name", "requests", "stopped", "unread")

    def __init__(self, name: str) -> None:
        self.deltas: Sequence[Delta] | None = None
        self.stopped = name.startswith("-")
        self.name, _, count = name.removeprefix("-").partition("*")
        self.unread = int(count or 0) if self.is_reader else 0
        self.requests = 1 if self.is_reader else int(count or 1)
        self.at = 0

    @property
    def is_reader(self) -> bool:
        """True for who reads a stream, and was stopped."""
        return self.stopped and self.name.startswith("s")

    @property
    def is_again(self) -> bool:
        """True for who reads a stream, and was asked to stop once more."""
        return self.name.startswith("xs")

    @property
    def call(self) -> str:
        """The call of a stream."""
        return f"c{self.name[1:]}"


def inputs_of(event: Mapping[str, Any]) -> list[Input]:
    """The inputs that an event names."""
    if event["kind"] != ev.NOTE or event["data"].get("of") != "inputs":
        return []
    deltas = map(from_record, event["data"].get("deltas", ()))
    found = []
    for name in event["data"]["text"].split():
        one = Input(name)
        if one.name.startswith("s") and not one.stopped:
            one.deltas = list(islice(deltas, one.requests))
        found.append(one)
    return found


def placed_in(record: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], list[str]]:
    """What sessions that were resumed found to have been handed back, or stopped, by the place of what came next: the
    process had died before it could note that itself (see `Order.placed`)."""
    found: dict[tuple[int, str], list[str]] = {}
    for event in record:
        if event["kind"] == ev.SESSION_RESUMED:
            for one in event["data"].get("returned", ()):
                found.setdefault((one["before"], one.get("input", "")), []).append(one["name"])
    return found


class RecordedInputs:
    """What waits for its place in the record."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """All that the record names."""
        self.came: set[str] = set()
        """Those that came where the record names them."""
        self.notes_returns = False
        """True if the record notes where calls and effects were handed back: they had to wait for their log."""
        self.stopped: dict[str, int] = {}
        """The calls whose callers were stopped just then, with the event that says so."""
        self._requests: dict[str, int] = {}
        self.streams: dict[str, list[int]] = {}
        """The Notes that have deltas, by the calls whose they are."""
        self._deltas: dict[str, list[tuple[int, Input]]] = {}
        self._readers: dict[str, Input] = {}
        self._again: dict[str, list[Input]] = {}
        self.unread: dict[int, int] = {}
        """Of replies, by their events: so many of the last deltas the program had not read when it was stopped."""
        self.resumed: list[int] = []
        """The events after which another process went on."""
        self._timers: dict[str, tuple[Loop, Timer]] = {}
        self._jobs: dict[str, tuple[Loop, Callable[[], None], Callable[[], None]]] = {}
        self.returning: dict[str, Waiter] = {}
        """Calls and effects that are about to be handed back, by their names."""
        self.tasks: dict[asyncio.Task[Any] | None, str] = {}
        """The tasks that wait for it."""

    def name(self, found: Input, event: Mapping[str, Any]) -> None:
        """The record names an input."""
        self.names.add(found.name)
        if not found.stopped and found.name[:1] in "cf":
            self.notes_returns = True
        if found.stopped:
            self.stopped[found.name] = event["seq"]
        if found.deltas is not None:
            self.streams.setdefault(found.call, []).append(event["seq"])
            self._deltas.setdefault(found.call, []).append((event["seq"], found))
        if found.is_reader:
            self._readers[found.name] = found
        elif found.is_again:
            self._again.setdefault(found.name[1:], []).append(found)
        elif found.requests > 1 and found.name.startswith("x"):
            self._requests[found.name.removeprefix("x")] = found.requests

    def is_stopped(self, reader: str) -> bool:
        """True if the record says that who reads this stream is stopped, and it has not come to that."""
        return (found := self._readers.get(reader)) is not None and not found.at

    def is_stopped_again(self, reader: str) -> bool:
        """True if the record says that who reads this stream is stopped more than once, and it has not come to that."""
        return any(not one.at for one in self._again.get(reader, ()))

    def stop_is_noted(self, reading: Reading) -> bool:
        """True if the record has that who reads a stream was asked to stop more than once."""
        return reading.name in self._again

    def forget_unread(self, reader: Input, begun: int, reply: Mapping[str, Any] | None) -> None:
        """Who read a stream, whose request is event `begun`, was stopped before it had read all that it was given: where the
        loop does not record timers, one may fire meanwhile. A replay does not give it the rest."""
        inputs = self._given(reader.call, begun)
        left = reader.unread
        if reply is not None and reply["seq"] > begun:
            given = since_restart([delta for one in inputs for delta in one.deltas or ()])
            left -= self.unread.setdefault(
                reply["seq"], min(left, max(0, count_of(reply["data"].get("cuts", "")) - len(given)))
            )
        else:
            reader.unread = 0  # a fork is not given them either
        _shorten(inputs, sum(len(one.deltas or ()) for one in inputs) - left)

    def end_at(self, call: str, begun: int, told: str) -> None:
        """As `forget_unread`, by the text that had been read: deltas after it are not given."""
        inputs = self._given(call, begun)
        text, read = "", None
        for n, delta in enumerate([TextDelta(""), *(delta for one in inputs for delta in one.deltas or ())]):
            if isinstance(delta, TextDelta):
                text += delta.text
            elif isinstance(delta, Restart):
                text = ""
            if text == told:
                read = n
        if read is not None:
            _shorten(inputs, read)

    def _given(self, call: str, begun: int) -> list[Input]:
        """The deltas of a call since event `begun`."""
        return [one for seq, one in self._deltas.get(call, ()) if seq > begun]

    def requests(self, name: str) -> int:
        """So often the task of a call or an effect was asked to stop, where it was."""
        return self._requests.get(name, 1)

    def has_name(self, name: str) -> bool:
        """True if the record says where a call or an effect was handed back, or that its caller was stopped then."""
        return name in self.names or f"x{name}" in self.names

    def arm(self, loop: Loop, timer: Timer) -> None:
        """A timer of the program, which fires when its place has come."""
        self._timers[timer.name] = loop, timer

    def done(self, loop: Loop, name: str, come: Callable[[], None], live: Callable[[], None]) -> None:
        """What a thread has done for the program; `come` hands it over, and `live` after the record's end."""
        self._jobs[name] = loop, come, live

    def unnamed_job(self) -> str | None:
        """A job that is done, and that the record does not name."""
        return next((name for name in self._jobs if name not in self.names), None)

    def take_timer(self, name: str) -> tuple[Loop, Timer] | None:
        """The timer of this name, unless it was cancelled."""
        found = self._timers.pop(name, None)
        return None if found is None or found[1].cancelled() else found

    def fired(self, timer: asyncio.TimerHandle) -> None:
        """A timer fires: at its place in the record, or because nothing else can happen."""
        self._timers.pop(getattr(timer, "name", ""), None)

    def has(self, name: str) -> bool:
        """Whether the job or call of this name waits to be handed over."""
        waiter = self.returning.get(name)
        return name in self._jobs or (waiter is not None and not waiter[1].done())

    def hand_over(self, name: str) -> Loop | None:
        """Hands over the job or call of this name. The loop in which it comes; None where there is none."""
        if (job := self._jobs.pop(name, None)) is not None:
            loop, come, _ = job
            loop.soon(come)
            return loop
        if (waiter := self.returning.get(name)) is not None and not waiter[1].done():
            waiter[0].soon(settle, waiter[1])
            return waiter[0]
        return None

    def release(self, *, ended: bool) -> bool:
        """Hands everything over, whatever the record says. `ended`: that has ended. False where there is nothing."""
        jobs, self._jobs = self._jobs, {}
        for loop, come, live in jobs.values():
            loop.soon(live if ended else come)
        found = bool(jobs)
        for name in list(self.returning):
            found |= self.hand_over(name) is not None
        return found


def _shorten(inputs: Sequence[Input], most: int) -> None:
    """Leaves so many deltas, the first ones."""
    for one in inputs:
        given = one.deltas or ()
        one.deltas, most = given[: max(0, most)], most - len(given)


def settle(future: asyncio.Future[None]) -> None:
    """Ends the wait for a future, unless it has ended."""
    with suppress(asyncio.InvalidStateError):
        future.set_result(None)
