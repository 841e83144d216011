"""One reply while it is being made: an iterator of deltas that any thread can stop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, Final

from lllm.handles import close_stream
from lllm.ports import Delta
from lllm.sync import run, spawn

_END: Final = object()


class Source:
    """An async stream that any thread can interrupt."""

    def __init__(self, stream: Callable[[], AsyncIterator[Delta]]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._over = False

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        raise NotImplementedError

    def interrupt(self) -> None:
        """Stops the stream; a reader that waits is woken. Returns at once."""
        with self._lock:
            self._interrupted = True
            if self._loop is not None and self._task is not None:
                with suppress(RuntimeError):  # the loop is closed: it has ended by itself
                    self._loop.call_soon_threadsafe(self._task.cancel)

    def close(self) -> None:
        """Stops the stream, and returns when it has let go of the model."""
        self.interrupt()
        self._over = True

    async def _pour(self, take: Callable[[Delta], None]) -> None:
        with self._lock:
            if self._interrupted:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        stream = self._stream()
        try:
            async for delta in stream:
                take(delta)
        finally:
            await close_stream(stream)
            with self._lock:
                self._task = None


class Once(Source):
    """A reply that nobody follows: it is made in the thread of its reader, who gets the end alone."""

    def __next__(self) -> Delta:
        if self._over:
            raise StopIteration
        self._over = True
        deltas: deque[Delta] = deque(maxlen=1)
        run(self._pour(deltas.append))
        if not deltas:
            raise StopIteration
        return deltas[0]


class Pump(Source):
    """A reply that somebody follows: made in a thread of its own, read from any thread.

    A thread, and not a step of a loop per delta: the model goes on while the reader is busy, one piece costs a queue and
    not a turn of a loop, and whoever closes the stream need not be whoever reads it.
    """

    def __init__(self, stream: Callable[[], AsyncIterator[Delta]]) -> None:
        super().__init__(stream)
        self._pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done = threading.Event()
        spawn(self._drive)

    def __next__(self) -> Delta:
        if self._over:
            raise StopIteration
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            self._over = True
            raise piece
        if piece is _END:
            self._over = True
            raise StopIteration
        return piece  # type: ignore[no-any-return]

    def close(self) -> None:
        super().close()
        self._done.wait()

    def _drive(self) -> None:
        try:
            run(self._pour(self._pieces.put))
            self._pieces.put(_END)
        except BaseException as error:
            self._pieces.put(error)
        finally:
            self._done.set()


class Generation:
    """The deltas of one reply. `stop` ends it from outside, and its reader gets the error that was given."""

    def __init__(
        self,
        source: Iterator[Delta],
        ended: Callable[[Generation], None],
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._ended = ended
        self._interrupt = interrupt
        self._turn = threading.Lock()
        self._error: BaseException | None = None
        self._over = False

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        with self._turn:
            self._tell()
            if self._over:
                raise StopIteration
            try:
                return next(self._source)
            except BaseException as error:
                self._end()
                self._tell(error)
                raise

    @property
    def over(self) -> bool:
        """Whether the model is let go."""
        return self._over

    def stop(self, error: BaseException) -> None:
        """Ends the reply at its next piece; returns when the model is let go."""
        if not self._over:
            self._error = error
        if self._interrupt is not None:
            self._interrupt()
        with self._turn:
            self._end()

    def close(self) -> None:
        """Ends the reply; its reader wants no more."""
        with self._turn:
            self._end()

    def _tell(self, ended: BaseException | None = None) -> None:
        """Raises what `stop` was given, once: that is why the reply has ended."""
        error, self._error = self._error, None
        if error is not None:
            raise error from (None if isinstance(ended, StopIteration) else ended)

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        try:
            if isinstance(self._source, Generator):
                self._source.close()
        finally:
            self._ended(self)
