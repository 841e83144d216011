"""The only bridge between blocking and async code.

`run` gives a blocking caller the result of a coroutine: on a thread without a running loop it drives that thread's own
loop (kept, so that connections stay open); inside a running loop (a notebook, an async tool) it uses a loop behind that
one, which only this call can block; after a fork it starts afresh. `in_thread` is the reverse: async code calls a plain
function.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from lllm import loops
from lllm.bounds import Drive, enclosing, is_over, watch
from lllm.errors import ConfigError
from lllm.loops import Behind

T = TypeVar("T")

_LOOK: Final = 0.05
"""Seconds between a blocking call's checks for a stop."""


aside: Callable[[], Any] | None = None
"""Set by a replay, which looks at the program's code and not at what a blocking call does: takes away its profile function,
and gives it."""


def run(coroutine: Coroutine[Any, Any, T], *, at: Behind | None = None) -> T:
    """Returns the coroutine's result, or raises its exception. It sees the caller's context variables.

    It is stopped with the caller's scopes: when the enclosing agent call or the tool's time limit stops, the coroutine is
    cancelled and this raises CancelledError. So does the first Ctrl-C within a running loop that turns it into a
    cancellation, as `asyncio.run` does.

    Args:
        at: the loop to run in, from `place`; by default the one that fits the caller.
    """
    bounds = enclosing.get()
    if bounds is not None and is_over(bounds):
        coroutine.close()
        raise asyncio.CancelledError("what this call is a part of has been stopped")
    if aside is None:
        return _run(coroutine, at, heed=True)
    profile = aside()
    try:
        return _run(coroutine, at, heed=True)
    finally:
        if profile is not None:
            set_profile(profile)


def finish(coroutine: Coroutine[Any, Any, Any], *, at: Behind | None = None) -> None:
    """Runs cleanup: closing, writing. Also after the enclosing scope was stopped."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if (
        at is not None and here is at.loop
    ):  # called there by the garbage collector: it must not wait for itself
        task = at.loop.create_task(coroutine)
        _ending.add(task)
        task.add_done_callback(_ending.discard)
    else:
        _run(coroutine, at, heed=False)


_ending: Final[set[asyncio.Task[Any]]] = set()  # a loop holds its tasks weakly


def place() -> Behind | None:
    """The loop that `run` would use now, for work that must stay in one loop; None means this thread's own loop."""
    try:
        return loops.behind(asyncio.get_running_loop())
    except RuntimeError:
        return None


def _run(coroutine: Coroutine[Any, Any, T], at: Behind | None, *, heed: bool) -> T:
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is None and at is None:
        return _drive(coroutine, heed)
    try:
        where = loops.behind(here) if at is None and here is not None else at
        assert where is not None
        _check(where.loop, here)
    except BaseException:
        coroutine.close()  # it will never be awaited
        raise
    if here is None:
        return _Work(coroutine, where.loop, None, heed).result()  # type: ignore[no-any-return]
    with loops.blocking(here):
        return _Work(coroutine, where.loop, here, heed).result()  # type: ignore[no-any-return]


def _check(loop: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop | None) -> None:
    """Raises ConfigError if waiting for a loop would deadlock, because that loop waits for this call."""
    waiting = {here}
    bounds = enclosing.get()
    while bounds is not None:
        if isinstance(bounds, _Work):
            waiting.add(bounds.waits)
        bounds = bounds.parent
    if loop in waiting:
        raise ConfigError(
            "the stream was begun in an event loop that waits for this code",
            hint="Iterate it where it was started, or start it here. Async code iterates a stream with: async for",
        )


async def _bounded(drive: Drive, coroutine: Coroutine[Any, Any, T], heed: bool) -> T:
    """Runs the coroutine in the loop and task of a blocking call."""
    try:
        drive.begin(heed=heed)
        return await coroutine
    finally:
        drive.end()


def _drive(coroutine: Coroutine[Any, Any, T], heed: bool) -> T:
    runner = loops.own()
    loop = runner.get_loop()
    drive = Drive(enclosing.get(), loop)
    context = contextvars.copy_context()
    context.run(enclosing.set, drive)
    bounded = _bounded(drive, coroutine, heed)
    try:
        return runner.run(bounded, context=context)
    except (KeyboardInterrupt, SystemExit):
        _settle(bounded, loop)
        raise
    finally:
        coroutine.close()  # it may have been cancelled before it started


