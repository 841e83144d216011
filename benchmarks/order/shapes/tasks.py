"""Tasks that end in any order."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.order.shape import Boss, Shape, Slow, note, shape
from lllm import Agent


@shape()
async def gather(s: Shape) -> None:
    await asyncio.gather(*(s.say(f"q{n}") for n in range(5)))


@shape()
async def as_completed(s: Shape) -> None:
    for done in asyncio.as_completed([s.agent.acall(f"q{n}") for n in range(5)]):
        first = (await done).content
        await s.say(f"next {first}")


@shape()
async def race(s: Shape) -> None:
    tasks = [asyncio.ensure_future(s.agent.acall(f"q{n}")) for n in range(4)]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    s.got += sorted(task.result().content for task in done)


@shape()
async def race_of_equals(s: Shape) -> None:
    """All take equally long: how many are done at once is a part of what is said."""
    agent = s.agent_with(Slow(0.005, fixed=True))
    tasks = {asyncio.ensure_future(agent.acall(f"q{n}")) for n in range(8)}
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        s.got.append(f"[{len(done)}]")
        s.got += sorted(task.result().content for task in done)
        await s.say(f"seen {len(s.got)}")


@shape()
async def equal_words(s: Shape) -> None:
    async def chain(n: int) -> None:
        await s.say(f"q{n}")
        await s.say("go on")

    await asyncio.gather(*(chain(n) for n in range(4)))


@shape()
async def agents_as_tools(s: Shape) -> None:
    """Nested sub-agents side by side, in two branches."""
    sub = s.agent_with(Slow(), "sub", tools=[note], description="Does it.")

    async def branch(n: int) -> None:
        boss = s.agent_with(Boss(), f"boss{n}", tools=[sub])
        s.got.append((await boss.acall("go")).content)
        await s.say(f"more {n} {len(s.got)}")

    await asyncio.gather(branch(0), branch(1))


@shape()
async def outlive_their_parent(s: Shape) -> None:
    left: list[asyncio.Task[Any]] = []

    async def parent(n: int) -> None:
        left.append(asyncio.ensure_future(s.say(f"child {n}")))
        await s.say(f"parent {n}")

    await asyncio.gather(*(parent(n) for n in range(3)))
    await asyncio.gather(*left)


@shape()
async def left_behind(s: Shape) -> None:
    """Tasks that are still at work when their session ends, and are cancelled with it."""
    tasks = [asyncio.ensure_future(s.say(f"late {n}")) for n in range(3)]
    await s.say("first")
    s.got.append(str(sum(task.done() for task in tasks)))
    for task in tasks:
        task.cancel()


@shape()
async def cancelled_by_hand(s: Shape) -> None:
    """Each cancels the next one as soon as it has its answer, and tries that one's again."""
    tasks: list[asyncio.Task[str]] = []

    async def one(n: int) -> str:
        said = await s.say(f"q{n}")
        if n + 1 < len(tasks) and tasks[n + 1].cancel():
            s.got.append(f"{n} stops {n + 1}")
        return said

    tasks += [asyncio.ensure_future(one(n)) for n in range(5)]
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    for n, end in enumerate(ends):
        if isinstance(end, BaseException):
            await s.say(f"again {n}")


@shape(silent=True)
async def shielded(s: Shape) -> None:
    """A call goes on although nobody waits for it any more, and is taken later."""

    async def one(n: int) -> None:
        call = asyncio.ensure_future(s.agent.acall(f"q{n}"))
        try:
            async with asyncio.timeout(0.008):
                s.got.append((await asyncio.shield(call)).content)
        except TimeoutError:
            s.got.append(f"later {n}")
            s.got.append((await call).content)

    await asyncio.gather(*(one(n) for n in range(5)))


@shape()
async def hedged(s: Shape) -> None:
    """A second call where the first takes long; the faster one counts."""

    async def one(n: int) -> None:
        tasks = {asyncio.ensure_future(s.agent.acall(f"q{n}"))}
        done, _ = await asyncio.wait(tasks, timeout=0.007)
        if not done:
            tasks.add(asyncio.ensure_future(s.other.acall(f"q{n}")))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks - done:
            task.cancel()
        s.got.append(f"{len(tasks)} {len(done)} {sorted(task.result().content for task in done)[0]}")

    await asyncio.gather(*(one(n) for n in range(5)))


@shape(sessions=2)
async def two_sessions(s: Shape) -> None:
    """Two of them run side by side in one loop."""

    async def chain(n: int) -> None:
        await s.say(f"q{n}")
        await s.say(f"then {n} {len(s.got)}")

    await asyncio.gather(*(chain(n) for n in range(3)))


@shape()
async def blocking_calls(s: Shape) -> None:
    """A blocking call stops the loop while others are on their way."""

    async def one(n: int) -> None:
        await s.say(f"q{n}")
        s.got.append(s.other(f"now {len(s.got)}").content)

    await asyncio.gather(*(one(n) for n in range(3)))


@shape()
async def systems_in_tasks(s: Shape) -> None:
    """Agents that are made where they are used."""

    async def one(n: int) -> None:
        agent = Agent(f"one{n}", s.backend)
        s.got.append((await agent.acall(f"q{len(s.got)}")).content)

    for _ in range(2):
        await asyncio.gather(*(one(n) for n in range(3)))
