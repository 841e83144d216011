"""Where timers fire that a log does not have: in a foreign event loop nobody sees them.

A timer that cancels a call has that in the log. One that does something else (it wakes a task, counts) fires by the log's
times: before an answer that came more than `slack` later. When a live loop fires a timer is not exact, so that is a guess.
Where a replay diverges that had to guess, the program is run again with other guesses, those that got farthest first.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import takewhile
from typing import Final, NamedTuple, TypeVar

from lllm.errors import ReplayDivergence

T = TypeVar("T")

Place = tuple[int, str]
"""An answer, or an input that is named there: the event's number, and the name."""

SLACK: Final = 2_000.0
"""Microseconds. A timer that was due so shortly before an answer came has fired after it: a timer of today is armed at the
time of the event before it, not at its own, and never fires early."""
EARLY: Final = 3_000.0
"""Microseconds that a program may be busy with an answer: a timer that is due meanwhile may fire before it is seen."""
LATE: Final = 100_000.0
"""Microseconds by which a busy loop may have fired a timer late."""
NEAR: Final = 3_000.0
"""Microseconds: timers that are due so shortly one after another may fire in another order."""
TOGETHER: Final = 300.0
"""Microseconds: timers that are due so shortly one after another fire in one turn."""
BUSY: Final = 3_000.0
"""Microseconds around an answer in which a timer is tried in the midst of what the program does with it."""
TURNS: Final = (0, 1, 2)
"""Turns of a loop that are tried, for a timer that fires meanwhile."""
SLACKS: Final = (0.0, 1_000.0, 500.0, 4_000.0, 10_000.0, 30_000.0)
"""Those that are tried for the whole record."""
CLOSE: Final = 8
"""Of timers that are due at one place, those whose guesses are looked at one by one."""
_LEAST: Final = 1e-5
_RIVALS: Final = 2
"""Of several timers, so many are tried besides the first."""
TRIES: Final = 80
SECONDS: Final = 20.0
"""Seconds after which no other guess is tried."""


class Guess:
    """How late timers have fired, in microseconds: everywhere, and at single places.

    Attributes:
        picked: of several timers that could have fired at a place, the first, the second ... that is due.
        turns: where a timer has fired while the program was busy with what came there: so many turns of its loop later.
    """

    def __init__(
        self,
        slack: float = SLACK,
        slacks: Mapping[Place, float] | None = None,
        turns: Mapping[Place, int] | None = None,
        picked: Mapping[Place, int] | None = None,
    ) -> None:
        self.slack = slack
        self.slacks = dict(slacks or {})
        self.turns = dict(turns or {})
        self.picked = dict(picked or {})
        self.rivals: dict[Place, int] = {}
        """How many timers more could have fired at a place."""
        self.asked: dict[Place, dict[float, bool]] = {}
        """By how much a timer was due before something, and whether it has fired before it: where that is not sure."""

    def fires(self, place: Place, margin: float) -> bool:
        """Whether a timer that was due so long before what comes at a place fires before it."""
        fires = margin > self.slacks.get(place, self.slack)
        if -EARLY < margin < LATE:
            self.asked.setdefault(place, {})[margin] = fires
        return fires

    def picks(self, place: Place, others: int) -> int:
        """Which of several timers fires at a place: the first that is due, or one of the `others`. They could all have
        cancelled what was cancelled there, or they are due one soon after another."""
        if others:
            self.rivals[place] = others
        return min(self.picked.get(place, 0), others)

    @property
    def unsure(self) -> bool:
        """Whether there was anything to guess."""
        return bool(self.asked or self.rivals)

    @property
    def key(self) -> tuple[object, ...]:
        """What it says."""
        places = self.slacks, self.turns, self.picked
        return self.slack, *(frozenset(one.items()) for one in places)

    def others(self) -> Iterator[Guess]:
        """Other guesses, each of which differs at one place; first those at the last places, where the difference is."""
        for place in sorted({*self.asked, *self.rivals}, reverse=True):
            if place not in self.picked:
                for other in range(1, min(self.rivals.get(place, 0), _RIVALS) + 1):
                    yield Guess(self.slack, self.slacks, self.turns, {**self.picked, place: other})
            asked = {} if place in self.turns else self.asked.get(place, {})
            fired = [margin for margin, fires in asked.items() if fires]
            waited = [margin for margin, fires in asked.items() if not fires]
            slacks = fired[-CLOSE:]  # one less fires, or two, ...
            if waited:
                slacks += [max(waited) - TOGETHER, max(waited) - _LEAST]
            for slack in dict.fromkeys(slacks):
                yield Guess(self.slack, {**self.slacks, place: slack}, self.turns, self.picked)
        places = [place for place in reversed(self.asked) if place not in self.turns]
        nearest = {place: min(self.asked[place], key=abs) for place in places}
        for place in sorted(places, key=lambda place: abs(nearest[place])):
            if abs(nearest[place]) < BUSY:
                for turns in TURNS:
                    slacks_now = {**self.slacks, place: nearest[place] + _LEAST}
                    yield Guess(self.slack, slacks_now, {**self.turns, place: turns}, self.picked)


class Tried(NamedTuple):
    """What came of a guess: how far the program agreed with the record."""

    guess: Guess
    far: tuple[int, int]


async def search(
    run: Callable[[Guess], Awaitable[tuple[T, ReplayDivergence | None]]],
) -> tuple[T, Guess, int]:
    """Runs a program with one guess after another until it agrees with its record: what came of that, with the guess, and how
    often it was run. What came of the first one where none agrees."""
    began = time.monotonic()
    first = Guess()
    result, error = await run(first)
    tries = 1
    if error is None or not first.unsure:
        return result, first, tries
    best = Tried(first, _how_far(error))

    async def attempt(guess: Guess) -> tuple[T, bool] | None:
        nonlocal tries, best
        tries += 1
        made, failed = await run(guess)
        if failed is None:
            return made, True
        far = _how_far(failed)
        if far > best.far:
            best = Tried(guess, far)
            return made, False
        return None

    seen = {first.key}
    for slack in SLACKS if first.asked else ():
        guess = Guess(slack)
        seen.add(guess.key)
        if (found := await attempt(guess)) is not None and found[1]:
            return found[0], guess, tries
    better = True
    while better:
        better = False
        for guess in best.guess.others():
            if tries >= TRIES or time.monotonic() - began > SECONDS:
                break
            if guess.key in seen:
                continue
            seen.add(guess.key)
            if (found := await attempt(guess)) is None:
                continue
            if found[1]:
                return found[0], guess, tries
            better = True
            break
    return result, first, tries


def _how_far(error: ReplayDivergence) -> tuple[int, int]:
    """The event at which a program differs from its record, and how much of it is the same."""
    seq = 1 << 60 if error.seq is None else error.seq
    both = zip(str(_words(error.recorded)), str(_words(error.present)), strict=False)
    return seq, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def _words(data: object) -> object:
    """What a message says: its keys may stand in any order."""
    return data.get("content", data) if isinstance(data, Mapping) else data
