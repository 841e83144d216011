"""The timers of a program that is replayed: which of them fires next.

A timer that cancels calls or effects fires where the record says that they were cancelled. Others fire where the record names
them, or, where it does not, by its times, as far as those are exact (`lllm.replay.guesses`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Final, NamedTuple

from lllm.core import events as ev
from lllm.inputs import Timer
from lllm.replay.cancels import cancels, within
from lllm.replay.effects import ended_by_stop
from lllm.replay.guesses import EARLY, NEAR, SLACK, TOGETHER, Guess, Place
from lllm.replay.idle import PlainTimer
from lllm.replay.recorded_inputs import Input

if TYPE_CHECKING:
    from lllm.replay.idle import Loop
    from lllm.replay.order import Item, Order

LONGER: Final = 20_000.0
"""Microseconds by which a timer is due later than one that has fired, where it has been given more time."""

_APART: Final = 1e-4
"""Microseconds between timers that are due at the same time, for a guess."""


class Due(NamedTuple):
    """A timer of the program, when it is due, and whether it stops what the record says was stopped.

    Attributes:
        of: the place at which it was chosen among several, if it was.
    """

    loop: Loop
    timer: asyncio.TimerHandle
    due: float
    stops: bool = False
    of: Place | None = None


class Timers:
    """The timers of a program, in all of its loops.

    Attributes:
        guess: where those fire that the record does not name.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self.guess = Guess()
        self._fired: dict[Place, int] = {}  # chosen ones, at each place

    def before(self, item: Item, at: float) -> Due | None:
        """The timer that fires before an answer, or an input, that came at this time."""
        if item.exact:
            return self.first(item, at - SLACK)
        place = item.place

        def fires(timer: asyncio.TimerHandle, due: float) -> bool:
            number = timer.number if isinstance(timer, PlainTimer) else 0
            return self.guess.fires(place, at - due - number * _APART)

        return self.first(item, at + EARLY, fires)

    def left(self, due: Due) -> float:
        """Seconds until a timer is due where time goes at its own pace, because something real is at work beside it."""
        order = self._order
        begun = max(order.moved, due.loop.armed.get(due.timer, 0.0))
        return (due.due - order.now) / 1e6 - (time.monotonic() - begun)

    def meanwhile(self, item: Item, at: float) -> None:
        """Fires the timers that fire while the program is busy with what comes to it now, if there are such."""
        turns = self.guess.turns.get(item.place) if self.guess.turns else None
        if turns is None or (first := self.first(item, at + EARLY)) is None:
            return
        loop, until = first.loop, first.due + TOGETHER

        def wait(turns: int) -> None:
            if turns:
                loop.loop.call_soon(wait, turns - 1, context=Context())
                return
            for timer in list(loop.pending()):
                if loop.due(timer) <= until and not self.stops(timer):
                    loop.fire(timer, at_once=True)

        loop.soon(wait, turns)

    def first(
        self,
        item: Item,
        until: float,
        fires: Callable[[asyncio.TimerHandle, float], bool] = lambda *_: True,
        *,
        named: bool = False,
    ) -> Due | None:
        """The timer that fires next, if one does: the first that is due before `until` and `fires`; or, whenever it is due,
        one that cancels what the item says was cancelled, unless the whole program was: nothing within it has done that. Where
        the record names timers, only the others, unless `named`."""
        stopped = _stopped(item)
        if stopped is not None and ended_by_stop(self._order.session.record, item.event["seq"]):
            stopped = None
        found: list[tuple[float, int, Loop, asyncio.TimerHandle]] = []
        for loop in self._order.loops.values():
            if loop.loop.is_running():
                for timer in loop.pending():
                    if item.exact and not named and isinstance(timer, Timer):
                        continue
                    if (due := loop.due(timer)) < until or stopped is not None:
                        found.append((due, len(found), loop, timer))
        requests = 0 if stopped is None else self._order.inputs.requests(stopped)
        if isinstance(item.tape, Input) and item.tape.is_again:
            requests = item.tape.requests
        found.sort()
        for n, (due, _, loop, timer) in enumerate(found):
            if due >= until and item.exact and isinstance(timer, Timer) and self.is_longer(item, due):
                continue
            stops = self.stops(timer)
            if any(name == stopped and task.cancelling() < requests for name, task in stops):
                others = [
                    one for one in found[n + 1 :] if any(name == stopped for name, _ in self.stops(one[3]))
                ]
                due, _, loop, timer = [found[n], *others][self.guess.picks(item.place, len(others))]
                return Due(loop, timer, due, stops=True)
            if not stops and due < until and fires(timer, due):
                return Due(loop, timer, due) if item.exact else self._one_of(item, found[n:], until)
        return None

    def _one_of(
        self, item: Item, found: list[tuple[float, int, Loop, asyncio.TimerHandle]], until: float
    ) -> Due:
        """Of timers that are due one soon after another, the one that fires first: a loop may have fired them in another
        order, because its clock is coarse (uvloop rounds to milliseconds), or it was busy when it armed them."""
        until = min(until, found[0][0] + NEAR)
        near = [one for one in found[1:] if one[0] < until and not self.stops(one[3])]
        place = item.place
        # numbered by what has fired, because a loop that waits for others asks more than once
        choice = place[0], f"{place[1]} {self._fired.get(place, 0) + 1}"
        due, _, loop, timer = [found[0], *near][self.guess.picks(choice, len(near))]
        return Due(loop, timer, due, of=place)

    def is_longer(self, item: Item, due: float) -> bool:
        """True in a fork for a timer that is due later than the record has come to this: it has been given more time, which is
        not over yet."""
        order = self._order
        return order.session.hands_over and due > order.at(item) + LONGER

    def fired(self, due: Due) -> None:
        """A timer fires."""
        if due.of is not None:
            self._fired[due.of] = self._fired.get(due.of, 0) + 1

    def stops(self, timer: asyncio.TimerHandle) -> list[tuple[str, asyncio.Task[None]]]:
        """The calls and effects that a timer would cancel, with the tasks in which it does."""
        order = self._order
        readers, known = order.session.inputs.readers or {}, (order.driving, order.inputs.tasks)
        found = []
        for task in cancels(timer):
            reading = readers.get(task)
            found += [(names[task], task) for names in known if task in names]
            if reading is not None:
                makers = [] if reading.leaves else list(within(reading.maker))
                found += [(names[one], task) for names in known for one in makers if one in names]
                if order.inputs.is_stopped(reading.name) or order.inputs.is_stopped_again(reading.name):
                    found.append((reading.name, task))
        return found


def _stopped(item: Item) -> str | None:
    """The call or effect that was cancelled, by what the record has there."""
    event, tape = item.event, item.tape
    if isinstance(tape, Input):
        return tape.name.removeprefix("x") if tape.stopped or tape.is_again else None
    if event["kind"] == ev.CANCELLED:
        call: str = event["call"]
        return call
    if event["kind"] == ev.EFFECT_RETURNED and event["data"].get("cancelled"):
        return f"f{event['data']['n']}"
    return None
