"""Runs one tool in its own task, within its time limit.

The task belongs to the tool alone. So a tool that swallows its cancellation cannot hide that of the agent call, and one
that does not end in time can be abandoned while the call continues. Its late result is still reported.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from lllm.eager import start
from lllm.inputs import effect

T = TypeVar("T")
Heard = Callable[[Any, BaseException | None], None]
"""Receives a tool's late result, or its exception."""
_Run = asyncio.Task[tuple[Any, BaseException | None]]  # its result, or the exception that ends the program

GRACE: Final = 1.0
"""Seconds for a tool stopped by its time limit to clean up before it is abandoned."""


_LEFT: Final[set[_Run]] = set()
"""Abandoned tools: event loops hold their tasks weakly."""


class TimeLimit(Exception):
    """The time limit has passed. The tool was cancelled; `hear` says whether it is still running."""

    def __init__(self, run: _Run) -> None:
        super().__init__("the time limit has passed")
        self._run = run

    def hear(self, heard: Heard, thread: Thread | None) -> bool:
        """True if the tool, or its `thread`, is still running. Its outcome is passed to `heard`, in this event loop,
        unless the loop ends first."""
        if self._run.done():
            return thread is not None and thread.hear(heard)
        _leave(self._run)
        self._run.add_done_callback(lambda run: None if run.cancelled() else heard(*_outcome(run)))
        return True


def _leave(run: _Run) -> None:
    # nothing waits for it any more: neither a loop that is shutting down, which waits for all tasks it knows, nor one
    # that is never run again, which would complain
    asyncio._unregister_task(run)
    run._log_destroy_pending = False  # type: ignore[attr-defined]
    _LEFT.add(run)
    run.add_done_callback(_forget)


def _forget(run: _Run) -> None:
    _LEFT.discard(run)
    if not run.cancelled():
        run.exception()  # retrieved, so that asyncio does not warn


class Thread:
    """A plain function in a thread, which cannot be stopped: its result is kept even if nothing waits for it."""

    __slots__ = ("_heard", "_lock", "_outcome")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._heard: Heard | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Calls the function in the thread."""
        value, error = None, None
        try:
            value = function()
            return value
        except BaseException as caught:
            error = caught
            raise
        finally:
            with self._lock:
                self._outcome, heard = (value, error), self._heard
            if heard is not None:
                heard(value, error)

    def hear(self, heard: Heard) -> bool:
        """See `TimeLimit.hear`."""
        loop = asyncio.get_running_loop()

        def soon(value: Any, error: BaseException | None) -> None:
            if inspect.iscoroutine(value):  # from a plain function: it will not be awaited
                value.close()
                return
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(heard, value, error)

        with self._lock:
            if self._outcome is None:
                self._heard = soon
                return True
        soon(*self._outcome)
        return False


async def run_tool(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """Returns the result of `work`.

    Args:
        work: the tool's coroutine. It sees the caller's context variables; its changes to them are not seen by the
        caller.
        seconds: its time limit; None for none.

    Raises:
        TimeLimit: it has not ended in time. A value that it returns while being stopped still counts as its result.
        CancelledError: the caller was cancelled. So was the tool, which has ended or passed its time limit. A value that
        it
            returned nevertheless is its result: the caller notices its own cancellation itself.
        Exception: raised by `work`; also a CancelledError, if the caller was not cancelled.
    """
    run = start(_contain(work))
    if isinstance(run, tuple):
        value, error = run[0]
    else:
        await _end(run, seconds)
        if not run.done():
            run.cancel()
            await _end(run, GRACE)
            if not run.done() or run.cancelled() or run.exception() is not None:
                raise TimeLimit(run)
        value, error = run.result()
    if error is not None:
        raise error
    result: T = value
    return result


async def _contain(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    # in a task these two would leave the event loop before the outcome could be recorded
    try:
        return await work, None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


def _outcome(run: _Run) -> tuple[Any, BaseException | None]:
    return (None, error) if (error := run.exception()) is not None else run.result()


async def _end(run: _Run, seconds: float | None) -> None:
    """Waits until a run has ended, or for `seconds`. If the caller is cancelled meanwhile, the run is cancelled and
    waited for as long. (`asyncio.wait` does the same for many tasks, and takes three times as long for one.)"""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(*_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    run.add_done_callback(wake)
    timer = None if seconds is None else loop.call_later(seconds, wake, context=contextvars.Context())
    try:
        await waiter
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):
            await ended(run, None if timer is None else timer.when() - loop.time())
        if not run.done():
            _leave(run)
            raise
        if run.cancelled() or run.exception() is not None:
            raise
    finally:
        run.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


async def ended(task: asyncio.Task[Any], seconds: float | None = None) -> None:
    """Cancels a task and returns when it has ended, or after `seconds`. If the caller is cancelled meanwhile, that is
    passed on and raised afterwards."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    cancelled = False
    task.cancel()
    while not task.done() and (until is None or loop.time() < until):
        try:
            with effect():
                await asyncio.wait((task,), timeout=None if until is None else until - loop.time())
        except asyncio.CancelledError:
            cancelled = True
            task.cancel()
    if cancelled:
        raise asyncio.CancelledError
