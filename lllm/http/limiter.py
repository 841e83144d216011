"""How much one endpoint is asked at a time: what was configured, and what the endpoint has shown that it bears.

One limiter per endpoint (API root and key) and process: every client, event loop and thread that talks to the endpoint
goes through the same one. It is free of charge until something limits: a configured limit, or an answer that says "too
much".
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from lllm.errors import ConfigError, LLMError
from lllm.loops import is_blocked, on_block

if TYPE_CHECKING:
    from lllm.models.reply import Usage

MINUTE: Final = 60.0
LONGEST_PAUSE: Final = 600.0
"""Seconds that a `Retry-After` can hold all callers up. Of a longer one each of them is told by its own request: an error
at once is better than a silence of hours."""
FORGET: Final = 600.0
"""Seconds after the last overload when the lowered concurrency is forgotten."""
OVERLOADED: Final = frozenset({429, 502, 503, 504, 529})
"""Statuses that mean: fewer at a time."""
_GUESS: Final = 256.0  # tokens of a reply, before any has come
_SAME: Final = 0.001  # seconds
_SHARE: Final = 1 / 16  # of the newest reply in the mean


class Limits(NamedTuple):
    """What an endpoint may be asked; None is no limit.

    Attributes:
        concurrency: requests at a time.
        requests_per_minute: requests that begin within any 60 seconds.
        tokens_per_minute: tokens, of prompts and replies, within any 60 seconds. Estimated before, corrected afterwards.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def checked(self) -> Limits:
        """ConfigError for a limit that is not a whole number above zero."""
        for name, value in zip(self._fields, self, strict=True):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(
                    f"{name} is {value!r}", hint=f"{name} is a whole number, 1 or more; None is no limit."
                )
        return self

    def strictest(self, other: Limits) -> Limits:
        """The smaller of each."""
        return Limits(*(_smaller(*pair) for pair in zip(self, other, strict=True)))


def _smaller(one: int | None, other: int | None) -> int | None:
    """The smaller number; None is none."""
    return one if other is None else other if one is None else min(one, other)


class Failure(NamedTuple):
    """A request that failed.

    Attributes:
        error: its hint is extended if fewer requests are sent from then on.
        overloaded: fewer requests at a time may help.
        retry_after: seconds that the server asked to wait.
        uncounted: it cost no tokens: it was refused, or did not arrive.
    """

    error: LLMError
    overloaded: bool
    retry_after: float | None
    uncounted: bool


class Ticket:
    """One request on its way. Its holder reports how it ended: `succeed`, or `fail`."""

    # of most requests nothing else is ever set
    succeeded = False
    usage: Usage | None = None
    failure: Failure | None = None
    tokens = 0  # the estimate
    entry: list[float] | None = None  # when it began, and its tokens
    wake: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.loop = asyncio._get_running_loop()  # None outside of one

    def succeed(self, usage: Usage | None = None) -> None:
        """Reports an answer; `usage` is what it cost, if known and counted in tokens."""
        self.succeeded = True
        self.usage = usage

    def fail(
        self,
        error: LLMError,
        *,
        overloaded: bool = False,
        retry_after: float | None = None,
        uncounted: bool = False,
    ) -> None:
        """Reports an error; see `Failure`."""
        self.failure = Failure(error, overloaded, retry_after, uncounted)


class Timer(Protocol):
    """What `later` gives."""

    def cancel(self) -> Any: ...


