"""The one door between blocking and async code.

`run` is how a blocking caller gets the result of a coroutine: on a thread without a running loop it drives a loop of that
thread's own (kept, so that connections live on); inside a running loop (a notebook) it uses a background loop; after a
fork it starts afresh. `in_thread` is the way back: a plain function, called from async code.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import queue
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class _Own:
    """One thread's loop. Only the thread refers to it, so it is closed when the thread ends."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self._pid = os.getpid()

    def close(self) -> None:
        if self._pid == os.getpid():  # a forked child must not touch its parent's loop
            self.runner.close()

    def __del__(self) -> None:
        # The loop of a daemon thread outlives the interpreter: closing it then starts a thread, which never comes about.
        if not sys.is_finalizing():
            self.close()


class _Local(threading.local):
    own: _Own | None = None


_local = _Local()
_abandoned: list[_Own] = []  # the parent's loop in a forked child: neither closed there nor collected
_lock = threading.Lock()
_background: asyncio.AbstractEventLoop | None = None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, or its exception. The caller's context variables are visible to it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _drive(coroutine)
    context = contextvars.copy_context()
    future = asyncio.run_coroutine_threadsafe(_within(context, coroutine), _background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _drive(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return _runner().run(coroutine, context=contextvars.copy_context())
    except (KeyboardInterrupt, SystemExit):
        _settle(coroutine, _runner().get_loop())
        raise


def _settle(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
    """Ends what an exception that broke out of the loop (a second Ctrl-C) has left in the middle: it is cancelled, and
    writes that down. Left alone, it would raise within whatever the loop does next."""
    for task in asyncio.all_tasks(loop):
        if task.get_coro() is coroutine:
            task.cancel()
            loop.run_until_complete(asyncio.wait((task,)))


def _runner() -> asyncio.Runner:
    # A frame that held the _Own itself would keep it alive in the traceback of an exception that outlives the thread:
    # the loop would then be closed late, by another thread, perhaps while that one's own loop runs.
    own = _local.own
    if own is None:
        own = _local.own = _Own()
        if threading.current_thread() is threading.main_thread():
            atexit.register(own.close)  # thread locals of the main thread are not reliably cleared at exit
    return own.runner


async def _within(context: contextvars.Context, coroutine: Coroutine[Any, Any, T]) -> T:
    return await asyncio.get_running_loop().create_task(coroutine, context=context)


def _background_loop() -> asyncio.AbstractEventLoop:
    global _background
    with _lock:
        if _background is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(loop,), name="lllm-loop", daemon=True).start()
            _background = loop
        return _background


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        with suppress(KeyboardInterrupt, SystemExit):  # whoever waits for the task that raised it gets it too
            loop.run_forever()


class _Workers:
    """Daemon threads for plain functions. Unlike the executor of asyncio they never keep the interpreter from exiting,
    so a tool that hangs costs one idle thread and nothing else."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, job: Callable[[], None]) -> None:
        """Runs the job, or raises RuntimeError (no more threads) and never runs it."""
        if self._idle.acquire(blocking=False):
            self._jobs.put(job)  # the thread that was reserved takes it
        else:
            # the job goes with its thread: queued first, it would run later although the start failed
            threading.Thread(target=self._work, args=(job,), name="lllm-worker", daemon=True).start()

    def _work(self, job: Callable[[], None]) -> None:
        while True:
            job()
            del job  # what it holds is not kept while the thread is idle
            self._idle.release()
            job = self._jobs.get()


_workers = _Workers()


def spawn(job: Callable[[], None]) -> None:
    """Runs a job, which raises nothing, in a worker thread. The thread is kept for later jobs, and so is the loop that `run`
    makes in it. It starts at once however many run, and never keeps the interpreter from exiting.

    Raises RuntimeError when the system gives no more threads; the job is then never run."""
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

    spawn(job)
    return await future


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
    # the child has none of the parent's threads and must not touch its loops
    global _background, _lock, _workers, _local
    _background = None
    _lock = threading.Lock()
    _workers = _Workers()
    if _local.own is not None:
        _abandoned.append(_local.own)
    _local = _Local()


os.register_at_fork(after_in_child=_after_fork)
