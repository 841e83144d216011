"""Work queues, producers and consumers."""

from __future__ import annotations

import asyncio
import random

from benchmarks.order.shape import Shape, shape


@shape()
async def work_queue(s: Shape) -> None:
    left = list(range(8))

    async def work(name: str) -> None:
        while left:
            await s.say(f"item {left.pop(0)} by {name} after {len(s.got)}")

    await asyncio.gather(*(work(name) for name in "xyz"))


@shape()
async def producer_and_consumers(s: Shape) -> None:
    items: asyncio.Queue[str | None] = asyncio.Queue(2)

    async def produce() -> None:
        for n in range(6):
            await items.put((await s.other.acall(f"make {n}")).content)
        for _ in range(3):
            await items.put(None)

    async def consume(name: str) -> None:
        while (item := await items.get()) is not None:
            await s.say(f"{name} {item} {len(s.got)}")

    await asyncio.gather(produce(), *(consume(name) for name in "xyz"))


@shape(silent=True)
async def queue_wait_for(s: Shape) -> None:
    items: asyncio.Queue[int | None] = asyncio.Queue(2)

    async def produce() -> None:
        for n in range(6):
            await items.put(n)
            await asyncio.sleep(0.004)
        await items.put(None)

    async def consume() -> None:
        while True:
            try:
                item = await asyncio.wait_for(items.get(), 0.003)
            except TimeoutError:
                s.got.append("idle")
                continue
            if item is None:
                return
            await s.say(f"item {item} after {len(s.got)}")

    await asyncio.gather(produce(), consume())


@shape(silent=True)
async def consumers_with_timeouts(s: Shape) -> None:
    """A producer and three workers, with `wait_for` around queue and call."""
    items: asyncio.Queue[int | None] = asyncio.Queue(2)

    async def produce() -> None:
        for n in range(8):
            await items.put(n)
            await asyncio.sleep(random.Random(n).random() * 0.01)
        for _ in range(3):
            await items.put(None)

    async def work(name: str) -> None:
        while True:
            try:
                item = await asyncio.wait_for(items.get(), 0.004)
            except TimeoutError:
                s.got.append(f"idle {name}")
                continue
            if item is None:
                return
            try:
                await asyncio.wait_for(s.say(f"item {item} after {len(s.got)}"), 0.015)
            except TimeoutError:
                s.got.append(f"{name} late {item}")

    await asyncio.gather(produce(), *(work(name) for name in "xyz"))


@shape()
async def priorities(s: Shape) -> None:
    """What comes next depends on the answers so far."""
    items: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()
    for n in range(4):
        items.put_nowait((n, n))
    count = 4

    async def work() -> None:
        nonlocal count
        while not items.empty():
            rank, n = items.get_nowait()
            said = await s.say(f"item {n} {rank}")
            if count < 10:
                items.put_nowait((int(said[-1]), count))
                count += 1
            items.task_done()

    workers = [asyncio.ensure_future(work()) for _ in range(3)]
    await items.join()
    await asyncio.gather(*workers)
