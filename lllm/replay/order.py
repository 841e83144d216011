"""The order of a whole record, and the loops that keep it.

One cursor goes over the record. What today's code brings about moves it, call by call. What the world said is handed out
when the cursor has come to it, and when the loop that waits for it has nothing else to do. Until the record's end the loops
of the program live by the record's time: where nothing is left to do, either the next answer comes, or the program's next
timer fires. So a replay takes no time, and `sleep`, `wait_for` and `timeout` end in the recorded order. Afterwards time goes
on at its own pace.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm import loops
from lllm.core import events as ev
from lllm.inputs import ALL, ANSWERS, Reading, Timer, through
from lllm.replay.guesses import Place
from lllm.replay.idle import Loop, Threads, is_stop
from lllm.replay.recorded_inputs import Input, RecordedInputs, Waiter, inputs_of, placed_in, settle
from lllm.replay.timers import Due, Timers
from lllm.session import unscoped
from lllm.stream_inputs import add

if TYPE_CHECKING:
    from lllm.ports import Delta
    from lllm.replay.tape import Replayed, Tape

LATE: Final = 60_000_000
"""Microseconds of the record's time after which an event that the program does not bring about is given up."""
BEATS: Final = 50
"""Timers that may fire after the time of such an event, and in BEATING seconds more: a heartbeat alone brings nothing about."""
BEATING: Final = 2.0
SILENCE: Final = 60.0
"""Seconds that a thread of the program, or a connection, has to bring something about."""
CLOSING: Final = 5.0
"""Seconds in which a program that has nothing left to do must end: its loop may have to wait for threads."""
HANDOVER: Final = 0.05
"""Seconds in which the thread of another loop may take up what it was given: a blocking call that has returned."""
GRACE: Final = 0.25
"""Seconds in which threads that are not known to belong to the program may come back."""
_LOOK: Final = 0.01


class Item(NamedTuple):
    """An event that must come about, or an input: it has come when the tape is beyond `n`. `exact`: the record has the order
    of timers and jobs here."""

    event: Mapping[str, Any]
    tape: Tape | Input | None
    n: int
    exact: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.event["seq"], self.tape.name if isinstance(self.tape, Input) else ""


