"""The loops and threads of a program that is replayed: whether they have anything left to do.

Only loops that a replayed program uses are touched, and only while it runs. A loop is told apart by its selector: a loop
that asks it to wait has nothing left to do.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from lllm import inputs, loops, sync
from lllm.errors import ConfigError, ReplayDivergence
from lllm.replay.cancels import frames

if TYPE_CHECKING:
    from lllm.replay.order import Order

BEGINS: Final = 0.05
"""Seconds in which a thread begins with what it was given, unless it has to wait for other work."""
SETTLED: Final = 0.002
"""Seconds in which a thread does not move while it waits for something."""


_APART: Final = 1e-6
"""Seconds between timers that are due together, from the end of the record on."""
RESTLESS: Final = 1000
"""Turns of a loop after which a program that never rests (it polls) is given what comes next."""

_NOT_THEIRS: Final = (os.path.dirname(asyncio.__file__), os.path.dirname(loops.__file__))
"""Where code lies that is not the project's."""


_here = threading.local()


class Job:
    """A function that runs in a thread for a loop.

    Attributes:
        waits: whether it runs for somebody who waits for what it returns. abandoned: nobody does any more.
        ended: whether it has returned.
    """

    __slots__ = ("_begun", "abandoned", "ended", "thread", "waits")

    def __init__(self, waits: bool = False) -> None:
        self.thread = 0
        self._begun = threading.Event()
        self.waits = waits
        self.abandoned = self.ended = False

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def job(*args: Any, **kwargs: Any) -> Any:
            self.thread = threading.get_ident()
            self._begun.set()
            _here.job = self
            try:
                return function(*args, **kwargs)
            finally:
                _here.job = None
                self.ended = True

        return job

    def left_by(self, future: asyncio.Future[Any]) -> None:
        """The task that waited for it was cancelled. A thread has begun with it by then, as a rule: one that has not does not
        run it."""
        self.abandoned = future.cancelled()
        if self.abandoned:
            self._begun.wait(BEGINS)


def job_here() -> Job | None:
    """The job that runs in this thread, for a task that waits for it."""
    job: Job | None = getattr(_here, "job", None)
    return job if job is not None and job.waits else None


class PlainTimer(asyncio.TimerHandle):
    """A timer of the program that the record does not name. `number`: it is the first, the second ... that was armed."""

    __slots__ = ("number",)

    def __init__(self, number: int, *args: Any) -> None:
        super().__init__(*args)
        self.number = number


