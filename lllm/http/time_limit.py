"""`with time_limit(seconds):` as `asyncio.timeout`, for requests that almost never need it.

asyncio sets a timer for each, and takes it down again. Here a loop has one timer for all: it rings when the first of them may
be due, and looks who is.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from types import TracebackType
from typing import Any, Final


class time_limit:
    """Raises TimeoutError after `seconds` into what waits in its block. Somebody else's cancellation at the same moment
    wins."""

    __slots__ = ("_before", "_seconds", "_watch", "due", "fired", "task")

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
        watch = _watches.get(loop)
        if watch is None:
            watch = _watches[loop] = _Watch()
        self.task: asyncio.Task[Any] = task
        self._before = task.cancelling()
        self._watch = watch
        self.due = loop.time() + self._seconds
        watch.add(loop, self)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.limits.discard(self)
        if (
            self.fired
            and self.task.uncancel() <= self._before
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from value


class _Watch:
    """The limits of one loop, and its timer."""

    __slots__ = ("__weakref__", "_timer", "limits")

    def __init__(self) -> None:
        self.limits: set[time_limit] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, loop: asyncio.AbstractEventLoop, limit: time_limit) -> None:
        self.limits.add(limit)
        timer = self._timer
        if timer is None or timer.when() > limit.due:
            if timer is not None:
                timer.cancel()
            self._set(loop, limit.due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
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
            self._set(loop, min(limit.due for limit in self.limits))


_watches: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch]] = weakref.WeakKeyDictionary()
