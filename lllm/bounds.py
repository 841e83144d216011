"""The scopes that enclose running code and may stop it: agent calls, time limits of tools, blocking calls.

Awaiting code learns of a cancellation from its event loop. A blocking call does not: either the loop around it is blocked
while it waits, or it has its own loop in another thread. So it checks its bounds, which it finds in a context variable:
`await`, tasks, plain tools and `asyncio.to_thread` pass that on.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from lllm.inputs import effect

PATIENCE: Final = 10.0
"""Seconds that blocking calls have to finish after their scope is stopped. After that they are abandoned."""


class Bounds:
    """One scope that encloses code.

    Attributes:
        parent: the enclosing scope.
        task: a task whose cancellation applies to the code, also while its loop is blocked; None for none.
        until: the deadline, in seconds of `time.monotonic`; None for none.
        left: returns the seconds until the deadline by the session's clock, which may stand still; None for none.
        stopped: whether it was stopped, for any reason.
    """

    __slots__ = ("_before", "_drives", "left", "parent", "stopped", "task", "until")

    def __init__(
        self, parent: Bounds | None, task: asyncio.Task[Any] | None = None, until: float | None = None
    ) -> None:
        self.parent = parent
        self.task = task
        self.until = until
        self.left: Callable[[], float | None] | None = None
        self.stopped = False
        self._before = 0 if task is None else task.cancelling()
        self._drives: set[Drive] | None = None

    @property
    def cancelled(self) -> bool:
        """True if the task was cancelled since this scope began. The task must be waiting and run no foreign code
        meanwhile: scopes such as TaskGroup do not always count right before Python 3.13."""
        return self.task is not None and self.task.cancelling() > self._before

    async def wind_up(self) -> None:
        """Stops the blocking calls that other threads make within this scope, and prevents new ones. Returns when they
        have ended, after PATIENCE seconds, or when the caller is cancelled."""
        self.stopped = True
        if self._drives:
            ends = [drive.stop_for(asyncio.get_running_loop()) for drive in list(self._drives)]
            with suppress(asyncio.CancelledError), effect():
                await asyncio.wait(ends, timeout=PATIENCE)


class Drive(Bounds):
    """A blocking call: the coroutine that it runs, in its own loop or in that of another thread."""

    __slots__ = ("_ends", "_lock", "_until", "loop", "over")

    def __init__(self, parent: Bounds | None, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(parent)
        self.loop = loop
        self.over = False
        self._lock = threading.Lock()
        self._ends: list[asyncio.Future[None]] = []
        self._until: asyncio.TimerHandle | None = None

    def begin(self, *, heed: bool) -> None:
        """Starts the call; must run first in its loop and task. `heed`: stop it with its enclosing scopes."""
        self.task = asyncio.current_task()
        if not heed or self.parent is None:
            return
        until, bounds = None, self._enclosing()
        for one in bounds:
            if one._drives is None:
                one._drives = set()
            one._drives.add(self)
            if one.until is not None:
                until = one.until if until is None else min(until, one.until)
        if until is not None:
            left = max(0.0, until - time.monotonic())
            self._until = self.loop.call_later(left, self.stop, context=contextvars.Context())
        if any(one.stopped for one in bounds):  # before it was registered there
            self.stop()

    def end(self) -> None:
        """Ends the call; must run last in its loop."""
        if self._until is not None:
            self._until.cancel()
        for one in self._enclosing():
            if one._drives is not None:
                one._drives.discard(self)
        with self._lock:
            self.over = True
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(RuntimeError):  # the loop is closed: nothing waits there any more
                end.get_loop().call_soon_threadsafe(_settle, end)

    def stop(self) -> None:
        """Cancels it, from any thread."""
        self.stopped = True
        with suppress(RuntimeError):  # the loop is closed: the call has ended
            self.loop.call_soon_threadsafe(self._cancel)

    def stop_for(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Cancels it. Returns a future of the waiting loop, done when the call has ended."""
        end: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self.over:
                end.set_result(None)
                return end
            self._ends.append(end)
        self.stop()
        return end

    def _cancel(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()

    def _enclosing(self) -> list[Bounds]:
        """The enclosing scopes up to the next blocking call, which its own loop informs."""
        found: list[Bounds] = []
        one = self.parent
        while one is not None and not isinstance(one, Drive):
            found.append(one)
            one = one.parent
        return found


enclosing: contextvars.ContextVar[Bounds | None] = contextvars.ContextVar("lllm_bounds", default=None)
"""The innermost scope of the running code."""


def is_over(bounds: Bounds | None) -> bool:
    """True if an enclosing scope was stopped, or its deadline has passed."""
    while bounds is not None:
        if bounds.stopped or (bounds.until is not None and time.monotonic() >= bounds.until):
            return True
        if bounds.cancelled and not isinstance(bounds, Drive):
            return True
        bounds = bounds.parent
    return False


def time_left(bounds: Bounds | None) -> float | None:
    """Returns the seconds until the first deadline of the enclosing scopes, at least 0; None if none has one."""
    found: list[float] = []
    while bounds is not None:
        if bounds.until is not None:
            found.append(bounds.until - time.monotonic())
        if bounds.left is not None and (left := bounds.left()) is not None:
            found.append(left)
        bounds = bounds.parent
    return max(0.0, min(found)) if found else None


def watch(bounds: Bounds | None) -> Callable[[], bool]:
    """Returns a function to poll: True once the code must stop, also if a task around it is cancelled from now on. Such
    tasks may run foreign code whose scopes leave cancellation counts behind, so earlier cancellations are ignored."""
    try:
        tasks = {asyncio.current_task()}
    except RuntimeError:  # no running loop
        tasks = set()
    one = bounds
    while one is not None:
        if isinstance(one, Drive):
            tasks.add(one.task)
        one = one.parent
    counts = [(task, task.cancelling()) for task in tasks if task is not None]
    return lambda: is_over(bounds) or any(task.cancelling() > count for task, count in counts)


def _settle(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)
