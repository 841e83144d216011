"""Effects of the program's own code, beside calls and timers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import lllm
from benchmarks.order.shape import Shape, shape
from lllm.session import acting


@shape()
async def effects_side_by_side(s: Shape) -> None:
    """Activities, in the loop and in threads, each after a call."""

    async def one(n: int) -> None:
        said = (await s.agent.acall(f"q{n}")).content
        await s.act(said)
        s.got.append(f"{n} {len(s.got)}")
        await s.act(f"second {n}")
        await s.say(f"done {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape(silent=True, rare="a fork does an effect that a timeout had stopped just then")
async def effects_with_timeouts(s: Shape) -> None:
    """Effects that are cancelled, and done again under another name."""

    async def one(n: int) -> None:
        for attempt in range(3):
            try:
                async with asyncio.timeout(0.004):
                    await s.act(f"{n} {attempt}")
                    s.got.append(f"did {n} {attempt}")
                    break
            except TimeoutError:
                s.got.append(f"late {n} {attempt}")
        await s.say(f"q{n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape()
async def effects_of_a_session(s: Shape) -> None:
    """`session.effect` races with calls."""
    session: Any = acting()

    async def look(n: int) -> dict[str, Any]:
        async def do() -> dict[str, Any]:
            await asyncio.sleep(random.random() * 0.015)
            return {"n": n, "seen": random.random()}

        found: dict[str, Any] = await session.effect("look", {"n": n}, do, effect="pure")
        return found

    for n in range(4):
        tasks: set[asyncio.Task[Any]] = {
            asyncio.ensure_future(look(n)),
            asyncio.ensure_future(s.agent.acall(f"q{n}")),
        }
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        s.got.append(f"{len(done)} {sorted(type(task.result()).__name__ for task in done)}")
        if n % 2:
            for task in others:
                task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await s.say(" ".join(s.got))


@shape()
async def clock_and_chance(s: Shape) -> None:
    """Tasks that ask for the time and for chance as they come to it."""

    async def one(n: int) -> None:
        draw = lllm.random()
        await s.say(f"q{n} {draw.randrange(1000)}")
        await asyncio.sleep(draw.random() * 0.004)
        s.got.append(f"{lllm.now().isoformat()} {lllm.uuid()}")
        await s.say(f"then {n} {len(s.got)} {draw.randrange(1000)}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape(silent=True)
async def effects_and_heartbeat(s: Shape) -> None:
    async def beat() -> None:
        while True:
            await asyncio.sleep(0.002)
            s.got.append(".")

    async def one(n: int) -> None:
        await s.act(f"{n} at {len(s.got)}")
        await s.say(f"q{n} {len(s.got)}")

    task = asyncio.ensure_future(beat())
    await asyncio.gather(*(one(n) for n in range(3)))
    task.cancel()
