"""`with time_limit(seconds):` as `asyncio.timeout`, for requests that almost never need it.

asyncio sets a timer for each, and takes it down again. Here a loop has one timer for all: it rings when the first of them may
be due, and looks who is.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from types import TracebackType
from typing import Any, Final, Protocol


class time_limit:
    """Raises TimeoutError after `seconds` into what waits in its block. Somebody else's cancellation at the same moment
    wins."""

    __slots__ = ("_alarm", "_before", "_seconds", "due", "fired", "task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.fired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("time_limit is for code of a task")
        if self._seconds <= 0:
            raise TimeoutError
        self.task: asyncio.Task[Any] = task
        self._before = task.cancelling()
        self.due = loop.time() + self._seconds
        self._alarm = alarm_of(loop)
        self._alarm.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.limits.discard(self)
        if (
            self.fired
            and self.task.uncancel() <= self._before
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from value


class Limit(Protocol):
    """A time limit of a task. `due`: by the clock of its loop. `fired`: whether the task was cancelled because of it."""

    due: float
    fired: bool
    task: asyncio.Task[Any]


class Alarm:
    """The time limits that hold now in one loop, and the timer that they share. A limit takes itself out of `limits`."""

    __slots__ = ("__weakref__", "_loop", "_timer", "limits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.limits: set[Limit] = set()
        self._loop = weakref.ref(loop)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limit: Limit) -> None:
        """From now on the task of a limit is cancelled when it is due."""
        self.limits.add(limit)
        timer = self._timer
        if timer is None or timer.when() > limit.due:
            if timer is not None:
                timer.cancel()
            self._set(limit.due)

    def _set(self, due: float) -> None:
        if (loop := self._loop()) is not None:
            # not in the caller's context: it is nobody's timer
            self._timer = loop.call_at(due, self._ring, loop, context=contextvars.Context())

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for limit in [limit for limit in self.limits if limit.due <= now]:
            self.limits.discard(limit)
            limit.fired = True
            limit.task.cancel()
        if self.limits:
            self._set(min(limit.due for limit in self.limits))


_alarms: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Alarm]] = weakref.WeakKeyDictionary()


def alarm_of(loop: asyncio.AbstractEventLoop) -> Alarm:
    """The alarm of a loop."""
    found = _alarms.get(loop)
    if found is None:
        found = _alarms[loop] = Alarm(loop)
    return found
