"""The time limits of one request."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal

from lllm.ports import Timeouts

Stage = Literal["connect", "first_token", "idle", "total"]


class Expired(Exception):
    """A limit passed. `stage` says which, `seconds` how long it was."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        super().__init__(stage)
        self.stage: Stage = stage
        self.seconds = seconds


class Watch:
    """Interrupts whoever waits `with watch:` when a limit passes, with Expired.

    Only waiting for the endpoint is watched: a consumer that takes its time between two pieces is never interrupted,
    and its time does not count as the stream's idleness. A timer is moved, not set anew, when a piece arrives: a stream
    of a thousand pieces costs a handful of timers.
    """

    __slots__ = (
        "_cancelling",
        "_due",
        "_fired",
        "_handle",
        "_idle",
        "_loop",
        "_stage",
        "_start",
        "_task",
        "_total",
    )

    def __init__(self, limits: Timeouts, *, streaming: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._total = limits.total
        self._idle: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._fired = False
        self._cancelling = 0
        self._stage: tuple[Stage, float] | None = None
        self._due: float | None = None
        self._arm("first_token", limits.first_token if streaming else None, self._start)

    def first_piece(self, idle: float | None) -> None:
        """The stream has begun: from here on every wait may last `idle` seconds."""
        self._idle = idle
        self._arm("idle", idle, self._loop.time())

    def close(self) -> None:
        """Takes the timer down."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __enter__(self) -> None:
        now = self._loop.time()
        if self._idle is not None:
            self._arm("idle", self._idle, now)
        if self._due is None:
            return
        if now >= self._due:
            raise self._expired()
        self._task = asyncio.current_task()
        if self._task is not None:
            self._cancelling = self._task.cancelling()
        if self._handle is None:
            self._handle = self._loop.call_at(self._due, self._fire)
        elif self._handle.when() > self._due:
            self._handle.cancel()
            self._handle = self._loop.call_at(self._due, self._fire)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._fired and task is not None:
            self._fired = False
            # somebody else's cancellation at the same moment wins
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise self._expired() from None

    def _arm(self, stage: Stage, seconds: float | None, now: float) -> None:
        """The nearer of this stage's limit and the total becomes the one that is due."""
        total = None if self._total is None else self._start + self._total
        due = None if seconds is None else now + seconds
        if due is not None and seconds is not None and (total is None or due < total):
            self._due, self._stage = due, (stage, seconds)
        else:
            self._due, self._stage = total, None if self._total is None else ("total", self._total)

    def _expired(self) -> Expired:
        assert self._stage is not None
        return Expired(*self._stage)

    def _fire(self) -> None:
        self._handle = None
        if self._task is None or self._due is None:
            return  # nobody waits: the next wait sets the timer again
        if self._loop.time() < self._due:
            self._handle = self._loop.call_at(self._due, self._fire)
            return
        self._fired = True
        self._task.cancel()
