"""The session as a writer: what it says is durable is in the store, whoever was cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import LogWriteError
from lllm.log.memory import MemoryLog
from lllm.ports import Record
from lllm.session import Session


class Slow(MemoryLog):
    """Writes when it is told to. `stubborn`: also for somebody who was cancelled meanwhile."""

    def __init__(self, *, stubborn: bool) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.go = asyncio.Event()
        self.fault: Exception | None = None
        self.appends = 0
        self.writing: set[asyncio.Future[None]] = set()

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        self.appends += 1
        if not self.stubborn:
            return await self._later(records, blobs)
        work = asyncio.ensure_future(self._later(records, blobs))
        self.writing.add(work)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)

    async def _later(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None) -> None:
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        await super().append(records, blobs)


async def cancelled(store: Slow) -> Session:
    """A session whose first flush was cancelled while the store was writing."""
    session = Session(store, id="s")
    await session.start()
    writing = asyncio.ensure_future(session.flush())
    await asyncio.sleep(0)
    assert store.appends == 1
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    return session


def kinds(store: MemoryLog) -> list[str]:
    return [open_event(body)["kind"] for body in store.read("s")]


@pytest.mark.parametrize("stubborn", [True, False])
@pytest.mark.parametrize("fault", [LogWriteError("the disk is full"), OSError("the disk is full")])
async def test_what_a_cancelled_append_failed_to_store_is_not_durable(
    stubborn: bool, fault: Exception
) -> None:
    store = Slow(stubborn=stubborn)
    session = await cancelled(store)
    store.fault = fault
    store.go.set()
    for _ in range(2):
        with pytest.raises(LogWriteError, match="the disk is full"):
            await session.flush()
    assert store.sessions() == []


@pytest.mark.parametrize("stubborn", [True, False])
async def test_what_a_cancelled_append_was_to_store_is_stored_once(stubborn: bool) -> None:
    store = Slow(stubborn=stubborn)
    session = await cancelled(store)
    kept = session.keep(b"a blob")
    session.emit(ev.NOTE, {"text": "later"})
    flushes = [asyncio.ensure_future(session.flush()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(flush.done() for flush in flushes)
    store.go.set()
    await asyncio.gather(*flushes)
    assert kinds(store) == [ev.SESSION_STARTED, ev.NOTE]
    assert store.blob(kept) == b"a blob"
    await session.end("done")
    assert kinds(store)[-1] == ev.SESSION_ENDED
    assert store.verify("s")


async def test_cancelled_again_and_again() -> None:
    store = Slow(stubborn=True)
    session = await cancelled(store)
    for number in range(3):
        session.emit(ev.NOTE, {"text": str(number)})
        writing = asyncio.ensure_future(session.flush())
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    store.go.set()
    await session.flush()
    assert kinds(store) == [ev.SESSION_STARTED, *[ev.NOTE] * 3]
    assert store.verify("s")


async def test_somebody_else_s_events_are_not_taken_for_those_of_a_cancelled_append() -> None:
    store = Slow(stubborn=False)
    session = await cancelled(store)
    store.go.set()
    other = Session(MemoryLog(), id="s", seed="another")
    await other.start()
    await MemoryLog.append(store, other._records)
    with pytest.raises(LogWriteError):
        await session.flush()


async def test_a_waiter_writes_for_whoever_was_cancelled() -> None:
    store = Slow(stubborn=False)
    session = Session(store, id="s")
    await session.start()
    writing, waiting = (asyncio.ensure_future(session.flush()) for _ in range(2))
    await asyncio.sleep(0)
    writing.cancel()
    store.go.set()
    await waiting
    seen: Any = kinds(store)
    assert seen == [ev.SESSION_STARTED]