class Loop:
    """A loop of the program. Stands for its selector and its clock."""

    def __init__(self, order: Order, loop: Any) -> None:
        self.order = order
        self.loop = loop
        self.thread = threading.get_ident()
        self.zero = loop.time() - order.now / 1e6
        self.idle = False
        self.called = 0
        """So many things were given to it from elsewhere that it has not come to yet."""
        self.timers: list[asyncio.TimerHandle] = []
        """Those of the program, armed and neither fired nor cancelled."""
        self.armed: WeakKeyDictionary[asyncio.TimerHandle, float] = WeakKeyDictionary()
        """When, by the monotonic clock."""
        self.jobs: set[Job] = set()
        self.left: set[Job] = set()
        """Those that nobody waits for any more, and that had begun: what they do is in the record."""
        self._turns = 0  # in which it had something to do
        self._selector = loop._selector
        self._run_in_executor = loop.run_in_executor
        self._call_at = loop.call_at
        loop._selector = self
        loop.call_at = self._arm
        loop.time = self.time
        if isinstance(loop, loops.Loop):
            loop.names_expired = order.exact
        loop.run_in_executor = self._in_executor
        # signals reach the main thread alone, and a replay runs in another: what they did is in the record
        loop.add_signal_handler = loop.remove_signal_handler = _nothing
        loop.call_exception_handler = self._complain  # for good: tasks are freed after the program's end
        sync.watched[loop] = self._in_thread

    def _complain(self, context: dict[str, Any]) -> None:
        """Keeps quiet about tasks of a program that a replay has stopped: nobody waits for them any more, and the report says
        why."""
        about_task = "task" in context or "future" in context
        if not (is_stop(context.get("exception")) or (about_task and self.order.stopped)):
            type(self.loop).call_exception_handler(self.loop, context)

    def give_back(self) -> None:
        """The loop lives by its own time again."""
        if self.loop._selector is self:
            self.loop._selector = self._selector
        sync.watched.pop(self.loop, None)
        left = [(timer, timer.when() - self.loop.time()) for timer in self._armed()]
        with suppress(AttributeError):
            del self.loop.time, self.loop.call_at, self.loop.run_in_executor
            del self.loop.add_signal_handler, self.loop.remove_signal_handler
            del self.loop.names_expired
        for timer, seconds in left:
            self.soon(self.loop.call_later, max(0.0, seconds), _run, timer)

    def hand_over(self) -> None:
        """Time goes on at its own pace: its timers are those of the loop again."""
        if isinstance(self.loop, loops.Loop):
            self.loop.names_expired = True
        for n, timer in enumerate(self._armed()):
            if isinstance(timer, inputs.Timer):
                self.soon(self.loop.arm, timer)
            else:  # a loop fires those that are due together in any order
                self.soon(self._call_at, timer.when() + n * _APART, _run, timer)

    def _armed(self) -> list[asyncio.TimerHandle]:
        armed, self.timers = self.timers, []
        return [timer for timer in armed if not timer.cancelled()]

    def _arm(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        if self.order.off or self.order.alive is not None:
            return self._call_at(when, callback, *args, context=context)
        found = inputs.owner(context) if isinstance(self.loop, loops.Loop) else None
        if self._is_another_s(found):
            return self._call_at(when, callback, *args, context=context)
        if found is None:
            timer: asyncio.TimerHandle = PlainTimer(
                self.order.numbered(), when, callback, args, self.loop, context
            )
        else:
            timer = named = inputs.Timer(found.timer_name(), found, when, callback, args, self.loop, context)
            self.order.inputs.arm(self, named)
        self.timers.append(timer)
        self.armed[timer] = time.monotonic()
        return timer

    def due(self, timer: asyncio.TimerHandle) -> float:
        """When a timer is due, in microseconds of the record."""
        return float((timer.when() - self.zero) * 1e6)

    def fire(self, timer: asyncio.TimerHandle, *, at_once: bool = False) -> None:
        """Calls what a timer calls: in the loop's next turn, or `at_once`, from a handle of the loop."""
        self.timers.remove(timer)
        if at_once:
            _run(timer)
        else:
            self.soon(_run, timer)

    def pending(self) -> list[asyncio.TimerHandle]:
        """The timers, as they were armed. Forgets those that were cancelled."""
        if any(timer.cancelled() for timer in self.timers):
            self.timers = [timer for timer in self.timers if not timer.cancelled()]
        return self.timers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def time(self) -> float:
        order = self.order
        past = time.monotonic() - order.alive if order.alive is not None else 0.0
        return float(self.zero + order.now / 1e6 + past)

    def select(self, timeout: float | None = None) -> Any:
        order = self.order
        if order.off or order.alive is not None:
            return self._selector.select(timeout)
        if timeout is not None and timeout <= 0:
            self._turns += 1
            if self._turns < RESTLESS:
                return self._selector.select(timeout)
        self._turns = 0
        with order.lock:  # another loop may fire a timer of this one meanwhile
            if found := self._selector.select(0):
                return found
            block = order.rest(self)
            if block <= 0:
                return []
            if timeout is not None and timeout <= 0:
                return self._selector.select(0)
            self.idle = True
        try:
            return self._selector.select(block)
        finally:
            self.idle = False

    def has_connections(self) -> bool:
        """True if it waits for anything but its own threads."""
        return self.loop.is_running() and len(self._selector.get_map() or ()) > 1

    @property
    def is_blocked(self) -> bool:
        return loops.is_blocked(self.loop)

    def rests(self, here: Loop) -> bool:
        """True if nothing is left to do in it: nor in the loop behind it, while a blocking call blocks it. Nothing is in
        `here`."""
        if self is here or self.idle or not self.is_blocked:
            return self is here or self.idle
        behind = self.order.loops.get(loops.behind(self.loop).loop)
        return behind is not None and behind.rests(here)

    def places(self) -> list[str]:
        """Where its tasks stand in the project's own code, as `function (file:line)`."""
        found = []
        for task in list(asyncio.all_tasks(self.loop)):
            here: str | None = None
            for frame in frames(task):
                if not frame.f_code.co_filename.startswith(_NOT_THEIRS):
                    here = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"
            found += [here] if here is not None else []
        return sorted(set(found))

    def soon(self, function: Callable[..., Any], *args: Any) -> None:
        self.called += 1

        def call() -> None:
            self.called -= 1
            function(*args)

        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(call)

    def wake(self) -> None:
        self.soon(_nothing)

    def _in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        order = self.order
        found = inputs.owner() if isinstance(self.loop, loops.Loop) else None
        if order.off or order.alive is not None or self._is_another_s(found):
            return self._run_in_executor(executor, function, *args)
        name = None if found is None else found.job_name()
        if name in order.inputs.stopped:  # before a thread had begun with it
            never: asyncio.Future[Any] = self.loop.create_future()
            return never
        job = Job(waits=True)
        self.jobs.add(job)
        with inputs.effect():  # named here, and not by the loop
            future = self._run_in_executor(executor, job.of(function), *args)
        future.add_done_callback(lambda _: self.jobs.discard(job))
        if found is None or name is None:
            future.add_done_callback(partial(self._left, job))
            return future

        def recorded(come: Callable[[], None], live: Callable[[], None]) -> bool:
            if order.off or order.alive is not None:
                return False
            if name in order.inputs.names or order.exact or found.copied:
                order.inputs.done(self, name, come, live)
            else:
                come()
            return True

        outer = found.give(self.loop, name, future, recorded)
        outer.add_done_callback(partial(self._left, job))
        return outer

    def _is_another_s(self, found: inputs.Inputs | None) -> bool:
        """Whether an input is one of a session that is not run again: of an item that a resumed batch begins. The record of the
        batch says nothing of it."""
        return found is not None and found is not self.order.session.inputs

    def _left(self, job: Job, future: asyncio.Future[Any]) -> None:
        job.left_by(future)
        if job.abandoned and job.thread and not job.ended:
            self.left.add(job)

    @property
    def is_left(self) -> bool:
        """True if a thread still runs that nobody waits for any more."""
        self.left = {job for job in self.left if not job.ended}
        return bool(self.left)

    def _in_thread(self, future: asyncio.Future[Any], function: Callable[..., Any]) -> Callable[..., Any]:
        job = Job()
        self.jobs.add(job)

        def over(future: asyncio.Future[Any]) -> None:
            self.jobs.discard(job)
            if future.cancelled() and job.thread and not job.ended:
                self.left.add(job)

        future.add_done_callback(over)
        return job.of(function)


class Threads:
    """What other threads do: seen from outside, because nothing else tells."""

    def __init__(self, loops: Mapping[Any, Loop]) -> None:
        self._loops = loops
        self._own = threading.get_ident()
        self._seen: dict[int, tuple[Any, float]] = {}
        self.before: set[threading.Thread] = set()
        """The threads that there were when the program began."""

    def refuse(self) -> None:
        """ConfigError in a thread that the program has started itself and that does not know the session: its calls would be
        live ones."""
        if not self.is_bare():
            return
        thread = threading.current_thread()
        raise ConfigError(
            f"thread '{thread.name}' of a program that is replayed makes a call, or does an effect, without a session",
            hint="A thread does not inherit the session: pass session= to the call, or use asyncio.to_thread.",
        )

    def is_bare(self) -> bool:
        """True if the running thread is one that the program has started itself."""
        thread = threading.current_thread()
        return not (
            thread in self.before or thread is threading.main_thread() or _is_ours(thread)
        ) and not any(
            job.thread == thread.ident for loop in list(self._loops.values()) for job in list(loop.jobs)
        )

    def at_work(self, resting: set[int], loops: Iterable[Loop]) -> bool:
        """True if a thread of the program, which was given an answer, is still at work with it. One that is gone, or that
        waits for something (a lock, a queue, another thread), is not."""
        known = {loop.thread for loop in loops} - resting
        if not known:
            return False
        now, frames, out = time.monotonic(), sys._current_frames(), False
        for thread in threading.enumerate():
            ident = thread.ident
            if ident not in known or (frame := frames.get(ident)) is None:
                continue
            place = (id(frame), frame.f_lasti)
            seen, since = self._seen.get(ident, (None, now))
            if seen != place or _runs(thread):
                self._seen[ident] = (place, now)
                out = True
            elif now - since < SETTLED:
                out = True
        return out

    def unknown(self, resting: set[int], loops: Iterable[Loop]) -> bool:
        """True if there are threads that may belong to the program."""
        jobs = {job.thread for loop in loops for job in list(loop.jobs)}
        return any(
            thread.ident not in resting
            and thread.ident not in jobs
            and thread.ident != self._own
            and thread is not threading.main_thread()
            and not _is_ours(thread)
            for thread in threading.enumerate()
        )


def _runs(thread: threading.Thread) -> bool:
    """True if it is running or waits for the processor. False if the system does not report that."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except OSError:
        return False


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(("lllm-", "asyncio_", "pydevd"))


def is_stop(error: object) -> bool:
    """True if an error stops a program that is replayed."""
    return isinstance(error, ReplayDivergence) or getattr(error, "stops_replay", False) is True


def _run(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


def _nothing(*_: object) -> None:
    pass
