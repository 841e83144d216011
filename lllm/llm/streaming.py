"""Following a call: its deltas as an iterator, async or blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any

from lllm.models.reply import Reply
from lllm.ports import Completed, TextDelta
from lllm.session import current
from lllm.sync import run

_END = object()


async def deltas(
    acall: Callable[..., Coroutine[Any, Any, Reply]], input: Any, args: Any, more: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    """Runs the call in a task and yields what its followers see; the call's own reply comes last. Closing the iterator
    early cancels the call."""
    pieces: asyncio.Queue[Any] = asyncio.Queue()

    def follow(call: str, delta: Any) -> None:
        if not isinstance(delta, Completed):
            pieces.put_nowait(delta)

    async def work() -> Reply:
        try:
            return await acall(input, args, follow=follow, **more)
        finally:
            pieces.put_nowait(_END)

    task = asyncio.ensure_future(work())
    try:
        while (piece := await pieces.get()) is not _END:
            yield piece
        try:
            reply = await task
        except asyncio.CancelledError:
            scope = current.get()
            if scope is None or not scope.session.replaying or not task.cancelled():
                raise
            return  # closed early when it was recorded
        yield Completed(reply)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


def blocking(stream: AsyncIterator[Any]) -> Iterator[Any]:
    """An async iterator, driven step by step from blocking code."""
    try:
        while True:
            try:
                yield run(_next(stream))
            except StopAsyncIteration:
                return
    finally:
        run(stream.aclose())  # type: ignore[attr-defined]


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream)


class Stream:
    """What `llm(..., stream=True)` gives: iterate it for deltas, `.text()` for the text alone; `.reply` afterwards."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self.reply: Reply | None = None

    def __iter__(self) -> Iterator[Any]:
        for delta in self._source:
            if isinstance(delta, Completed):
                self.reply = delta.reply
            yield delta

    def text(self) -> Iterator[str]:
        """The pieces of the answer's text."""
        for delta in self:
            if isinstance(delta, TextDelta):
                yield delta.text
