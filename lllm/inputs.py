"""Inputs: what comes to a program from outside, one at a time and in an order that its log has.

An input is an answer of the world (a reply, the result of a tool or of an effect), a timer of the program that fires, a
function that returns from a thread, a call that is handed back after its log was written, or a delta of a stream
(`lllm.stream_inputs`). As long as one alone can be on its way there is nothing to order. Otherwise each waits until the
program has nothing left to do with those before it: until no handle of its session is ready in the event loop. So what the
program does depends on their order alone. Answers are events of the log; the others have names (`t3` the third timer, `e1`
the first job, `c2` the second call, `s2` deltas of its stream), and before the next event a Note of `inputs` says which of
them came. Temporal orders its workflows in the same way.

Timers and jobs are seen in loops of `lllm.loops.Loop` alone. Other loops are never changed: there the log has the order of
answers and of calls that are handed back.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final

scope: contextvars.ContextVar[Any] = contextvars.ContextVar("lllm_scope", default=None)
"""The `lllm.session.Scope` of the running code."""

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("lllm_inside", default=False)

ALL: Final = "all"
"""The log has the order of all inputs."""
ANSWERS: Final = "answers"
"""The log has the order of answers, and of calls that are handed back."""

TURNS: Final = 16
"""Turns of a loop that does not show what is ready in it, between two inputs of a session."""
BUSY: Final = 100
"""Turns of a loop after which a session that is never at rest is given its next input."""


_names = Lock()
"""Of the numbers of all sessions: held for an assignment."""


def _after_fork() -> None:
    global _names
    _names = Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def effect(on: bool = True) -> Iterator[None]:
    """Around what acts on the world: its timers and jobs are not the program's, and a replay does not do it."""
    token = _inside.set(on)
    try:
        yield
    finally:
        _inside.reset(token)


enter: Final = _inside.set
leave: Final = _inside.reset


def owner(context: contextvars.Context | None = None) -> Inputs | None:
    """The inputs of the session whose program arms a timer, or is ready to run, in this context; None where that is no
    program's."""
    if context is None:
        found, inside = scope.get(), _inside.get()
    else:
        found, inside = context.get(scope), context.get(_inside, False)
    if found is None or inside:
        return None
    inputs: Inputs = found.session.inputs
    return inputs if inputs.on and not found.session.unopened else None


class Reading:
    """A stream that a program reads.

    Attributes:
        call: whose it is; "" before the first delta. maker: the task that makes the call.
        unread: so many deltas have come that the program has not taken yet.
        leaves: whether who reads it was cancelled, and waits for the end of the call.
    """

    __slots__ = ("call", "leaves", "maker", "unread")

    def __init__(self) -> None:
        self.call = ""
        self.unread = 0
        self.leaves = False
        self.maker: asyncio.Task[Any] | None = None

    @property
    def name(self) -> str:
        """The name of its deltas."""
        return f"s{self.call.removeprefix('c')}"


