"""Starts a task immediately: one that never waits costs no turn of the event loop.

Python supports this from 3.12 on (`eager_start`). For earlier versions the first step is run here, as the task, with the
functions that asyncio documents for other implementations of tasks ("Extending").
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | tuple[T]:
    """Starts a task for `work`; returns the task, or a tuple with the result if it has already ended. It sees the
    caller's context variables; its changes to them are not seen by the caller. Raises what `work` raises at once."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        task = asyncio.Task(work, loop=loop, eager_start=True)
        return (task.result(),) if task.done() else task
    caller = asyncio.current_task(loop)
    if caller is None:
        return loop.create_task(work)
    rest = _Rest(work)
    context = contextvars.copy_context()
    if loop.get_task_factory() is None:
        task: asyncio.Task[T] = asyncio.Task(rest, loop=loop, context=context)
    else:
        task = loop.create_task(rest, context=context)
    ready: deque[asyncio.Handle] = getattr(loop, "_ready", _NO_QUEUE)
    step = ready[-1] if ready else None
    asyncio._leave_task(loop, caller)
    asyncio._enter_task(loop, task)
    try:
        rest.first = context.run(work.send, None)
        return task
    except StopIteration as done:
        result: T = done.value
    finally:
        asyncio._leave_task(loop, task)
        asyncio._enter_task(loop, caller)
        if rest.first is _NOTHING:
            # it has nothing left to do: remove its scheduled step, because tools that never wait may run for long before the
            # loop reaches it
            if step is not None and getattr(step._callback, "__self__", None) is task:  # type: ignore[attr-defined]
                if ready[-1] is step:
                    ready.pop()
                else:
                    step.cancel()
            asyncio._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    return (result,)


_NOTHING: Any = object()
_NO_QUEUE: deque[asyncio.Handle] = deque()
"""For loops that are not asyncio's own."""


class _Rest(Coroutine[Any, Any, T]):
    """A coroutine after its first step: it first waits for what that step waits for."""

    __slots__ = ("__weakref__", "_work", "first")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self.first: Any = _NOTHING

    def send(self, value: Any, /) -> Any:
        if self.first is _NOTHING:
            raise StopIteration  # it ended in the first step
        first, self.first = self.first, None
        return self._work.send(value) if first is None else first

    def throw(self, *error: Any) -> Any:
        if self.first is _NOTHING:
            raise StopIteration
        self.first = None
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()
