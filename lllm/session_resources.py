"""What is opened for a session and closed with it, last opened first.

An asynchronous resource has a task of its own, in the event loop in which it was opened: it is entered there, and exited
there when the session ends. Task groups (MCP clients) demand that of whoever enters them, and connections belong to their
loop. If that loop ends before the session does, the task is cancelled, and exits the resource.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any, Final

from lllm.core.redact import Redactor, scrub
from lllm.errors import ConfigError, LLMError
from lllm.loops import is_blocked
from lllm.plug_ins import PLUG_IN, told
from lllm.sync import in_thread, is_async, spawn
from lllm.terminals import warn

SECONDS: Final = 10.0
"""Time limit for closing one resource."""

Report = Callable[[LLMError], None]


class Resources:
    """The open resources of a session. Safe to use from several threads and event loops.

    Args:
        leave: called within the context of each resource once it is open: what runs there later is outside of the
            program.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._lock = threading.Lock()
        self._open: list[_Held] = []
        self._closed = False

    async def enter(self, resource: Any, seconds: float) -> Any:
        """Opens a resource and keeps it."""
        held = _held(resource, seconds, self._leave)
        value = await held.open()
        if not self._keep(held):
            await _close(held, lambda error: None)
            raise _closed(held)
        return value

    def enter_plain(self, resource: Any, seconds: float) -> Any:
        """Opens a resource that is not asynchronous, in this thread."""
        held = _held(resource, seconds, self._leave, plain=True)
        assert isinstance(held, _Plain)
        value = held.enter()
        if not self._keep(held):
            held.exit()
            raise _closed(held)
        return value

    def _keep(self, held: _Held) -> bool:
        with self._lock:
            if not self._closed:
                self._open.append(held)
            return not self._closed

    async def close(self, report: Report) -> None:
        """Closes all, last opened first, each within its time limit, also if the caller is cancelled meanwhile. Errors
        are passed to `report`, and do not keep others open."""
        with self._lock:
            self._closed = True
            left, self._open = self._open, []
        if not left:
            return

        async def close() -> BaseException | None:
            stop: BaseException | None = None
            for held in reversed(left):
                try:
                    await _close(held, report)
                except KeyboardInterrupt as error:  # in a task it would break out of the loop
                    stop = error
            return stop

        work = asyncio.get_running_loop().create_task(close())
        cancelled = False
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError:
                cancelled = True
        if (stop := work.result()) is not None:
            raise stop
        if cancelled:
            raise asyncio.CancelledError


class ResourceOwner:
    """What is open for a session. A part of Session."""

    # of Session
    id: str
    ended: bool
    redactor: Redactor
    _lock: threading.Lock

    _resources: Resources | None = None
    _over = False
    close_errors: tuple[LLMError, ...] = ()
    """What could not be closed at the session's end, in the order of closing."""

    async def enter(self, resource: Any, *, timeout: float = SECONDS) -> Any:
        """Opens a resource for the session and returns what it gives; the session's end closes it.

        Closed is last opened first, after the log is complete, however the session ends; in a replay, a resumption and a
        fork too. An error while closing is logged as a warning and kept in `close_errors`; the others are closed all the
        same.

        Arguments:
            resource: an asynchronous context manager, which is entered and exited in a task of its own in this event
                loop; a context manager, in worker threads; or an object with `aclose()` or `close()`, which is returned.
            timeout: seconds that closing it may take.

        Raises:
            ConfigError: none of these, or the session has ended. What the resource raises when it is entered.
        """
        return await self.resources.enter(resource, timeout)

    @property
    def resources(self) -> Resources:
        """What is open for the session."""
        with self._lock:
            if self._over or self.ended:
                raise ConfigError(
                    f"session '{self.id}' has ended, so nothing can be opened for it",
                    hint="Open it before, or in a session of its own: with lllm.record(): ...",
                )
            if self._resources is None:
                self._resources = Resources(self.leave)
            return self._resources

    async def close_resources(self) -> None:
        """Closes what was opened for the session. `end` does so."""
        if self._resources is None or self.is_forked():  # a forked process has its parent's
            return
        await self._resources.close(self._not_closed)

    def _not_closed(self, error: LLMError) -> None:
        scrub(error, self.redactor)
        self.close_errors = (*self.close_errors, error)
        warn(logging.getLogger("lllm.session"), "session '%s': %s", self.id, error.message)

    if TYPE_CHECKING:

        @staticmethod
        def leave() -> None: ...

        def is_forked(self) -> bool: ...