class Inputs:
    """The inputs of one session.

    Attributes:
        on: whether anybody wants to know them: not where no log is kept, nor after the session's end.
        follows: whether the record says what comes next. Then nothing waits here: see `lllm.replay.order`.
        copied: whether what comes then is named all the same, because it goes into the log of a fork.
        crowded: whether two of them were ever on their way at the same time.
        joined: of a stream: whether the last delta was one input with that before it.
        came: the names of those that came since the last event; of streams, `lllm.stream_inputs.Deltas`.
        stops: of a fork: calls and effects that were stopped before the record has come to it.
        readers: of a replay: the tasks that wait for the next piece of a stream.
        stop_is_noted: of a replay: whether the record says that who reads a stream was asked to stop more than once.
        stream_end: of a replay: called before a program learns that a stream has ended.
    """

    __slots__ = (
        "__weakref__",
        "_jobs",
        "_timers",
        "came",
        "coming",
        "copied",
        "crowded",
        "follows",
        "joined",
        "on",
        "readers",
        "stop_is_noted",
        "stops",
        "stream_end",
    )

    def __init__(self, on: bool) -> None:
        self.on = on
        self.follows = self.copied = False
        self.crowded = self.joined = False
        self.coming = 0
        self.came: list[Any] = []
        self.stops: list[str] = []
        self.readers: dict[asyncio.Task[Any], Reading] | None = None
        self.stop_is_noted: Callable[[Reading], bool] | None = None
        self.stream_end: Callable[[Reading], Awaitable[object]] | None = None
        self._timers = self._jobs = 0

    def begin(self) -> None:
        """One more is on its way."""
        self.coming += 1
        if self.coming > 1:
            self.crowded = True

    def end(self) -> None:
        """One less is."""
        self.coming -= 1

    def timer_name(self) -> str:
        """The name of the program's next timer."""
        with _names:
            self._timers += 1
            return f"t{self._timers}"

    def job_name(self) -> str:
        """The name of the program's next job."""
        with _names:
            self._jobs += 1
            return f"e{self._jobs}"

    def stopped(self, name: str) -> None:
        """A call or an effect is cancelled just now, although it has come to its end, or learns something all the same."""
        if self.on and (self.copied or not self.follows):
            self.came.append(f"-{name}")
            if self.copied:
                self.stops.append(name)

    def stopped_reading(self, reading: Reading) -> None:
        """Who reads a stream is cancelled just now, although the call has ended, or before it came to what it was given."""
        if self.on and not self.follows and reading.call:
            self.came.append(f"-{reading.name}*{reading.unread}" if reading.unread else f"-{reading.name}")

    def stopped_again(self, reading: Reading, requests: int) -> bool:
        """Who reads a stream has been asked to stop so often, and waits for the end of its call. False in the replay of an old
        log, which does not note that: then it does not wait any more."""
        if self.follows:
            return self.stop_is_noted is not None and self.stop_is_noted(reading)
        if self.on and reading.call:
            self.came.append(f"x{reading.name}*{requests}")
        return True

    def hears_of_stop(self, name: str, *, waited: bool = True) -> None:
        """The caller of a call or an effect hears that it was cancelled. Noted where it had to wait for that, or where more
        than one had asked for it: a timer that fires meanwhile has no other trace in the log."""
        task = asyncio.current_task()
        requests = 1 if task is None else task.cancelling()
        if requests > 1:
            self.came.append(f"x{name}*{requests}")
        elif waited:
            self.came.append(f"x{name}")

    async def turn(self, *, leaving: bool = False) -> None:
        """Waits until the program has nothing left to do with the inputs before this one. `leaving`: somebody has cancelled
        the caller, which raises that afterwards: whoever does it again changes nothing, and not the turn either."""
        if not self.crowded or self.follows or not self.on:
            return
        loop = asyncio.get_running_loop()
        gate = gate_of(loop)
        if gate.rests(self):
            return
        future: asyncio.Future[None] = loop.create_future()
        gate.hold(self, lambda: _settled(future))
        await (through(future) if leaving else future)

    def job(
        self, loop: asyncio.AbstractEventLoop, inner: asyncio.Future[Any], work: Work | None
    ) -> asyncio.Future[Any]:
        """The result of a function that runs in a thread for the program, when its turn has come. `-e1` says that it was
        cancelled, and never runs, because no thread had begun with it."""
        self.begin()
        name = self.job_name()
        outer = self.give(loop, name, inner)
        if work is not None:
            outer.add_done_callback(
                lambda _: self.stopped(name) if outer.cancelled() and work.drop() else None
            )
        return outer

    def give(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        inner: asyncio.Future[Any],
        recorded: Callable[[Callable[[], None], Callable[[], None]], bool] = lambda *_: False,
    ) -> asyncio.Future[Any]:
        """The result of job `name` when its turn has come. `recorded` keeps what gives it, where a record says when, and what
        gives it when that has ended."""
        outer: asyncio.Future[Any] = loop.create_future()

        def come() -> bool:
            if outer.done():
                return False
            self.came.append(name)
            pass_on(inner, outer)
            return True

        def done(_: object) -> None:
            if recorded(lambda: pass_on(inner, outer), lambda: done(None)):
                return
            self.end()
            if self.crowded:
                gate_of(loop).hold(self, come)
            else:
                come()

        inner.add_done_callback(done, context=contextvars.Context())
        outer.add_done_callback(lambda _: inner.cancel() if outer.cancelled() else None)
        return outer


class Work:
    """A function that a thread calls, unless it was dropped before."""

    __slots__ = ("_begun", "_dropped", "_function", "_lock")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._lock = Lock()
        self._begun = self._dropped = False

    def __call__(self, *args: Any) -> Any:
        with self._lock:
            if self._dropped:
                return None
            self._begun = True
        return self._function(*args)

    def drop(self) -> bool:
        """Sees to it that it is not called any more. False if it has been."""
        with self._lock:
            self._dropped = not self._begun
        return self._dropped


