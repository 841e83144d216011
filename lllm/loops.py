"""Event loops of this package: one per thread that drives its own, and one behind each loop that a blocking call blocks.

A blocking call within a running loop stops that loop until it ends. So its work runs in another loop, which nothing else
can block: each loop has its own loop behind it, that one has another, and so on. The loops and their connections are
kept, and are reused for another loop when theirs is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MethodType
from typing import Any, Final, TypeVar

from lllm import inputs

T = TypeVar("T")

_EXPIRES: Final = asyncio.Timeout._on_timeout  # type: ignore[attr-defined]
_call_soon: Final = asyncio.SelectorEventLoop.call_soon


class Loop(asyncio.SelectorEventLoop):
    """An event loop that knows the inputs of the programs which run in it: `asyncio.Runner(loop_factory=lllm.Loop)`.

    It gives the timers and jobs of a session names, and hands them to its program one at a time, so that the log has their
    order (`lllm.inputs`). Code outside of sessions does not notice.
    """

    names_expired = True
    """Whether a timeout that is over before it is armed is a timer too."""

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        # the process had to wait for a processor between the two looks that `asyncio.timeout` takes at the clock: without a
        # name, nothing in the log would say what has cancelled its task
        if type(callback) is MethodType and callback.__func__ is _EXPIRES and self.names_expired:
            return self.call_at(self.time(), callback, *args, context=context)
        return _call_soon(self, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        found = inputs.owner(context)
        if found is None:
            return super().call_at(when, callback, *args, context=context)
        timer = inputs.Timer(found.timer_name(), found, when, callback, args, self, context)
        self.arm(timer)
        return timer

    def arm(self, timer: inputs.Timer) -> None:
        """Lets a timer fire when it is due."""
        timer.real = super().call_at(timer.when(), timer.due, context=contextvars.Context())
        timer.inputs.begin()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        found = inputs.owner()
        if found is None:
            return super().run_in_executor(executor, func, *args)
        # a process gets a copy of the function: it cannot be dropped from here
        work = inputs.Work(func) if executor is None or isinstance(executor, ThreadPoolExecutor) else None
        return found.job(self, super().run_in_executor(executor, work or func, *args), work)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # one that a daemon thread leaves behind: its sockets, and this module, may be gone before it
        if not _is_finalizing():
            super().__del__()


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """`asyncio.run` on a `Loop`: the log of its sessions has the order of everything that came to the program."""
    with asyncio.Runner(debug=debug, loop_factory=Loop) as runner:
        return runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of the kind that the program's policy makes."""
    policy = type(asyncio.get_event_loop_policy())
    if sys.platform != "win32" and policy is asyncio.DefaultEventLoopPolicy:
        return Loop()
    return asyncio.new_event_loop()


def kept_here() -> str:
    """The part of the order that a log has in the running loop: `lllm.inputs.ALL` or `ANSWERS`."""
    return inputs.ALL if isinstance(asyncio.get_running_loop(), Loop) else inputs.ANSWERS


class _Own:
    """One thread's loop. Only the thread refers to it, so that it is closed when the thread ends."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=_new_loop)
        self._pid = os.getpid()

    def close(self) -> None:
        if self._pid == os.getpid():  # a forked child must not touch its parent's loop
            self.runner.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # The loop of a daemon thread outlives the interpreter: closing it then tries to start a thread, which hangs.
        if not _is_finalizing():
            self.close()


class _Local(threading.local):
    own: _Own | None = None


class Behind:
    """A loop behind another one, with the daemon thread that runs it. Raises RuntimeError if the system cannot start a
    thread."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        try:
            threading.Thread(target=self._serve, name="lllm-loop", daemon=True).start()
        except BaseException:
            self.loop.close()
            raise

    def _serve(self) -> None:
        while True:
            with suppress(KeyboardInterrupt, SystemExit):  # it is also raised to the waiter of the task
                self.loop.run_forever()


_local = _Local()
_lock = threading.Lock()
_behind: dict[int, tuple[Callable[[], Any], Behind]] = {}
_free: list[Behind] = []
_blocked: dict[asyncio.AbstractEventLoop, int] = {}
_abandoned: list[Any] = []  # the parent's loops in a forked child: neither closed there nor collected

on_block: Final[list[Callable[[], None]]] = []
"""Called when a loop becomes blocked. What code there holds, and others wait for, is not released until the block
ends."""


def own() -> asyncio.Runner:
    """The loop of this thread; no loop must be running."""
    # A frame that held the _Own itself would keep it alive in the traceback of an exception that outlives the thread:
    # the loop would then be closed late, by another thread, perhaps while that one's own loop runs.
    found = _local.own
    if found is None:
        found = _local.own = _Own()
        if threading.current_thread() is threading.main_thread():
            atexit.register(found.close)  # thread locals of the main thread are not reliably cleared at exit
    return found.runner


def behind(loop: asyncio.AbstractEventLoop) -> Behind:
    """Returns the loop behind this one."""
    with _lock:
        found = _behind.get(id(loop))
        if found is not None and found[0]() is loop:
            return found[1]
        for key, (owner, free) in list(_behind.items()):
            gone = owner()
            if gone is None or gone.is_closed():
                del _behind[key]
                _free.append(free)
        made = _free.pop() if _free else Behind()
        try:
            owner = weakref.ref(loop)
        except TypeError:  # a foreign loop without weak references: kept until it is closed
            owner = lambda: loop  # noqa: E731
        _behind[id(loop)] = (owner, made)
        return made


class blocking:
    """Marks this loop as blocked by a blocking call."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        _blocked[self._loop] = _blocked.get(self._loop, 0) + 1
        for look in on_block:
            look()

    def __exit__(self, *_: object) -> None:
        left = _blocked[self._loop] - 1
        if left:
            _blocked[self._loop] = left
        else:
            del _blocked[self._loop]


def is_blocked(loop: asyncio.AbstractEventLoop | None) -> bool:
    """True if a blocking call blocks this loop: nothing runs there until that call ends."""
    return loop in _blocked


def _after_fork() -> None:
    # the child has none of the parent's threads and must not touch its loops
    global _lock, _local
    _lock = threading.Lock()
    _abandoned.extend(made for _, made in _behind.values())
    _abandoned.extend(_free)
    _behind.clear()
    _free.clear()
    _blocked.clear()
    if _local.own is not None:
        _abandoned.append(_local.own)
    _local = _Local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