class Order:
    """The cursor over the record of a session. Thread-safe: a program may have several loops, in several threads."""

    def __init__(self, session: Replayed, tapes: Mapping[str | None, Tape]) -> None:
        self.session = session
        self.now = 0.0
        """Microseconds since the record began. Small, so that floats do not lose them."""
        self.alive: float | None = None
        """When the record ended, by the monotonic clock. From then on time goes at its own pace."""
        self.ended_by: BaseException | None = None
        """What the program has raised at its end."""
        self.off = True
        """True if no order is kept: before the program begins and after its end."""
        self.threads = False
        """True if threads that the program has started itself made calls."""
        self.stop: Callable[[], None] = lambda: None
        """Stops the program: set by whoever runs it."""
        self.moved = time.monotonic()
        self._overdue = 0
        """So many timers have fired although the cursor's event should have come before them."""
        self._advanced = self.moved
        """When the cursor has moved."""
        self.outside = 0
        """So many tasks wait for something real: the log."""
        self.loops: dict[Any, Loop] = {}
        self.driving: dict[Any, str] = {}
        """The tasks that drive calls along their records, or wait for the recorded end of an effect."""
        self.inputs = RecordedInputs()
        self.timers = Timers(self)
        self._armed = 0
        self._items: list[Item] = []
        self._times: dict[int, int] = {}  # without the hours in which nobody worked on the session
        self._at = 0
        self.lock = threading.RLock()
        self._waiting: dict[int, Waiter] = {}
        self._ends: list[Waiter] = []
        self._anew: list[Waiter] = []
        self._unplaced: dict[str, Waiter] = {}
        self.placed: list[tuple[str, int, str]] = []
        """Where those were handed back, or stopped, of which the record does not say it: their names, and the Place of what
        comes next. What follows in the log depends on it, so it is noted there."""
        self.unplaced_count = 0
        """So often the record did not say where a call or an effect was handed back."""
        self.at_once = 0
        """So many of those are handed back at once, the first ones."""
        self.keeps = False
        """True if any loop of the program has ever kept the order."""
        self._skipped: set[tuple[str, str]] = (
            set()
        )  # tools that are not run: what they had called is not either
        self._threads = Threads(self.loops)
        self._lay_out(tapes)

    def _lay_out(self, tapes: Mapping[str | None, Tape]) -> None:
        record = self.session.record
        places = {event["seq"]: (tape, n) for tape in tapes.values() for n, event in enumerate(tape.events)}
        down = last = record[0]["at"] if record else 0
        exact = False
        until = self.session.until
        asked: dict[str, int] = {}  # the last request of each call
        replied: dict[str, Mapping[str, Any]] = {}  # and its last reply
        placed = placed_in(record)
        for event in record:
            if event["kind"] == ev.SESSION_RESUMED:
                self.inputs.resumed.append(event["seq"])
                down += max(0, event["at"] - last)
            if event["kind"] in (ev.SESSION_STARTED, ev.SESSION_RESUMED):
                exact = event["data"].get("inputs") == ALL
            if event["kind"] == ev.MODEL_REQUESTED:
                asked[event["call"]] = event["seq"]
            elif event["kind"] == ev.MODEL_REPLIED:
                replied[event["call"]] = event
            elif event["kind"] == ev.CANCELLED and not exact and "told" in event["data"]:
                self.inputs.end_at(event["call"], asked.get(event["call"], 0), event["data"]["told"])
            last = max(last, event["at"])
            self._times[event["seq"]] = last - down
            if event["seq"] in places:
                tape, n = places[event["seq"]]
                self._place(placed.get((event["seq"], ""), ()), event, exact)
                self._items.append(Item(tape.events[n], tape, n, exact))
            for found in inputs_of(event):
                self._place(placed.get((event["seq"], found.name), ()), event, exact)
                self.inputs.name(found, event)
                if found.is_reader:
                    self.inputs.forget_unread(found, asked.get(found.call, 0), replied.get(found.call))
                if event["seq"] < until:
                    self._items.append(Item(event, found, 0, exact))

    def _place(self, names: Iterable[str], event: Mapping[str, Any], exact: bool) -> None:
        """What was handed back before an event, or before an input that it names, by what a resumed session found."""
        for found in map(Input, names):
            self.inputs.name(found, event)
            if event["seq"] < self.session.until:
                self._items.append(Item(event, found, 0, exact))

    @property
    def exact(self) -> bool:
        """True if the record has the order of all inputs here."""
        return bool(self._items) and self._items[min(self._at, len(self._items) - 1)].exact

    def has_ended(self) -> bool:
        """True if the record has ended, and the program goes on."""
        return self.alive is not None

    @property
    def stopped(self) -> bool:
        """True if the replay has stopped the program, which has not come to its own end."""
        return self.session.divergence is not None or is_stop(self.ended_by)

    @property
    def kept(self) -> str:
        """The part of the order that the log has of what the program does now: see `lllm.loops.kept_here`."""
        ours = all(isinstance(loop, loops.Loop) for loop in list(self.loops) if loop.is_running())
        return ALL if ours else ANSWERS

    @property
    def _silence(self) -> float:
        """Seconds in which something must come about."""
        return SILENCE if self.session.divergence is None else GRACE

    # --- what calls ask

    def here(self) -> Loop | None:
        """The running loop. From now on it lives by the record's time. None where there is none, or it is of a foreign
        kind."""
        if self.off:
            return None
        try:
            loop: Any = asyncio.get_running_loop()
        except RuntimeError:
            return None
        found = self.loops.get(loop)
        if found is None and hasattr(loop, "_selector"):
            with self.lock:
                found = self.loops[loop] = Loop(self, loop)
                self.keeps = True
        if found is not None:
            found.thread = threading.get_ident()
            self.threads = self.threads or self._threads.is_bare()
        return found

    async def turn(self, event: Mapping[str, Any], *, leaving: bool = False) -> None:
        """Waits until the record has come to this answer. `leaving`: whoever cancels meanwhile changes nothing."""
        if self.alive is not None or (loop := self.here()) is None:
            return
        future: asyncio.Future[None] = loop.loop.create_future()
        with self.lock:  # the record may end in another thread
            if self.off or self.alive is not None:
                return
            self._waiting[event["seq"]] = loop, future
        self._wake(loop)
        effect = f"f{event['data']['n']}" if event["kind"] == ev.EFFECT_RETURNED else None
        try:
            with self.drives(effect):
                await (through(future, lambda: self.off) if leaving else future)
        finally:
            self._waiting.pop(event["seq"], None)

    @contextmanager
    def drives(self, effect: str | None) -> Iterator[None]:
        """The task waits for the recorded end of an effect; None where it is something else."""
        if effect is None:
            yield
            return
        task = asyncio.current_task()
        before, self.driving[task] = self.driving.get(task), effect
        try:
            yield
        finally:
            if before is None:
                del self.driving[task]
            else:
                self.driving[task] = before

    async def returned(self, name: str, *, leaving: bool = False) -> bool:
        """Waits until the record says that a call, or an effect, was handed back. False if it ended before. `leaving`: as in
        `turn`."""
        if self.alive is not None:
            return False
        if name not in self.inputs.names or (loop := self.here()) is None:
            return True
        future: asyncio.Future[None] = loop.loop.create_future()
        task = asyncio.current_task()
        with self.lock:
            if self.off or self.alive is not None:
                return False
            self.inputs.returning[name] = loop, future
            self.inputs.tasks[task] = name
        self._wake(loop)
        try:
            await (through(future, lambda: self.off) if leaving else future)
        finally:
            del self.inputs.returning[name], self.inputs.tasks[task]
        return name in self.inputs.came

    async def stream_end(self, reading: Reading) -> None:
        """Waits until the record says that who reads a stream was stopped after its end, if it does."""
        if self.inputs.is_stopped(reading.name):
            await self.returned(reading.name)

    async def end(self, *, anew: bool = False) -> None:
        """Waits until all that was recorded has come about. Unless what follows is begun `anew`, that may be needed for it: a
        tool that is run again makes calls which have a record."""
        if self.alive is not None or (loop := self.here()) is None:
            return
        await self._wait_in(self._anew if anew else self._ends, loop)

    async def unplaced(self, name: str, *, leaving: bool = False) -> bool:
        """A call or an effect is about to be handed back, and the record does not say where: it did not have to wait, or the
        process died before it could be noted. Waits until nothing but its return can bring the next event about; True if it
        is the record's end that came. `leaving`: as in `turn`. The first `at_once` of them do not wait."""
        self.unplaced_count += 1
        if self.unplaced_count <= self.at_once:
            return False
        if self.has_ended() or (loop := self.here()) is None:
            return self.has_ended()
        future: asyncio.Future[None] = loop.loop.create_future()
        with self.lock:
            if self.off or self.has_ended():
                return self.has_ended()
            self._unplaced[name] = loop, future
        self._wake(loop)
        try:
            await (through(future, lambda: self.off) if leaving else future)
        except asyncio.CancelledError:
            with self.lock:
                if not leaving and not self.has_ended():
                    self._pass_over()
                    self._found(f"-{name}", self._next())
            raise
        finally:
            del self._unplaced[name]
        return self.has_ended() and all(name != found for found, *_ in self.placed)

    def _found(self, name: str, item: Item | None) -> None:
        """Notes where something was handed back, or stopped."""
        if item is not None:
            self.placed.append((name, *item.place))

    async def _wait_in(self, waiting: list[Waiter], loop: Loop) -> None:
        entry = loop, loop.loop.create_future()
        with self.lock:
            if self.off or self.alive is not None:
                return
            waiting.append(entry)
        self._wake(loop)
        try:
            await entry[1]
        finally:
            waiting.remove(entry)

    def _release_unplaced(self, here: Loop, item: Item) -> float | None:
        """Lets the first of those return whose place is not in the record, before this item. None where there is none, or they
        are in loops that a blocking call blocks."""
        for name, (loop, future) in self._unplaced.items():
            if loop is not here and loop.is_blocked:
                continue
            if any(name == found for found, *_ in self.placed):
                return 0 if loop is here else 0.02  # it is on its way
            if not future.done():
                self._found(name, item)
                loop.soon(settle, future)
                self.moved = time.monotonic()
                return 0 if loop is here else 0.02
        return None

    def numbered(self) -> int:
        """The number of a timer that the program arms."""
        self._armed += 1
        return self._armed

    def skip(self, call: str, tool_call: str) -> None:
        """A tool is not run, or not before the record's end: what it had called is not waited for."""
        self._skipped.add((call, tool_call))

    @property
    def skipped_count(self) -> int:
        """How many tools have been skipped so far."""
        return len(self._skipped)

    def is_skipped(self, call: str | None, tool_call: str) -> bool:
        """Whether a tool has been skipped."""
        return (call, tool_call) in self._skipped

    def came(self, event: Mapping[str, Any]) -> None:
        """Today's code has brought an event about."""
        if self.off or self.alive is not None:
            return
        with (
            self.lock
        ):  # one that comes before others says nothing of the time: a timer would be armed too late
            self._pass_over()
            if self._at:
                self.now = max(self.now, float(self._times[self._items[self._at - 1].event["seq"]]))
            self._over_at_last()
        self.moved = time.monotonic()
        if len(self.loops) > 1:
            self._wake(None)

    @contextmanager
    def waits_outside(self) -> Iterator[None]:
        """The task waits for something real, which the record does not order."""
        self.outside += 1
        try:
            yield
        finally:
            self.outside -= 1

    # --- life

    def begin(self, stop: Callable[[], None]) -> None:
        """From now on, the loops of the program keep the order."""
        self.off, self.stop = False, stop
        self._threads.before = set(threading.enumerate())
        unscoped.append(self._refuse)
        self.moved = time.monotonic()
        self.here()

    def _refuse(self) -> None:
        """ConfigError in a thread that does not know the session, while the record lasts."""
        if self.alive is None:
            self._threads.refuse()

    def finish(self) -> None:
        """The program has ended: nothing waits for a turn any more."""
        with self.lock:
            self.off = True
            if self._refuse in unscoped:
                unscoped.remove(self._refuse)
            self.inputs.release(ended=True)
            for loop in self.loops.values():
                loop.give_back()
            for loop, future in [
                *list(self._waiting.values()),
                *self._ends,
                *self._anew,
                *self._unplaced.values(),
            ]:
                loop.soon(settle, future)

    # --- what loops ask

    def rest(self, here: Loop) -> float:
        """Loop `here` has nothing to do. Moves something on and gives 0; or says for how long to wait for others."""
        with self.lock:
            self._pass_over()
            item = self._next()
            inputs = self.session.inputs
            if inputs.copied and not self.exact and (name := self.inputs.unnamed_job()) is not None:
                return self._hand(here, name)
            if item is None:
                return self._after(here)
            event = item.event
            if len(self.loops) > 1 and self._called(here) and time.monotonic() - self.moved < SILENCE:
                return 0.0005
            if len(self.loops) > 1 and self._threads.at_work(self._resting(here), self.loops.values()):
                return 0.0005
            at = self._times[event["seq"]]
            if isinstance(item.tape, Input):
                return self._input(here, item, item.tape, at)
            waiter = self._waiting.get(event["seq"])
            first = self._late(item, at) if waiter is None else self.timers.before(item, at)
            if waiter is not None:
                if (moved := self._unblock(here, item, waiter)) is not None:
                    return moved
                return self._answer(here, item, at, first, waiter)
            if (moved := self._release_unplaced(here, item)) is not None:
                return moved
            since = time.monotonic() - self.moved
            if (self._busy(here) or self._has_connections()) and since < self._silence:
                if first is None:
                    return 0 if self._departs(item, at) else _LOOK
                left = self.timers.left(first)
                return max(0.0005, min(_LOOK, left)) if left > 0 else self._fire(here, first)
            if since < HANDOVER and any(not one.idle for one in self.loops.values() if one is not here):
                return 0.0005
            if since < GRACE and (
                any(loop.is_blocked for loop in self.loops.values())  # it may go on at this very moment
                or self._threads.unknown(self._resting(here), self.loops.values())
            ):
                return _LOOK
            if since < CLOSING and any(loop.is_left for loop in self.loops.values()):
                return _LOOK  # no timer brings this about: the thread of a call that was stopped may
            if first is not None or (first := self._late(item, at, named=True)) is not None:
                return self._fire(here, first, until=at)
            return self._stuck(here, event)

    def at(self, item: Item) -> float:
        """When the record came to an item."""
        return self._times[item.event["seq"]]

    def _next(self) -> Item | None:
        """The next item: the cursor's, or the answer of an effect that comes before it. None at the record's end."""
        item = self._items[self._at] if self._at < len(self._items) else None
        first = min(list(self._waiting), default=None)
        if first is not None and (item is None or first < item.event["seq"]):
            return Item(self.session.record[first], None, 0, item is not None and item.exact)
        return item

    def _unblock(self, here: Loop, item: Item, waiter: Waiter) -> float | None:
        """An answer is next whose loop a blocking call blocks: what that call waits for comes first. None elsewhere."""
        if waiter[0] is here or not waiter[0].is_blocked or waiter[1].done():
            return None
        if (moved := self._release_unplaced(here, item)) is not None:
            return moved
        if time.monotonic() - self.moved < self._silence:
            return None
        if self.session.hands_over:
            self.over()
        else:
            self._give_up(item.event)
        return 0.05

    def _answer(self, here: Loop, item: Item, at: float, first: Due | None, waiter: Waiter) -> float:
        """The next event is an answer that a call waits for."""
        loop, future = waiter
        if future.done():
            return _LOOK  # given, and not taken yet
        if self._busy(here):  # with something else at work, time goes at its own pace
            until = min(
                max(0.0, (min(at, at if first is None else first.due) - self.now) / 1e6), self._silence
            )
            if time.monotonic() - self.moved < until:
                return _LOOK
        if first is not None:
            return self._fire(here, first, until=at)
        if loop is not here:
            loop.wake()
            return 0.05
        self.now = max(self.now, at)
        self.moved = time.monotonic()
        future.set_result(None)
        self.timers.meanwhile(item, at)
        return 0

    def _input(self, here: Loop, item: Item, found: Input, at: float) -> float:
        """The next item is an input that the record names."""
        inputs = self.inputs
        first = self.timers.before(item, at)
        if first is not None:
            return self._fire(here, first, until=at)
        if found.is_again:
            found.at = 1
            self._copy(f"{found.name}*{found.requests}")
            return 0
        if found.deltas is not None:
            return self._show(here, item, found, found.deltas, at)
        if found.stopped:  # by a timer that has fired, or by code of today
            found.at = 1
            if found.name in self.session.inputs.stops:
                self.session.inputs.stops.remove(found.name)
            else:  # who read its stream was: it comes to its recorded end
                self._copy(f"-{found.name}*{found.unread}" if found.unread else f"-{found.name}")
                if inputs.has(found.name):  # although nobody stops it now
                    inputs.came.add(found.name)
                    return 0 if inputs.hand_over(found.name) is here else 0.02
            return 0
        if self._begins_yet() and time.monotonic() - self.moved < HANDOVER:
            return 0.0005  # a timer may cancel what a thread has not begun: it had begun, as a rule
        if (timer := inputs.take_timer(found.name)) is not None:
            due = Due(*timer, timer[0].due(timer[1]))
            if self.timers.is_longer(item, due.due) and self.timers.stops(due.timer):
                self.over()
                return 0
            found.at = 1
            return self._fire(here, due)
        if inputs.has(found.name):
            found.at = 1
            self.now = max(self.now, at)
            self.timers.meanwhile(item, at)
            return self._hand(here, found.name)
        if (moved := self._release_unplaced(here, item)) is not None:
            return moved
        since = time.monotonic() - self.moved
        if self._busy(here) and since < self._silence:
            return _LOOK
        if since < GRACE and (
            len(self.loops) > 1 or self._threads.unknown(self._resting(here), self.loops.values())
        ):
            return _LOOK
        found.at = 1  # what today's code does without it will turn out
        return 0

    def _show(self, here: Loop, item: Item, found: Input, deltas: Sequence[Delta], at: float) -> float:
        """Gives the program deltas of a stream."""
        found.at = 1
        if not deltas:
            return 0
        call = self.session.following.get(found.call)
        loop = None if call is None else call.shows(deltas, item.event["seq"])
        if loop is None:
            return 0
        if self.session.inputs.copied:
            add(self.session.inputs, found.call, deltas)
        self.now = max(self.now, at)
        self.moved = time.monotonic()
        return 0 if loop is here else 0.02

    def _hand(self, here: Loop, name: str) -> float:
        """Hands over a job or call."""
        self.inputs.came.add(name)
        self._copy(name)
        self.moved = time.monotonic()
        loop = self.inputs.hand_over(name)
        self._over_at_last()
        return 0 if loop is here else 0.02

    def _copy(self, name: str) -> None:
        """The log of a fork has the order of what came to it here."""
        if self.session.inputs.copied:
            requests = self.inputs.requests(name[1:]) if name.startswith("x") else 1
            self.session.inputs.came.append(name if requests == 1 else f"{name}*{requests}")

    def _late(self, item: Item, at: float, *, named: bool = False) -> Due | None:
        """The timer that fires next, where nothing else brings about what came at this time. None after many in vain."""
        if self._overdue >= BEATS and time.monotonic() - self._advanced > BEATING:
            return None
        return self.timers.first(item, at + LATE, named=named)

    def _departs(self, item: Item, at: float) -> bool:
        """True if a fork leaves the record here: a timer that the record does not have next is overdue, so the program of
        today waits for something else."""
        timer = self.timers.first(item, at + LATE, named=True) if self.session.hands_over else None
        if timer is None or self.timers.left(timer) + GRACE > 0:
            return False
        self.over()
        return True

    def _fire(self, here: Loop, first: Due, until: float = float("inf")) -> float:
        """A timer of the program is due. One that stops something has fired `until` the record says so."""
        self.now = max(self.now, min(first.due, until) if first.stops else first.due)
        self.moved = time.monotonic()
        self._overdue += (
            self._at >= len(self._items) or first.due > self._times[self._items[self._at].event["seq"]]
        )
        self.inputs.fired(first.timer)
        self.timers.fired(first)
        if isinstance(first.timer, Timer):
            self._copy(first.timer.name)
        first.loop.fire(first.timer)
        return 0 if first.loop is here else 0.02

    def _after(self, here: Loop) -> float:
        """All that was recorded has come about."""
        if not self.session.goes_on:  # a replay: what the program does now makes no difference
            last = self.session.record[-1]
            item = Item(last, None, 0, exact=False)
            if (first := self._late(item, self._times[last["seq"]])) is not None:
                return self._fire(here, first)
            if self.inputs.release(ended=False):
                return 0
            for loop, future in self._ends:  # threads that nobody waits for
                loop.soon(settle, future)
            at_work = self._busy(here) or self._has_connections()
            if time.monotonic() - self.moved < (self._silence if at_work else CLOSING):
                return _LOOK
            self._give_up(None)
            return 0.05
        self.over()
        self._wake(here)
        return 0

    def over(self) -> None:
        """The record is at its end, and the program goes on: in real time."""
        with self.lock:
            if self.alive is None:
                self._hand_over()

    def _over_at_last(self) -> None:
        """The last that was recorded has come to a program that is resumed: what it does about that is live. If it had to wait,
        it could be stopped before it had begun, as no replay does it."""
        if self.alive is None and self.session.goes_on and not self.session.hands_over:
            self._pass_over()
            if self._next() is None:
                self._hand_over()

    def over_if_ended(self) -> None:
        """`over`, if all that was recorded has come about."""
        with self.lock:
            self._pass_over()
            if not self.off and self._next() is None:
                self.over()

    def _hand_over(self) -> None:
        self.alive = time.monotonic()
        inputs = self.session.inputs
        inputs.follows, inputs.crowded, inputs.copied = False, True, False
        self.inputs.release(ended=True)
        for loop in self.loops.values():
            loop.hand_over()
        waiting = list(self._waiting.values())
        for loop, future in [
            *waiting,
            *self._ends,
            *self._anew,
            *self._unplaced.values(),
        ]:  # those that wake up leave it, in their threads
            loop.soon(settle, future)

    def _stuck(self, here: Loop, event: Mapping[str, Any]) -> float:
        """Nobody brings the next event about. The next answer that somebody waits for comes before its turn: at the end it
        will turn out what was left undone."""
        if self.session.hands_over:
            self.over()
            return 0
        waiting = [self._waiting[seq] for seq in sorted(self._waiting)]
        for loop, future in [*waiting, *self._ends]:
            if not future.done():
                loop.soon(settle, future)
                self.moved = time.monotonic()
                return 0 if loop is here else 0.02
        if self.inputs.release(ended=False):
            return 0
        self._give_up(event)
        return 0.05

    def _give_up(self, event: Mapping[str, Any] | None) -> None:
        self.session.nobody_brings(event, [place for loop in self.loops.values() for place in loop.places()])
        self.off = True
        self.stop()

    # --- who is where

    def _pass_over(self) -> None:
        """Moves the cursor over events that have come about, and over those that never will."""
        while self._at < len(self._items):
            event, tape, n, _ = self._items[self._at]
            if tape is not None and tape.at <= n and not (self._skipped and self._is_skipped(event["call"])):
                return
            self._at += 1
            self._overdue, self._advanced = 0, time.monotonic()

    def _is_skipped(self, call: str | None) -> bool:
        return any(place in self._skipped for place in self.session.places_above(call))

    def _resting(self, here: Loop) -> set[int]:
        """The threads whose loops have nothing to do."""
        return {loop.thread for loop in self.loops.values() if loop.rests(here)}

    def _called(self, here: Loop) -> bool:
        """True if another loop has still to come to what it was given to do."""
        return any(
            one.called and one is not here and one.loop.is_running() and not one.is_blocked
            for one in self.loops.values()
        )

    def _busy(self, here: Loop) -> bool:
        """True if a thread is at work for one of the loops, or something real is waited for."""
        if self.outside:
            return True
        jobs = [job for loop in self.loops.values() if loop.loop.is_running() for job in list(loop.jobs)]
        if not jobs:
            return False
        resting = self._resting(here)
        return any(job.thread not in resting for job in jobs)

    def _has_connections(self) -> bool:
        """True if a loop waits for anything but its own threads."""
        return any(loop.has_connections() for loop in list(self.loops.values()))

    def _begins_yet(self) -> bool:
        """True if a thread has still to begin with what it was given."""
        return any(not job.thread for loop in self.loops.values() for job in list(loop.jobs))

    def _wake(self, but: Loop | None) -> None:
        for loop in list(self.loops.values()):
            if loop is not but and loop.idle:
                loop.wake()