class Timer(asyncio.TimerHandle):
    """A timer of a program. When it is due it waits for its turn."""

    __slots__ = ("inputs", "name", "real")

    def __init__(self, name: str, inputs: Inputs, *args: Any) -> None:
        super().__init__(*args)
        self.name = name
        self.inputs = inputs
        self.real: asyncio.TimerHandle | None = None
        """What wakes it: a timer of the loop. None where it is not on its way: it has come, or a record says when."""

    def cancel(self) -> None:
        self._stop()
        super().cancel()

    def due(self) -> None:
        """Its time has come."""
        self._stop()
        if self.inputs.crowded:
            gate_of(self._loop).hold(self.inputs, self.fire)  # type: ignore[attr-defined]
        else:
            self.fire()

    def fire(self) -> bool:
        """Calls what it calls, in the loop's next turn. False where it was cancelled."""
        if self.cancelled():
            return False
        self.inputs.came.append(self.name)
        self._loop._ready.append(self)  # type: ignore[attr-defined]
        return True

    def _stop(self) -> None:
        if (real := self.real) is not None:
            self.real = None
            real.cancel()
            self.inputs.end()


class Gate:
    """The inputs that wait for their turn in one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ready: deque[asyncio.Handle] | None = getattr(loop, "_ready", None)
        self._held: dict[Inputs, deque[Callable[[], bool]]] = {}
        self._turns: dict[Inputs, int] = {}
        self._marked = False

    def is_busy(self) -> bool:
        """True if it was asked in this turn of the loop before: for one that does not show what is left to do."""
        if self._marked or (loop := self._loop()) is None:
            return True
        self._marked = True
        loop.call_soon(self._unmark, context=contextvars.Context())
        return False

    def _unmark(self) -> None:
        self._marked = False

    def rests(self, inputs: Inputs) -> bool:
        """True if it is plain to see that the program has nothing else to do."""
        return self._ready is not None and not self._ready and inputs not in self._held

    def last(self, inputs: Inputs) -> Callable[[], bool] | None:
        """The last of those that wait."""
        held = self._held.get(inputs)
        return held[-1] if held else None

    def hold(self, inputs: Inputs, come: Callable[[], bool]) -> None:
        """Calls `come` when the turn has come. False from it says that it comes to nothing: then the next one's has."""
        stepping = bool(self._held)
        self._held.setdefault(inputs, deque()).append(come)
        if not stepping:
            self._next_step()

    def _next_step(self) -> None:
        if (loop := self._loop()) is not None:
            loop.call_soon(self._step, context=contextvars.Context())

    def _step(self) -> None:
        busy = None if self._ready is None else _at_work(self._ready)
        for inputs in list(self._held):
            turns = self._turns.get(inputs, 0) + 1
            if (turns < TURNS) if busy is None else (inputs in busy and turns < BUSY):
                self._turns[inputs] = turns
                continue
            self._turns.pop(inputs, None)
            queue = self._held[inputs]
            while queue and not queue.popleft()():
                pass
            if not queue:
                del self._held[inputs]
        if self._held:
            self._next_step()


_gates: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gate]] = weakref.WeakKeyDictionary()


def gate_of(loop: asyncio.AbstractEventLoop) -> Gate:
    """The gate of a loop."""
    found = _gates.get(loop)
    if found is None:
        found = _gates[loop] = Gate(loop)
    return found


def _at_work(ready: deque[asyncio.Handle]) -> set[Inputs]:
    """The inputs of the sessions whose programs have something left to do."""
    busy = set()
    for handle in ready:
        context = handle._context  # type: ignore[attr-defined]
        found = context.get(scope)
        if found is not None and not context.get(_inside):
            busy.add(found.session.inputs)
    return busy


async def through(future: asyncio.Future[Any], over: Callable[[], bool] = lambda: False) -> None:
    """Waits for a future, or until it is `over`, whoever cancels meanwhile: for those who raise that afterwards."""
    while not future.done() and not over():
        with suppress(asyncio.CancelledError):
            await asyncio.wait((future,))


def _settled(future: asyncio.Future[None]) -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True


def pass_on(inner: asyncio.Future[Any], outer: asyncio.Future[Any]) -> None:
    """Gives one future the result of another, unless it is done."""
    if outer.done():
        return
    if inner.cancelled():
        outer.cancel()
    elif (error := inner.exception()) is not None:
        outer.set_exception(error)
    else:
        outer.set_result(inner.result())
