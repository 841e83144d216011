"""What encloses the running code, and may stop it: agent calls, time limits of tools, blocking calls.

Code that awaits hears of a cancellation from its event loop. A blocking call does not: either the loop around it stands
still for as long as it waits, or it has a loop of its own in another thread. So it looks at its bounds, which it finds by a
context variable: `await`, tasks, plain tools and `asyncio.to_thread` hand that on.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

PATIENCE: Final = 10.0
"""Seconds that blocking calls have to wind up when what encloses them is stopped. They are left behind then."""


class Bounds:
    """One thing that encloses code.

    Attributes:
        parent: what encloses this.
        task: a task whose cancellation is meant for the code, also while its loop stands still; None for none.
        until: when it is to be stopped, in seconds of `time.monotonic`; None for never.
        stopped: whether it was, for whatever reason.
    """

    __slots__ = ("_before", "_drives", "parent", "stopped", "task", "until")

    def __init__(
        self, parent: Bounds | None, task: asyncio.Task[Any] | None = None, until: float | None = None
    ) -> None:
        self.parent = parent
        self.task = task
        self.until = until
        self.stopped = False
        self._before = 0 if task is None else task.cancelling()
        self._drives: set[Drive] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled since this began. It must wait, and run no code of others meanwhile: scopes such
        as TaskGroup do not always count right before Python 3.13."""
        return self.task is not None and self.task.cancelling() > self._before

    async def wind_up(self) -> None:
        """Stops the blocking calls that other threads make within this one, and those to come. Returns when they have ended,
        or after PATIENCE seconds, or where the caller is cancelled meanwhile."""
        self.stopped = True
        if self._drives:
            ends = [drive.stop_for(asyncio.get_running_loop()) for drive in list(self._drives)]
            with suppress(asyncio.CancelledError):
                await asyncio.wait(ends, timeout=PATIENCE)


class Drive(Bounds):
    """A blocking call: the coroutine that it runs, in a loop that it drives or that another thread runs."""

    __slots__ = ("_ends", "_lock", "_until", "loop", "over")

    def __init__(self, parent: Bounds | None, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(parent)
        self.loop = loop
        self.over = False
        self._lock = threading.Lock()
        self._ends: list[asyncio.Future[None]] = []
        self._until: asyncio.TimerHandle | None = None

    def begin(self, *, heed: bool) -> None:
        """In its loop and task, first of all. `heed`: it is stopped with what encloses it."""
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
            self._until = self.loop.call_later(max(0.0, until - time.monotonic()), self.stop)
        if any(one.stopped for one in bounds):  # before it was known there
            self.stop()

    def end(self) -> None:
        """In its loop, last of all."""
        if self._until is not None:
            self._until.cancel()
        for one in self._enclosing():
            if one._drives is not None:
                one._drives.discard(self)
        with self._lock:
            self.over = True
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                end.get_loop().call_soon_threadsafe(_settle, end)

    def stop(self) -> None:
        """Cancels it, from any thread."""
        self.stopped = True
        with suppress(RuntimeError):  # the loop is closed: it is over
            self.loop.call_soon_threadsafe(self._cancel)

    def stop_for(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Cancels it. The future is done when it has ended, in the loop of whoever waits."""
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
        """What encloses it, up to the next blocking call: that one is told by its own loop."""
        found: list[Bounds] = []
        one = self.parent
        while one is not None and not isinstance(one, Drive):
            found.append(one)
            one = one.parent
        return found


enclosing: contextvars.ContextVar[Bounds | None] = contextvars.ContextVar("lllm_bounds", default=None)
"""What encloses the running code most closely."""


def is_over(bounds: Bounds | None) -> bool:
    """Whether something that encloses the code was stopped, or is to be."""
    while bounds is not None:
        if bounds.stopped or (bounds.until is not None and time.monotonic() >= bounds.until):
            return True
        if bounds.cancelled and not isinstance(bounds, Drive):
            return True
        bounds = bounds.parent
    return False


def watch(bounds: Bounds | None) -> Callable[[], bool]:
    """Asked again and again, says whether the code is to stop: also where one of the tasks around it is cancelled from now
    on. They may run code of others, whose scopes leave marks, so that earlier cancellations say nothing."""
    try:
        tasks = {asyncio.current_task()}
    except RuntimeError:  # no loop waits here
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
