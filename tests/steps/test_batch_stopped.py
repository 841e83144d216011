"""Batches that are stopped: replayed, forked, and resumed where the resumption was stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, step
from lllm.core.envelope import open_event
from lllm.errors import ReplayDivergence, StageError
from lllm.replay import aresume_session
from tests.steps.test_batch_resume import batch_of, cut


def statuses(store: MemoryLog) -> dict[str, str]:
    return {info.id: info.status for info in store.sessions(99)}


async def slow(n: int) -> int:
    if n == 2:
        await asyncio.sleep(0.05)
        raise ValueError("two")
    await asyncio.sleep(30 if n in (3, 4) else 0)
    return n


def test_a_batch_whose_items_were_stopped_by_an_error_is_replayed() -> None:
    store = MemoryLog()

    def entry() -> list[int]:
        return step(slow).batch(range(6), limit=3, store=store, errors="raise")

    with pytest.raises(StageError, match="item 2 failed"):
        entry()
    batch = batch_of(store)
    assert [statuses(store)[f"{batch}-{n}"] for n in range(5)] == [
        *["done"] * 2,
        "failed",
        *["cancelled"] * 2,
    ]
    for _ in range(3):
        report = lllm.replay_session(batch, store=store, entry=entry)
        assert report.verified, report.divergence


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_a_stopped_batch_is_replayed_as_far_as_it_came(limit: int) -> None:
    store = MemoryLog()

    async def main() -> None:
        async with asyncio.timeout(0.2):
            await step(slow).abatch([0, 1, 3, 5, 4, 6], limit=limit, store=store)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    batch = batch_of(store)
    report = lllm.replay_session(
        batch, store=store, entry=lambda: step(slow).batch([0, 1, 3, 5, 4, 6], limit=limit, store=store)
    )
    assert report.verified, report.divergence
    other = lllm.replay_session(
        batch,
        store=store,
        entry=lambda: step(lambda n: -n, name="slow").batch([0, 1, 3, 5, 4, 6], limit=limit, store=store),
    )
    assert not other.verified  # the items that had ended are compared


def test_a_stopped_chain_is_replayed_and_forked() -> None:
    store, asked = MemoryLog(), []

    def model(request: Any) -> str:
        asked.append(request.messages[-1].text)
        return "reply"

    waits = [30.0]

    async def wait(text: str) -> str:
        await asyncio.sleep(waits[0])
        return text

    made = Agent("a", ScriptedBackend(model)) >> wait

    async def main() -> None:
        async with asyncio.timeout(0.2):
            await made.arun("x", store=store)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    (info,) = store.sessions(9)
    assert lllm.replay_session(info.id, store=store, entry=lambda: made.run("x", store=store)).verified
    waits[0] = 0
    fork = lllm.fork_session(info.id, store=store, entry=lambda: made.run("x", store=store))
    assert str(fork.result.value) == "reply"
    assert len(asked) == 1


def test_a_resumption_that_was_stopped_is_resumed() -> None:
    store, waits = MemoryLog(), [0.0]
    asked: list[int] = []

    async def item(n: int) -> int:
        await asyncio.sleep(waits[0] if n > 2 else 0)
        asked.append(n)
        return n

    def entry(where: MemoryLog) -> Any:
        return lambda: step(item).batch(range(6), limit=2, store=where)

    entry(store)()
    batch = batch_of(store)
    left = cut(store, {batch: 5} | {f"{batch}-{n}": 0 for n in range(2, 6)})
    waits[0] = 30

    async def resumed() -> None:
        async with asyncio.timeout(0.3):
            await aresume_session(batch, store=left, entry=entry(left))

    for _ in range(2):
        with pytest.raises(TimeoutError):
            asyncio.run(resumed())
        assert statuses(left)[batch] == "running"
    waits[0] = 0
    asked.clear()
    assert lllm.resume_session(batch, store=left, entry=entry(left)).result == list(range(6))
    assert set(statuses(left).values()) == {"done"}
    report = lllm.replay_session(batch, store=left, entry=entry(left))
    assert report.verified, report.divergence


def test_an_item_that_was_stopped_before_the_batch_could_say_so() -> None:
    """The process died while it wound up: the item has ended, the batch has not."""
    store, waits = MemoryLog(), [30.0]

    async def item(n: int) -> int:
        await asyncio.sleep(waits[0] if n == 1 else 0)
        return n

    def entry(where: MemoryLog) -> Any:
        return lambda: step(item).batch(range(4), limit=1, store=where)

    async def main() -> None:
        async with asyncio.timeout(0.2):
            await step(item).abatch(range(4), limit=1, store=store)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    batch = batch_of(store)
    events = [open_event(record.body)["kind"] for record in store._sessions[batch]]
    left = cut(store, {batch: len(events) - 2})
    waits[0] = 0
    assert lllm.resume_session(batch, store=left, entry=entry(left)).result == list(range(4))
    assert statuses(left)[f"{batch}-1.2"] == "done"
    report = lllm.replay_session(batch, store=left, entry=entry(left))
    assert report.verified, report.divergence


def test_a_resumption_with_other_code_stops_and_can_be_made_again() -> None:
    store, begun = MemoryLog(), []

    def entry(where: MemoryLog, sign: int = 1) -> Any:
        def item(n: int) -> int:
            begun.append(n)
            return sign * n

        return lambda: step(item).batch(range(1, 30), limit=2, store=where)

    entry(store)()
    batch = batch_of(store)
    left = cut(store, {batch: 9} | {f"{batch}-{n}": 0 for n in range(4, 29)})
    begun.clear()
    with pytest.raises(ReplayDivergence):
        lllm.resume_session(batch, store=left, entry=entry(left, -1))
    assert len(begun) < 10  # nothing new is begun
    assert statuses(left)[batch] == "running"
    assert lllm.resume_session(batch, store=left, entry=entry(left)).result == list(range(1, 30))
    assert set(statuses(left).values()) == {"done"}
