"""Timeouts, pauses, and timers that change something."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from benchmarks.order.shape import Shape, shape


@shape()
async def wait_for(s: Shape) -> None:
    for n in range(5):
        try:
            await asyncio.wait_for(s.say(f"q{n}"), 0.01)
        except TimeoutError:
            s.got.append(f"late {n}")


@shape()
async def timeouts_side_by_side(s: Shape) -> None:
    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.012):
                await s.say(f"q{n}")
        except TimeoutError:
            s.got.append(f"late {n}")

    async with asyncio.TaskGroup() as group:
        for n in range(6):
            group.create_task(one(n))


@shape()
async def timeouts_around_tools(s: Shape) -> None:
    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.02):
                s.got.append((await s.worker.acall(f"q{n}")).content)
        except TimeoutError:
            s.got.append(f"late {n}")

    await asyncio.gather(*(one(n) for n in range(5)))


@shape()
async def nested_timeouts(s: Shape) -> None:
    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.02):
                for k in range(3):
                    try:
                        async with asyncio.timeout(0.009):
                            await s.say(f"q{n} {k}")
                    except TimeoutError:
                        s.got.append(f"short {n} {k}")
        except TimeoutError:
            s.got.append(f"long {n}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape()
async def timeout_of_a_group(s: Shape) -> None:
    """One timeout cancels several calls at once."""
    for turn in range(2):
        try:
            async with asyncio.timeout(0.011), asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(s.say(f"q{turn} {n}"))
        except TimeoutError:
            s.got.append(f"out of time with {len(s.got)}")


@shape()
async def wait_with_timeout(s: Shape) -> None:
    tasks = {asyncio.ensure_future(s.agent.acall(f"q{n}")) for n in range(5)}
    while tasks:
        done, tasks = await asyncio.wait(tasks, timeout=0.006)
        s.got.append(f"{len(done)} of {len(done) + len(tasks)}")
        s.got += sorted(task.result().content for task in done)
        await s.say(f"left {len(tasks)}")


@shape(silent=True)
async def as_completed_with_timeout(s: Shape) -> None:
    tasks = [asyncio.ensure_future(s.agent.acall(f"q{n}")) for n in range(5)]
    try:
        for done in asyncio.as_completed(tasks, timeout=0.012):
            s.got.append((await done).content)
    except TimeoutError:
        s.got.append(f"{sum(task.done() for task in tasks)} in time")
    await asyncio.gather(*tasks)


@shape()
async def reschedules(s: Shape) -> None:
    """A timeout that is put off with every answer."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(0.012) as limit:
            for n in range(8):
                await s.say(f"q{n}")
                limit.reschedule(loop.time() + 0.013)
    except TimeoutError:
        s.got.append("out of time")


@shape()
async def sleeps(s: Shape) -> None:
    async def one(n: int) -> None:
        await asyncio.sleep(0.05 * random.Random(n).random())
        await s.say(f"q{n}")

    await asyncio.gather(*(one(n) for n in range(5)))
    await asyncio.sleep(0.2)


@shape(silent=True)
async def heartbeat(s: Shape) -> None:
    async def beat() -> None:
        while True:
            await asyncio.sleep(0.002)
            s.got.append(".")

    task = asyncio.ensure_future(beat())
    await asyncio.gather(*(s.say(f"q{n}") for n in range(4)))
    task.cancel()


@shape(silent=True)
async def two_heartbeats(s: Shape) -> None:
    """One of them says something, the other counts, and both are seen."""
    count = 0

    async def counts() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(0.003)
            count += 1

    async def says() -> None:
        while True:
            await asyncio.sleep(0.007)
            await s.say(f"beat {count}")

    tasks = [asyncio.ensure_future(counts()), asyncio.ensure_future(says())]
    for n in range(4):
        await s.say(f"q{n} {count}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@shape(silent=True)
async def timers(s: Shape) -> None:
    async def beat() -> None:
        for _ in range(3):
            await asyncio.sleep(0.007)
            s.got.append(".")

    await asyncio.gather(beat(), *(s.say(f"q{n}") for n in range(4)))


@shape(silent=True)
async def call_later(s: Shape) -> None:
    """Callbacks that start calls."""
    loop = asyncio.get_running_loop()
    started: list[asyncio.Task[Any]] = []

    def start(n: int) -> None:
        started.append(loop.create_task(s.say(f"q{n} after {len(s.got)}")))

    for n in range(4):
        loop.call_later(0.004 * n, start, n)
    loop.call_soon(start, 9)
    await s.say("first")
    await asyncio.sleep(0.02)
    await asyncio.gather(*started)


@shape(silent=True)
async def debounce(s: Shape) -> None:
    """A timer that is armed anew with every answer, and acts when none comes for a while."""
    loop = asyncio.get_running_loop()
    armed: list[asyncio.TimerHandle] = []

    async def one(n: int) -> None:
        for k in range(3):
            await s.say(f"q{n} {k}")
            for handle in armed:
                handle.cancel()
            armed[:] = [loop.call_later(0.004, s.got.append, f"quiet after {len(s.got)}")]

    await asyncio.gather(*(one(n) for n in range(2)))
    await asyncio.sleep(0.01)