def _settle(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
    """Ends what an exception that broke out of the loop (a second Ctrl-C) has left in the middle: it is cancelled, and
    writes that down. Left alone, it would raise within whatever the loop does next."""
    for task in asyncio.all_tasks(loop):
        if task.get_coro() is coroutine:
            task.cancel()
            loop.run_until_complete(asyncio.wait((task,)))


class _Work(Drive):
    """A blocking call whose coroutine runs in another thread's loop.

    Attributes:
        waits: the loop that is blocked meanwhile, or None.
    """

    __slots__ = ("_coroutine", "_done", "_error", "_must_stop", "_value", "waits")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        waits: asyncio.AbstractEventLoop | None,
        heed: bool,
    ) -> None:
        super().__init__(enclosing.get(), loop)
        self.waits = waits
        self._coroutine = coroutine
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._must_stop = watch(self.parent) if heed else None
        context = contextvars.copy_context()
        context.run(enclosing.set, self)
        bounded = _bounded(self, coroutine, heed)

        def start() -> None:
            self.task = loop.create_task(bounded, context=context)
            self.task.add_done_callback(self._ended)

        loop.call_soon_threadsafe(start)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._coroutine.close()  # it may have been cancelled before it started
        if task.cancelled():
            self._error = asyncio.CancelledError()
        else:
            self._error = task.exception()
            self._value = None if self._error is not None else task.result()
        self._done.set()

    def result(self) -> Any:
        """Waits for the result, in a thread that does nothing else meanwhile."""
        must_stop, stopping = self._must_stop, False
        try:
            while not self._done.wait(_LOOK):
                if must_stop is not None and must_stop():
                    must_stop, stopping = None, True
                    self.stop()
        except BaseException:  # Ctrl-C
            self.stop()
            while not self._done.wait(_LOOK):
                pass  # it logs that it was stopped; a second Ctrl-C abandons it
            raise
        if stopping:
            raise asyncio.CancelledError("what this call is a part of has been stopped")
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        return self._value


def set_profile(function: Any) -> None:
    """Sets the profile function of this thread. Python refuses while another thread sets its own: the job would be lost."""
    while True:
        try:
            sys.setprofile(function)
            return
        except RuntimeError:
            time.sleep(0)


class _Worker(threading.Thread):
    """A thread that begins with its job also where Python refuses it the profile function of new threads, because another
    thread sets its own at that moment. The job would be lost, and whoever waits for it would wait for ever."""

    _begun = False

    def _bootstrap_inner(self) -> None:
        try:
            super()._bootstrap_inner()  # type: ignore[misc]
        except RuntimeError:
            if self._begun:
                raise
            self.run()

    def run(self) -> None:
        self._begun = True
        super().run()


class _Workers:
    """Daemon threads for plain functions. Unlike the executor of asyncio they never keep the interpreter from exiting,
    so a tool that hangs costs one idle thread and nothing else."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, job: Callable[[], None]) -> None:
        """Runs the job, or raises RuntimeError (no more threads) and never runs it."""
        if self._idle.acquire(blocking=False):
            self._jobs.put(job)  # the reserved thread takes it
        else:
            # the job is passed to its thread: in a queue it would run later although the start failed
            _Worker(target=self._work, args=([job],), name="lllm-worker", daemon=True).start()

    def _work(self, first: list[Callable[[], None]]) -> None:
        job = first.pop()  # a thread keeps its arguments: an open model, for as long as it is idle
        while True:
            # a thread that is used again has the profile function of a new one
            if (profile := threading.getprofile()) is not None:
                set_profile(profile)
            job()
            if profile is not None:
                set_profile(None)
            del job  # release what it holds while the thread is idle
            self._idle.release()
            job = self._jobs.get()


_workers = _Workers()


def spawn(job: Callable[[], None]) -> None:
    """Runs a job, which must not raise, in a worker thread. The thread is reused for later jobs, with the loop that `run`
    creates in it. It starts at once regardless of how many run, and never keeps the interpreter from exiting.

    Raises RuntimeError if the system cannot start a thread; the job is then never run."""
    _workers.submit(job)


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls a plain function in a worker thread, with the caller's context variables. Cancelling stops the waiting, not
    the function: a thread cannot be stopped from outside."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        elif isinstance(error, StopIteration):
            # a Future refuses StopIteration: it would end the coroutine that awaits it
            future.set_exception(RuntimeError(f"StopIteration raised: {error}"))
        else:
            future.set_exception(error)

    def job() -> None:
        try:
            result, error = context.run(function, *args, **kwargs), None
        except BaseException as caught:
            result, error = None, caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop has been closed: nobody waits any more

    if (inform := watched.get(loop)) is not None:
        function = inform(future, function)
    spawn(job)
    return await future


watched: Final[dict[Any, Callable[[asyncio.Future[Any], Callable[..., Any]], Callable[..., Any]]]] = {}
"""Loops of replayed programs: each with what is told of the functions that run in threads for it."""


async def maybe_async(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function, plain or async, and awaits what it gives. Plain functions run in a worker thread."""
    if is_async(function):
        return await function(*args, **kwargs)
    result = await in_thread(function, *args, **kwargs)
    return await result if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future) else result


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling `function` gives an awaitable: an async function, a partial or method of one, or an object with an
    async `__call__`."""
    import functools
    import inspect

    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004  its kind is asked


def _after_fork() -> None:
    # the child has none of the parent's threads
    global _workers
    _workers = _Workers()


os.register_at_fork(after_in_child=_after_fork)
