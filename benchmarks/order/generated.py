"""Concurrent programs that nobody wrote: random trees of what programs do, cut off anywhere, resumed and replayed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import lllm
from benchmarks.order.kills import Life
from benchmarks.order.runs import Made, make, names_of, replays
from benchmarks.order.shape import Shape, pay, send
from lllm import LLMError, MemoryLog, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event

Work = Callable[[Shape], Awaitable[None]]

DEPTH: Final = 3
TOOLS: Final = 0.3
"""The share of calls whose agent has a tool."""
STREAMS: Final = 0.3
"""The share of calls whose reply is read as it comes."""


def program(seed: int, streams: bool = False) -> Work:
    """The program of a seed. What it does follows from the seed, and from the order of what comes to it. `streams`: it reads
    some replies as they come."""
    chance = random.Random(seed)
    numbers = iter(range(10_000))

    def leaf() -> Work:
        n, kind, seconds = next(numbers), chance.random(), chance.random() * 0.01
        if kind < 0.5:
            tools = chance.random() < TOOLS
            if streams and chance.random() < STREAMS:
                return _reads(n, chance.choice((1, 2, 3, 99)))

            async def call(s: Shape) -> None:
                agent = s.worker if tools else s.agent
                reply = await agent.acall(f"{n} after {len(s.got)}")
                s.got.append(f"{n}:{reply.content[-3:]}")

            return call
        if kind < 0.7:

            async def sleep(s: Shape) -> None:
                await asyncio.sleep(seconds)
                s.got.append(f"{n}.")

            return sleep
        if kind < 0.85:

            async def effect(s: Shape) -> None:
                await pay(f"{n} after {len(s.got)}")
                s.got.append(f"{n}$")

            return effect
        if kind < 0.93:

            async def thread(s: Shape) -> None:
                await asyncio.to_thread(send, f"{n} after {len(s.got)}")
                s.got.append(f"{n}t")

            return thread

        async def draw(s: Shape) -> None:
            s.got.append(f"{n}?{lllm.random().randrange(100)}")
            await asyncio.sleep(0)

        return draw

    def node(depth: int) -> Work:
        if depth == 0 or chance.random() < 0.15:
            return leaf()
        n, kind = next(numbers), chance.choice(list(KINDS))
        parts = [node(depth - 1) for _ in range(chance.randint(2, 3))]
        return KINDS[kind](n, parts, chance.random() * 0.025)

    tree = [node(DEPTH) for _ in range(2)]

    async def run(s: Shape) -> None:
        for part in tree:
            await part(s)

    return run


def _reads(n: int, most: int) -> Work:
    """A stream that is left after `most` deltas."""

    async def read(s: Shape) -> None:
        async with aclosing(s.talker.astream(f"{n} after {len(s.got)}")) as stream:
            count = 0
            async for delta in stream:
                count += 1
                s.got.append(f"{n}{type(delta).__name__[:2]}{getattr(delta, 'text', '')[-1:]}")
                if count == most:
                    break

    return read


def _chain(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        for part in parts:
            await part(s)

    return run


def _gather(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        await asyncio.gather(*(part(s) for part in parts))
        s.got.append(f"g{n}")

    return run


def _group(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        try:
            async with asyncio.timeout(seconds + 0.005), asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part(s))  # type: ignore[arg-type]
        except TimeoutError:
            s.got.append(f"late{n}")

    return run


def _race(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        tasks = [asyncio.ensure_future(part(s)) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            s.got.append(f"r{n}:{[n for n, task in enumerate(tasks) if task in done]}")
        finally:
            await _stopped(tasks)

    return run


async def _stopped(tasks: list[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _wait_for(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        for part in parts:
            try:
                await asyncio.wait_for(part(s), seconds)
            except TimeoutError:
                s.got.append(f"w{n}")

    return run


def _queue(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        items: asyncio.Queue[Work | None] = asyncio.Queue(1)

        async def produce() -> None:
            for part in [*parts, *parts[:1]]:
                await items.put(part)
                await asyncio.sleep(seconds / 5)
            await items.put(None)
            await items.put(None)

        async def consume(k: int) -> None:
            while (part := await items.get()) is not None:
                s.got.append(f"{n}k{k}")
                await part(s)

        await asyncio.gather(produce(), consume(0), consume(1))

    return run


def _limited(n: int, parts: list[Work], seconds: float) -> Work:
    async def run(s: Shape) -> None:
        limit = asyncio.Semaphore(1)

        async def one(part: Work) -> None:
            async with limit:
                await part(s)

        tasks = [asyncio.ensure_future(one(part)) for part in parts]
        beat = asyncio.ensure_future(_beat(s, seconds))
        try:
            await asyncio.wait(tasks)
        finally:
            await _stopped([*tasks, beat])

    return run


async def _beat(s: Shape, seconds: float) -> None:
    while True:
        await asyncio.sleep(0.002 + seconds / 4)
        s.got.append(".")


KINDS: Final[dict[str, Callable[[int, list[Work], float], Work]]] = {
    "chain": _chain,
    "gather": _gather,
    "group": _group,
    "race": _race,
    "wait_for": _wait_for,
    "queue": _queue,
    "limited": _limited,
}


def judge(seed: int, loop: str = "lllm", cut: bool = True, streams: bool = False) -> list[str]:
    """Runs, replays and (`cut`) cuts off, resumes and replays the program of a seed: what went wrong."""
    whole = MemoryLog()
    made = make(program(seed, streams), whole, loop)
    made.live()
    asked = made.asked[0]
    wrong = [f"replay: {line}" for line in replays(made, whole)]
    if made.asked[0] != asked:
        wrong.append("the replay asked a model")
    if wrong or not cut:
        return wrong
    session = names_of(whole)["x0"]
    bodies = whole._sessions[session]
    at = random.randrange(1, len(bodies) - 1)
    store = MemoryLog()
    store._sessions[session], store._blobs = bodies[:at], dict(whole._blobs)
    return wrong or [
        f"cut off at {at}: {line}"
        for line in _resumed(make(program(seed, streams), store, loop), store, session, bodies[:at])
    ]


def _resumed(made: Made, store: MemoryLog, session: str, prefix: list[Any]) -> list[str]:
    try:
        resume_session(session, store=store, entry=made.entries["x0"], decide="retry")
    except LLMError as error:
        return [f"not resumed: {type(error).__name__}: {error}"]
    if store._sessions[session][: len(prefix)] != prefix:
        return ["the prefix was not kept"]
    ends = [
        event["data"] for event in map(open_event, store.read(session)) if event["kind"] == ev.SESSION_ENDED
    ]
    if [end["status"] for end in ends] != ["done"]:
        return [f"it ended {ends}"]
    return replays(made, store)


def main(count: int, seed: int, loop: str, cut: bool = True, streams: bool = False) -> int:
    """Judges so many programs, from one seed on."""
    found: Counter[str] = Counter()
    for n in range(seed, seed + count):
        try:
            wrong = Life(lambda n=n: judge(n, loop, cut, streams)).result()  # type: ignore[misc]
        except RuntimeError as error:
            wrong = [str(error).strip()[-600:]]
        found["wrong" if wrong else "right"] += 1
        for line in wrong[:1]:
            print(f"seed {n}: {line[:400]}", flush=True)
    print(
        f"{found['right']} of {count} programs were replayed{', resumed and replayed again' if cut else ''}"
    )
    return 1 if found["wrong"] else 0