def later(seconds: float, action: Callable[[], None]) -> Timer:
    """Does something in a while, on a thread: the loops of those who wait may stop at any time."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


class Limiter:
    """First come, first served.

        ticket = limiter.enter() if limiter.free else await limiter.wait()
        try:
            ...
            ticket.succeed()
        except LLMError as error:
            ticket.fail(error, overloaded=...)
        finally:
            limiter.leave(ticket)

    An overload (statuses OVERLOADED, a dropped reply, a reply that stalls) halves the number of requests at a time, once
    for all requests that were on their way together; every answer raises it again, by one for a full round of answers. A
    `Retry-After` holds everybody up. Ten minutes after the last overload all of that is forgotten.

    Arguments:
        clock: seconds, from anywhere.
        later: does something after some seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], Timer] = later,
    ) -> None:
        self._clock, self._later = clock, later
        self._limits = Limits()
        self.reply_tokens = _GUESS
        """Tokens of a reply: the mean of the newest."""
        self._fresh()

    def _fresh(self) -> None:
        # reentrant: the collector may end a waiting coroutine anywhere, also in here
        self._lock = threading.RLock()
        self._running: set[Ticket] = set()
        self._queue: deque[Ticket] = deque()
        self._minute: deque[list[float]] = deque()
        self._tokens = 0.0  # sum of `_minute`
        self._bearable: float | None = None  # requests at a time, as learned
        self._overload = 0.0  # when it was last
        self._not_before = 0.0
        self._timer: Timer | None = None
        self._due = 0.0  # when it rings
        self._generation = 0
        self.free = self._limits == Limits()
        """Whether nothing limits: `enter` may be used."""

    @property
    def limits(self) -> Limits:
        """What was configured."""
        return self._limits

    @property
    def running(self) -> int:
        """Requests on their way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def concurrency(self) -> int | None:
        """Requests at a time, now: the smaller of what is configured and what was learned."""
        learned = None if self._bearable is None else int(self._bearable)
        return _smaller(self._limits.concurrency, learned)

    def restrict(self, limits: Limits) -> None:
        """Adds limits; of two for the same thing the stricter holds."""
        with self._lock:
            self._limits = self._limits.strictest(limits)
            self.free = self.free and self._limits == Limits()

    def enter(self) -> Ticket:
        """Begins a request at once. Only while `free`."""
        ticket = Ticket(self._generation)
        self._running.add(ticket)
        return ticket

    async def wait(self, tokens: int = 0) -> Ticket:
        """Begins a request when it is its turn. Cancelled, it leaves the queue. `tokens` is an estimate, for
        `tokens_per_minute`."""
        ticket = Ticket(self._generation)
        ticket.tokens = tokens
        with self._lock:
            if not self._queue and self._delay(ticket) == 0:
                self._begin(ticket)
                return ticket
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            ticket.wake = (loop, turn)
            self._queue.append(ticket)
            self._pump()
        try:
            await turn
        except BaseException:
            with self._lock:
                if ticket in self._running:
                    self._end(ticket, tokens=0)
                else:
                    self._forget(ticket)
                self._pump()
            raise
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Ends a request. A second time does nothing."""
        if self.free and ticket.failure is None:
            self._running.discard(ticket)
            return
        with self._lock:
            if ticket not in self._running:
                return
            failure = ticket.failure
            if failure is not None and failure.overloaded:
                self._slow_down(ticket, failure)
            tokens: float | None = None
            if ticket.succeeded:
                if self._bearable is not None:
                    self._bearable += 1 / self._bearable
                if ticket.usage is not None:
                    self.reply_tokens += (ticket.usage.completion - self.reply_tokens) * _SHARE
                    tokens = ticket.usage.total
            elif failure is not None and failure.uncounted:
                tokens = 0
            self._end(ticket, tokens)
            self._pump()

    # --- under the lock ---

    def _begin(self, ticket: Ticket) -> None:
        ticket.generation = self._generation
        self._running.add(ticket)
        if self._limits.requests_per_minute is not None or self._limits.tokens_per_minute is not None:
            ticket.entry = [self._clock(), ticket.tokens]
            self._minute.append(ticket.entry)
            self._tokens += ticket.tokens

    def _end(self, ticket: Ticket, tokens: float | None) -> None:
        """Takes it from those on their way; `tokens` is what it cost, None where only the estimate is known."""
        self._running.discard(ticket)
        entry, ticket.entry = ticket.entry, None
        if entry is None or tokens is None:
            return
        if entry[0] >= 0:  # still within the minute
            self._tokens += tokens - entry[1]
        entry[1] = tokens

    def _forget(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)

    def _slow_down(self, ticket: Ticket, failure: Failure) -> None:
        now = self._clock()
        self.free = False
        self._overload = now
        if failure.retry_after is not None and failure.retry_after <= LONGEST_PAUSE:
            self._not_before = max(self._not_before, now + failure.retry_after)
        if ticket.generation != self._generation:
            return  # it was on its way when the number was lowered: no news
        self._generation += 1
        before = len(self._running)
        if self._limits.concurrency is not None:
            before = min(before, self._limits.concurrency)
        self._bearable = max(1.0, before / 2)
        if before > 1:
            slower = f"From now on {int(self._bearable)} calls at a time instead of {before}; concurrency= sets it."
            error = failure.error
            error.hint = f"{error.hint} {slower}" if error.hint else slower

    def _delay(self, ticket: Ticket) -> float:
        """Seconds until a request may begin; infinity where another one must end first."""
        now, limits = self._clock(), self._limits
        if self._bearable is not None and now - self._overload >= FORGET:
            self._bearable = None
        most = self.concurrency
        if most is not None and self._busy(most) >= most:
            return float("inf")
        delay = max(0.0, self._not_before - now)
        minute = self._minute
        while minute and now - minute[0][0] >= MINUTE:
            gone = minute.popleft()
            self._tokens -= gone[1]
            gone[0] = -1.0
        if limits.requests_per_minute is not None and len(minute) >= limits.requests_per_minute:
            oldest = minute[len(minute) - limits.requests_per_minute]
            delay = max(delay, oldest[0] + MINUTE - now)
        if limits.tokens_per_minute is not None and minute:
            # one that is larger than the limit goes when nothing else was sent for a minute
            excess = self._tokens + ticket.tokens - limits.tokens_per_minute
            for at, tokens in minute:
                if excess <= 0:
                    break
                excess -= tokens
                delay = max(delay, at + MINUTE - now)
        return delay

    def _busy(self, most: int) -> int:
        """Number of running requests. A request whose loop a blocking call has stopped cannot end before that call, which
        may be the one waiting here: such requests do not count if otherwise none could start."""
        if len(self._running) < most:
            return len(self._running)
        return sum(not is_blocked(ticket.loop) for ticket in list(self._running))

    def _pump(self) -> None:
        """Lets begin whoever may, in the order in which they came."""
        queue = self._queue
        while queue:
            delay = self._delay(queue[0])
            if delay > 0:
                self._set_timer(delay)
                return
            ticket = queue.popleft()
            assert ticket.wake is not None
            loop, turn = ticket.wake
            self._begin(ticket)
            try:
                loop.call_soon_threadsafe(_give, turn)
            except RuntimeError:  # its loop was closed under it
                self._end(ticket, tokens=0)
        self._set_timer(float("inf"))
        if self._limits == Limits() and self._bearable is None and self._clock() >= self._not_before:
            self.free = True

    def _set_timer(self, delay: float) -> None:
        due = self._clock() + delay
        if self._timer is not None:
            if abs(due - self._due) < _SAME:
                return
            self._timer.cancel()
            self._timer = None
        if delay != float("inf"):
            self._timer, self._due = self._later(delay, self._tick), due

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._pump()


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


# --- one for each endpoint ---

_lock = threading.Lock()
_limiters: weakref.WeakValueDictionary[tuple[str, str], Limiter] = weakref.WeakValueDictionary()


def limiter_of(root: str, secrets: Sequence[str]) -> Limiter:
    """The limiter of an endpoint: the same one for the same API root and the same key. It lives as long as somebody has
    it, and so do the limits that it was given."""
    key = (root, hashlib.sha256("\0".join(secrets).encode()).hexdigest())
    with _lock:
        found = _limiters.get(key)
        if found is None:
            found = _limiters[key] = Limiter()
        return found


def _blocked() -> None:
    """Wakes the queues when a loop starts to block: a waiting request may be able to start now."""
    for limiter in list(_limiters.values()):
        if limiter._queue:
            limiter._tick()


on_block.append(_blocked)


def _after_fork() -> None:
    """A child has none of its parent's requests, loops and threads."""
    global _lock
    _lock = threading.Lock()
    for limiter in list(_limiters.values()):
        limiter._fresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
