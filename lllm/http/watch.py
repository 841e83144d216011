"""The time limits of one request."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal

from lllm.http.time_limit import alarm_of
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
    and its time does not count as the stream's idleness. All of a loop share one timer.
    """

    __slots__ = (
        "_alarm",
        "_before",
        "_due",
        "_idle",
        "_loop",
        "_stage",
        "_start",
        "_total",
        "due",
        "fired",
        "task",
    )

    def __init__(self, limits: Timeouts, *, streaming: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._alarm = alarm_of(self._loop)
        self._start = self._loop.time()
        self._total = limits.total
        self._idle: float | None = None
        self.fired = False
        self._stage: tuple[Stage, float] | None = None
        self._due: float | None = None
        self._arm("first_token", limits.first_token if streaming else None, self._start)

    def first_piece(self, idle: float | None) -> None:
        """The stream has begun: from here on every wait may last `idle` seconds."""
        self._idle = idle
        self._arm("idle", idle, self._loop.time())

    def __enter__(self) -> None:
        now = self._loop.time()
        if self._idle is not None:
            self._arm("idle", self._idle, now)
        if self._due is None:
            return
        if now >= self._due:
            raise self._expired()
        task = asyncio.current_task(self._loop)
        if task is None:
            return
        self.task, self.due, self._before = task, self._due, task.cancelling()
        self._alarm.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._due is None:
            return
        self._alarm.limits.discard(self)
        if self.fired:
            self.fired = False
            # somebody else's cancellation at the same moment wins
            if self.task.uncancel() <= self._before and kind is asyncio.CancelledError:
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
