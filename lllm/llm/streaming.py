"""Following a call: its deltas as an iterator, for `for` and for `async for`."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from weakref import WeakSet

from lllm.errors import StreamInterrupted
from lllm.inputs import ANSWERS, Inputs, Reading
from lllm.loops import kept_here
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Restart, TextDelta
from lllm.session import current
from lllm.session_followers import OneWay
from lllm.sync import finish, place, run

T = TypeVar("T")

_END = object()
_WHOLE = object()


class _Manner:
    """How a stream is followed. `text_only`: by `Stream.text`."""

    text_only = False


async def _deltas(
    acall: Callable[..., Coroutine[Any, Any, Reply]],
    input: Any,
    args: Any,
    more: Mapping[str, Any],
    manner: _Manner,
) -> AsyncGenerator[Any, None]:
    """Runs the call in a task and yields what its followers see; the call's own reply comes last. Closing the iterator
    early cancels the call. In a replay the call comes to its recorded end, which the program did not wait for either."""
    pieces: asyncio.Queue[Any] = asyncio.Queue()
    read: str | None = ""
    scope = current.get()
    reading = Reading()

    def follow(call: str, delta: Any) -> None:
        reading.call = call
        reading.unread += type(delta) is not Completed
        pieces.put_nowait(_WHOLE if isinstance(delta, Completed) else delta)

    follower = OneWay(follow) if manner.text_only else follow

    async def work() -> Reply:
        try:
            return await acall(input, args, follow=follower, **more)
        finally:
            pieces.put_nowait(_END)

    async def take() -> Any:
        if scope is None:
            return await pieces.get()
        coming, reader = scope.session.inputs, asyncio.current_task()
        if coming.readers is None or reader is None:
            try:
                return await pieces.get()
            except asyncio.CancelledError:
                if (reading.unread or task.done()) and kept_here() == ANSWERS:
                    coming.stopped_reading(reading)
                raise
        coming.readers[reader] = reading
        try:
            piece = await pieces.get()
            if piece is _END and coming.stream_end is not None:
                await coming.stream_end(reading)
            return piece
        finally:
            del coming.readers[reader]

    reading.maker = task = asyncio.ensure_future(work())
    try:
        while (piece := await take()) is not _END:
            if piece is _WHOLE:
                read = None
                continue
            reading.unread -= 1
            if type(piece) is TextDelta:
                read = (read or "") + piece.text
            elif type(piece) is Restart:
                read = ""
            yield piece
        try:
            reply = await task
        except asyncio.CancelledError:
            session = None if scope is None else scope.session
            if session is None or not (session.replaying or session.inputs.follows) or not task.cancelled():
                raise
            return  # closed early when it was recorded
        yield Completed(reply)
    finally:
        if not task.done():
            left = not isinstance(sys.exception(), asyncio.CancelledError)
            if scope is None:
                task.cancel()
            else:
                reading.call = scope.session.unfollow(follower) or reading.call
                scope.session.left(reading.call, task, read, left)
            if scope is None or left:
                await asyncio.wait((task,))
            else:
                await _over(task, scope.session.inputs, reading)
        if not task.cancelled():
            task.exception()  # looked at: whoever left early is not warned of what it raises


async def _over(task: asyncio.Task[Any], coming: Inputs, reading: Reading) -> None:
    """Waits until a call has ended, after its reader was cancelled; whoever cancels that once more is noted."""
    reader = asyncio.current_task()
    if reader is None:
        await asyncio.wait((task,))
        return
    reading.leaves = True
    if coming.readers is not None:
        coming.readers[reader] = reading
    if reader.cancelling() > 1:
        coming.stopped_again(reading, reader.cancelling())
    try:
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                if not coming.stopped_again(reading, reader.cancelling()):
                    raise
    finally:
        if coming.readers is not None:
            del coming.readers[reader]


def blocking(stream: AsyncIterator[T]) -> Generator[T, None, None]:
    """Iterates an async iterator step by step from blocking code, in the loop where it was started."""
    at = place()
    try:
        while True:
            try:
                yield run(_next(stream), at=at)
            except StopAsyncIteration:
                return
    finally:
        finish(stream.aclose(), at=at)  # type: ignore[attr-defined]


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)


_begun: WeakSet[Generator[Any, None, None]] = WeakSet()


def _leave_at_exit(steps: Generator[Any, None, None]) -> None:
    """Sees to it that a stream which the program has not read to its end is closed while there are a loop and a log: what
    is registered last is done first, and the log was opened for the first piece."""
    if threading.current_thread() is threading.main_thread():
        _begun.add(steps)
        atexit.unregister(_leave)
        atexit.register(_leave)


def _leave() -> None:
    for steps in list(_begun):
        steps.close()


os.register_at_fork(after_in_child=_begun.clear)  # they are the parent's


class Pieces(Generic[T]):
    """An iterator for `for` and for `async for`. Closing it, or dropping it in the middle, stops what makes the pieces."""

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self._source = source
        self._steps: Generator[T, None, None] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._steps is None:
            # it refers to the source alone: dropped with this iterator, it closes the source
            self._steps = blocking(self._source)
            first = next(self._steps)
            _leave_at_exit(self._steps)
            return self._took(first)
        return self._took(next(self._steps))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return self._took(await anext(self._source))

    def _took(self, piece: T) -> T:
        return piece

    def close(self) -> None:
        """Stops it. A second time does nothing."""
        if self._steps is not None:
            self._steps.close()
        else:
            finish(self._source.aclose())

    async def aclose(self) -> None:
        """`close` for async code."""
        await self._source.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Stream(Pieces[Delta]):
    """What `llm.stream(...)` and `llm.astream(...)` give: the typed deltas of one reply, for `for` and for `async for`.

        for text in llm("Tell me.", stream=True).text():
            print(text, end="")

    Attributes:
        reply: the finished reply, once it has come; None before.

    It can be followed once. Closing it early (`close`, `aclose`, `with`, leaving the loop) stops the model.

    A replay gives the deltas as they came, and so does a fork or a resumed session where it has a reply already. If the process
    died while a reply was being written, the resumed session asks for it again: what the program was given of it before is
    followed by a `Restart`; `text()`, which cannot take text back, begins with the new reply.
    """

    def __init__(self, source: AsyncGenerator[Delta, None], manner: _Manner | None = None) -> None:
        super().__init__(source)
        self._manner = manner or _Manner()
        self.reply: Reply | None = None

    def _took(self, piece: Delta) -> Delta:
        if type(piece) is Completed:
            self.reply = piece.reply
        return piece

    def text(self) -> Pieces[str]:
        """The pieces of the answer's text alone: of all replies of the call, where it has several.

        Nothing is given twice: a fault before the first piece is retried; one after it raises StreamInterrupted, whose
        `partial` is the text so far.
        """
        self._manner.text_only = True
        return Pieces(_text(self))

    def collect(self) -> Reply:
        """Follows the stream to its end, and gives the reply."""
        return run(self.acollect())

    async def acollect(self) -> Reply:
        """`collect` for async code."""
        async with aclosing(self):
            async for _ in self:
                pass
        return self._finished()

    def to_file(self, path: str | os.PathLike[str]) -> Reply:
        """Writes the answer's text to a file as it comes, and gives the reply.

        The file is there when the reply is whole, not before: what comes is written beside it. After a fault, or a crash,
        an earlier file of that name is as it was.
        """
        return run(self.ato_file(path))

    async def ato_file(self, path: str | os.PathLike[str]) -> Reply:
        """`to_file` for async code."""
        from lllm.atomic_files import atomic

        async with aclosing(self):
            with atomic(path) as file:
                async for delta in self:
                    if isinstance(delta, TextDelta):
                        file.write(delta.text.encode("utf-8"))
                    elif isinstance(delta, Restart):
                        file.seek(0)
                        file.truncate()
                reply = self._finished()
                if not file.tell():  # a backend that gives no pieces
                    file.write(reply.content.encode("utf-8"))
                return reply

    def _finished(self) -> Reply:
        if self.reply is None:
            raise StreamInterrupted("the stream was closed, or followed before, and has no reply")
        return self.reply


def stream_of(
    acall: Callable[..., Coroutine[Any, Any, Reply]], input: Any, args: Any, more: Mapping[str, Any]
) -> Stream:
    """The stream of a call that begins when its first delta is wanted."""
    manner = _Manner()
    return Stream(_deltas(acall, input, args, more, manner), manner)


async def _text(stream: Stream) -> AsyncGenerator[str, None]:
    said: list[str] = []
    async with aclosing(stream):
        async for delta in stream:
            if isinstance(delta, TextDelta):
                said.append(delta.text)
                yield delta.text
            elif isinstance(delta, Completed) and not said and delta.reply.content:
                yield delta.reply.content  # a backend that gives no pieces
            elif isinstance(delta, Restart) and said:
                partial = "".join(said)
                raise StreamInterrupted(
                    f"the reply broke off after {len(partial)} characters",
                    hint="Text that was given cannot be taken back. Follow the deltas, whose Restart says that the reply "
                    "begins anew, or call the model without a stream.",
                    partial=partial,
                )
