"""What a timer of a program would cancel: which calls are at work within `asyncio.timeout` or `asyncio.wait_for`.

The record says of each call whether it was cancelled next. So a timer that cancels calls is fired when the record has come
to that, and not by its time: a loop that was busy has fired it late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import FrameType
from typing import Any


def cancels(timer: asyncio.TimerHandle) -> Iterator[asyncio.Task[Any]]:
    """The tasks that are cancelled when a timer fires, with those that they wait for."""
    callback: Any = timer._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Timeout):
        yield from within(owner._task)  # type: ignore[attr-defined]
    elif isinstance(owner, asyncio.Future) and callback == owner.cancel:
        yield from within(owner)
    elif getattr(callback, "__name__", "") == "_release_waiter":
        for waiter in timer._args:
            for task in _awaiting(waiter):
                yield from _waited_for(task)


def _awaiting(future: Any) -> Iterator[Any]:
    """The tasks that wait for a future."""
    for callback in getattr(future, "_callbacks", None) or ():
        task = getattr(callback[0] if isinstance(callback, tuple) else callback, "__self__", None)
        if isinstance(task, asyncio.Task):
            yield task


def within(future: Any) -> Iterator[Any]:
    """A task, and those that are cancelled with it."""
    if isinstance(future, asyncio.Task) and not future.done():
        yield future
        yield from _waited_for(future)
        yield from within(getattr(future, "_fut_waiter", None))
    else:
        for child in getattr(future, "_children", ()):  # of `gather`
            yield from within(child)


def _waited_for(task: Any) -> Iterator[Any]:
    """What a task waits for in `wait_for` (before Python 3.12: later it is a timeout), and the tasks of its groups."""
    for frame in frames(task):
        if frame.f_code is asyncio.wait_for.__code__:
            yield from within(frame.f_locals.get("fut"))
        else:
            for group in frame.f_locals.values():
                if type(group) is asyncio.TaskGroup and group._parent_task is task:  # type: ignore[attr-defined]
                    for child in list(group._tasks):
                        yield from within(child)


def frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of the coroutines of a task that waits, from the outside in."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        if (
            inner := getattr(coroutine, "_work", None)
        ) is not None:  # of `manifest` and `eager`, which look at its steps
            coroutine = inner
            continue
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "cr_await", None)