def _closed(held: _Held) -> LLMError:
    return ConfigError(
        f"the session ended while {held.name} was opened for it", hint="It has been closed again."
    )


async def _close(held: _Held, report: Report) -> None:
    def failed(error: BaseException) -> None:
        report(_error(held, error))

    try:
        await held.close(failed)
    except PLUG_IN as error:
        failed(error)
    except asyncio.CancelledError as error:  # raised by the resource: this task is cancelled by nobody
        failed(error)


def _error(held: _Held, error: BaseException) -> LLMError:
    if isinstance(error, _Open):
        return LLMError(f"{held.name} could not be closed: {error}")
    made = LLMError(f"{held.name} could not be closed: {told(error)}")
    made.__cause__ = error
    return made


class _Open(Exception):
    """Why a resource is still open."""


def _held(resource: Any, seconds: float, leave: Callable[[], None], *, plain: bool = False) -> _Held:
    """How a resource is opened and closed. ConfigError if it cannot be."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"timeout must be seconds above 0, got {seconds!r}")
    kind, name = type(resource), _name(resource)
    if isinstance(resource, type):
        raise ConfigError(
            f"{resource.__name__} is a class, not a resource",
            hint=f"Give an instance: {resource.__name__}(...).",
        )
    close = next((key for key in ("aclose", "close") if callable(getattr(resource, key, None))), None)
    awaited = close == "aclose" or (close is not None and is_async(getattr(resource, close)))
    if hasattr(kind, "__aenter__") and not plain:
        return _Asynchronous(name, resource, seconds, leave)
    if hasattr(kind, "__enter__"):
        return _Plain(name, resource, seconds, leave)
    if close is not None and awaited and not plain:
        return _Asynchronous(name, _closing(resource, close), seconds, leave)
    if close is not None and not awaited:
        return _Plain(name, closing(resource), seconds, leave)
    if awaited or hasattr(kind, "__aenter__"):
        raise ConfigError(
            f"{name} is asynchronous, and this is blocking code",
            hint="In async code: await lllm.aenter(RESOURCE).",
        )
    raise ConfigError(
        f"a session cannot close {name}",
        hint="Give a context manager (async or not), or an object with aclose() or close().",
    )


def _name(resource: Any) -> str:
    """What messages call a resource: its class, or the generator that it is made of."""
    kind = type(resource)
    generator = getattr(resource, "gen", resource)
    found = getattr(generator, "__qualname__", None)
    return found if isinstance(found, str) else f"{kind.__module__}.{kind.__qualname__}"


@asynccontextmanager
async def _closing(resource: Any, close: str) -> AsyncIterator[Any]:
    try:
        yield resource
    finally:
        await getattr(resource, close)()


class _Plain:
    """A context manager that is not asynchronous. It is exited in a worker thread."""

    def __init__(self, name: str, manager: Any, seconds: float, leave: Callable[[], None]) -> None:
        self.name = name
        self._manager = manager
        self._seconds = seconds
        self._leave = leave
        self._context = contextvars.copy_context()

    def enter(self) -> Any:
        value = self._context.run(type(self._manager).__enter__, self._manager)
        self._context.run(self._leave)
        return value

    def exit(self) -> None:
        self._context.run(type(self._manager).__exit__, self._manager, None, None, None)

    async def open(self) -> Any:
        """Enters it in a worker thread."""
        # not `in_thread`: when this is done is a part of the order that a log keeps
        entered = asyncio.ensure_future(asyncio.to_thread(_contain, self.enter))
        try:
            value, error = await asyncio.shield(entered)
        except asyncio.CancelledError:
            if not entered.cancelled():
                entered.add_done_callback(self._undo)
            raise
        if error is not None:
            raise error
        return value

    def _undo(self, entered: asyncio.Future[tuple[Any, BaseException | None]]) -> None:
        """Nobody waits for it any more."""
        if not entered.cancelled() and entered.result()[1] is None:
            with suppress(RuntimeError):  # no more threads
                spawn(self._exit_unheard)

    def _exit_unheard(self) -> None:
        _contain(self.exit)

    async def close(self, failed: Callable[[BaseException], None]) -> None:
        """Exits it. Raises what that raises."""
        exited = asyncio.ensure_future(in_thread(_contain, self.exit))
        waiter = _Waiter(asyncio.get_running_loop(), self._seconds)
        exited.add_done_callback(waiter.wake)
        if not await waiter.wait():
            raise _Open(f"it took longer than {self._seconds:g} s")
        if (error := exited.result()[1]) is not None:
            raise error


class _Asynchronous:
    """An asynchronous context manager, and the task that enters and exits it."""

    def __init__(
        self, name: str, manager: AbstractAsyncContextManager[Any], seconds: float, leave: Callable[[], None]
    ) -> None:
        self.name = name
        self._manager = manager
        self._seconds = seconds
        self._leave = leave

    async def open(self) -> Any:
        """Enters it in a new task, and returns its value or raises what it raises."""
        self._loop = loop = asyncio.get_running_loop()
        self._ended_program: BaseException | None = None
        self._value: asyncio.Future[Any] = loop.create_future()
        self._closing: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._hold())
        self._task.add_done_callback(_look)
        try:
            return await asyncio.shield(self._value)
        except asyncio.CancelledError:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((self._task,), timeout=self._seconds)
            raise

    async def _hold(self) -> None:
        try:
            async with self._manager as value:
                self._value.set_result(value)
                self._leave()
                await self._closing
        except BaseException as error:
            if not self._value.done():
                self._value.set_exception(error)
                self._value.exception()  # looked at, also where its caller is gone
            elif isinstance(error, Exception | asyncio.CancelledError):
                raise
            else:  # in a task it would break out of the loop
                self._ended_program = error

    async def close(self, failed: Callable[[BaseException], None]) -> None:
        """Exits it. Raises what that raises; passes it to `failed` where it cannot be waited for."""
        if not self._task.done() and not await self._exited(failed):
            return
        error: BaseException | None = self._ended_program
        if not self._task.cancelled():
            error = error or self._task.exception()
        elif not self._closing.cancelled():  # else its loop had ended before, which has closed it
            error = asyncio.CancelledError()
        if error is not None:
            raise error

    async def _exited(self, failed: Callable[[BaseException], None]) -> bool:
        """Has the task exit the resource. True if it has ended, False if it will, as soon as its loop goes on."""
        here, loop = asyncio.get_running_loop(), self._loop
        waiter = _Waiter(here, self._seconds)

        def start() -> None:
            if not self._closing.done():
                self._closing.set_result(None)
            self._task.add_done_callback(waiter.wake)

        def late(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception() or self._ended_program) is not None:
                failed(error)

        if loop is here:
            start()
        else:
            try:
                loop.call_soon_threadsafe(start)
            except RuntimeError:
                raise _Open("its event loop was closed before the session ended") from None
            if is_blocked(loop):  # it goes on when this call has ended
                loop.call_soon_threadsafe(self._task.add_done_callback, late)
                return False
            if not loop.is_running():
                raise _Open("its event loop does not run now; it is closed when that runs again, or ends")
        if not await waiter.wait():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._task.cancel)
            raise _Open(f"it took longer than {self._seconds:g} s")
        return True


_Held = _Plain | _Asynchronous


class _Waiter:
    """Waits, in one loop, for what ends in any thread; no longer than so many seconds. They are real ones, also where the
    loop's time is a record's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._future: asyncio.Future[bool] = loop.create_future()
        self._ended = threading.Event()

    def wake(self, *_: object) -> None:
        self._ended.set()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, True)

    def _settle(self, ended: bool) -> None:
        if not self._future.done():
            self._future.set_result(ended)

    async def wait(self) -> bool:
        """True if it has ended, False if the time has passed."""

        def watch() -> None:
            if not self._ended.wait(self._seconds):
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._settle, False)

        await asyncio.sleep(0)
        if not self._ended.is_set():
            with suppress(RuntimeError):  # no more threads: it is waited for without a limit
                spawn(watch)
        return await self._future


def _contain(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What a function gives, or raises. In a task, SystemExit would break out of the loop."""
    try:
        return function(), None
    except BaseException as error:
        return None, error


def _look(done: asyncio.Future[Any]) -> None:
    """What it raised is looked at, so that asyncio does not warn."""
    if not done.cancelled():
        done.exception()
