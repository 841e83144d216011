"""The thread in which kernels live: one per process, with an event loop of its own.

Output is read there whatever the program's loop does, so that a program that is busy does not pile up what a cell prints.
It lasts as long as the process: a sandbox dies with the thread that started it, and must not die with a worker.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LOCK: Final = threading.Lock()
_SECONDS: Final = 5.0
"""Time limit for what is closed when the process ends."""


class Host:
    """A daemon thread with a loop."""

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()  # whatever the program's policy is
        self._pid = os.getpid()
        self.starting = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        """Kernels that start at a time. More would only take longer each, and some longer than they may."""
        self._closers: dict[int, Callable[[], None]] = {}
        threading.Thread(target=self._run, name="lllm-sandboxes", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Awaits a coroutine that runs there. If the caller is cancelled, it is cancelled, and has ended before this raises."""
        ended: Future[None] = Future()

        async def work() -> T:
            try:
                return await coroutine
            finally:
                ended.set_result(None)

        inner = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self.loop))
        try:
            return await asyncio.shield(inner)
        except asyncio.CancelledError:
            inner.cancel()
            await asyncio.wait((asyncio.wrap_future(ended),))
            raise

    def soon(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Runs a coroutine there, for which nobody waits. Callable in any thread, also by the garbage collector."""
        try:
            asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()

    def at_exit(self, owner: object, close: Callable[[], None]) -> None:
        """Calls `close`, in any thread, when the process ends; unless `forget` comes before."""
        self._closers[id(owner)] = close

    def forget(self, owner: object) -> None:
        """See `at_exit`."""
        self._closers.pop(id(owner), None)

    def close_all(self) -> None:
        """Closes what is still open. In a forked process nothing: it is its parent's."""
        if os.getpid() != self._pid:
            return
        for close in list(self._closers.values()):
            close()
        self._closers.clear()


_host: Host | None = None


def host() -> Host:
    """The host of this process."""
    global _host
    with _LOCK:
        if _host is None:
            _host = Host()
            atexit.register(_host.close_all)
        return _host


def _forked() -> None:
    global _host, _LOCK
    _host = None  # the child has none of the parent's threads
    _LOCK = threading.Lock()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forked)
