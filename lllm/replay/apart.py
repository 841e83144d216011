"""Runs a recorded program in a thread and a loop of its own, so that its time can be the record's and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from lllm.bounds import Bounds, enclosing
from lllm.loops import Loop
from lllm.replay.order import Order
from lllm.replay.uvloops import replaced
from lllm.sync import in_thread

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds in which a program that was stopped must end. After that it is abandoned."""


async def apart(
    order: Order,
    make: Callable[[], Coroutine[Any, Any, T]],
    cancelled: Callable[[BaseException], None] = lambda _: None,
) -> tuple[T | None, BaseException | None]:
    """The result of a coroutine, or what it raised. If the caller is cancelled meanwhile, `cancelled` hears of it first.

    Raises:
        CancelledError: the caller was cancelled, and the program has ended, or PATIENCE has passed.
    """
    here = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = here.create_future()
    program = _Program(order, make)

    def tell(outcome: tuple[T | None, BaseException | None]) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def work() -> None:
        outcome = program.run()
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            here.call_soon_threadsafe(tell, outcome)

    def give_up() -> None:
        with suppress(RuntimeError):
            here.call_soon_threadsafe(here.call_later, PATIENCE, tell, (None, asyncio.CancelledError()))

    program.stopped = give_up
    thread = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError as error:
        cancelled(error)
        program.stop(for_good=True)
        await ended
        raise
    finally:
        order.finish()
        thread.cancel()


class _Program:
    def __init__(self, order: Order, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.stopped: Callable[[], None] = lambda: None
        self._order = order
        self._make = make
        self._loop = Loop()
        self._task: asyncio.Task[Any] | None = None
        self._over = False
        self._bounds = Bounds(enclosing.get())

    def stop(self, *, for_good: bool = False) -> None:
        """Cancels the program, from any thread. `for_good`: nobody waits for it, and what blocks in its threads ends, too."""
        if for_good:  # blocking calls in its threads begin nothing more, before their own loops hear of it
            self._over = self._bounds.stopped = True
        self.stopped()
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def run(self) -> tuple[Any, BaseException | None]:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            with replaced(self._order.session.record):
                return loop.run_until_complete(self._main())
        except BaseException as error:  # a KeyboardInterrupt that a task raises breaks out of the loop
            return None, error
        finally:
            try:
                self._order.finish()
                left = asyncio.all_tasks(loop)
                for task in left:
                    task.cancel()
                if left:
                    loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
                if self._over:
                    loop.run_until_complete(self._bounds.wind_up())
                loop.run_until_complete(loop.shutdown_asyncgens())
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    async def _main(self) -> tuple[Any, BaseException | None]:
        self._task = asyncio.current_task()
        self._order.begin(self.stop)
        enclosing.set(self._bounds)
        try:
            return await self._make(), None
        except BaseException as error:
            self._order.ended_by = error
            return None, error
