"""Groups, faults, and what waits for several."""

from __future__ import annotations

import asyncio

from benchmarks.order.shape import Shape, Slow, shape
from lllm import LLMError


@shape()
async def group_with_a_failing_member(s: Shape) -> None:
    async def one(n: int) -> None:
        said = await s.say(f"q{n}")
        if int(said[-1]) < 4:
            raise ValueError(f"{n} {len(s.got)}")

    for turn in range(3):
        try:
            async with asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(one(10 * turn + n))
        except* ValueError as found:
            s.got.append(f"failed {sorted(str(error) for error in found.exceptions)}")


@shape()
async def gather_with_exceptions(s: Shape) -> None:
    async def one(n: int) -> str:
        said = await s.say(f"q{n}")
        if int(said[-1]) % 2:
            raise ValueError(said)
        return f"{said} {len(s.got)}"

    ends = await asyncio.gather(*(one(n) for n in range(6)), return_exceptions=True)
    s.got += [str(end) for end in ends]


@shape()
async def gather_that_fails(s: Shape) -> None:
    """The others go on after the first fault, and are not waited for."""

    async def one(n: int) -> None:
        said = await s.say(f"q{n}")
        if int(said[-1]) < 5:
            raise ValueError(f"{n} after {len(s.got)}")

    tasks = [asyncio.ensure_future(one(n)) for n in range(5)]
    try:
        await asyncio.gather(*tasks)
    except ValueError as error:
        s.got.append(f"first {error}")
        await s.say(f"after {error}")
    await asyncio.wait(tasks)
    for task in tasks:
        task.exception()


@shape()
async def semaphore_with_retries(s: Shape) -> None:
    limit = asyncio.Semaphore(3)

    async def one(n: int) -> None:
        for attempt in range(3):
            async with limit:
                said = (await s.agent.acall(f"q{n} {attempt}")).content
            if int(said[-1]) % 2:
                s.got.append(said)
                return
            await asyncio.sleep(0.003 * (attempt + 1))

    await asyncio.gather(*(one(n) for n in range(8)))


@shape()
async def fan_out_with_faults(s: Shape) -> None:
    """A model that is often busy: retries with back-off in the runtime, and more of them in the program."""
    limit = asyncio.Semaphore(5)
    agent = s.agent_with(Slow(0.01, fails=0.3), max_provider_retry=1, backoff_base=0.002, backoff_cap=0.005)

    async def one(n: int) -> None:
        async with limit:
            for attempt in range(3):
                try:
                    s.got.append((await agent.acall(f"q{n}")).content)
                    return
                except LLMError as error:
                    s.got.append(type(error).__name__)
                    await asyncio.sleep(0.003 * (attempt + 1))
            s.got.append(f"lost {n}")

    await asyncio.gather(*(one(n) for n in range(12)))


@shape()
async def conditions(s: Shape) -> None:
    """Waiters of a condition that each answer notifies."""
    changed = asyncio.Condition()

    async def waits(n: int) -> None:
        async with changed:
            await changed.wait_for(lambda: len(s.got) >= n)
        await s.say(f"woken {n} at {len(s.got)}")
        async with changed:
            changed.notify_all()

    async def starts(n: int) -> None:
        await s.say(f"q{n}")
        async with changed:
            changed.notify(1 + n % 2)

    await asyncio.gather(*(waits(n) for n in (1, 2, 3)), *(starts(n) for n in range(4)))


@shape()
async def events_and_locks(s: Shape) -> None:
    go, lock = asyncio.Event(), asyncio.Lock()
    open = False  # for good: whoever comes late would wait for ever

    async def one(n: int) -> None:
        await s.other.acall(f"ready {n}")
        if n == 1:
            go.set()
        await go.wait()
        async with lock:
            await s.say(f"q{n} {len(s.got)}")
        if n == 2 and not open:
            go.clear()

    tasks = [asyncio.ensure_future(one(n)) for n in range(4)]
    while not all(task.done() for task in tasks):
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if len(done) < len(tasks):
            await s.say(f"done {len(done)}")
            open = True
            go.set()
            await asyncio.wait(tasks)


@shape()
async def barriers(s: Shape) -> None:
    barrier = asyncio.Barrier(3)

    async def one(n: int) -> None:
        for turn in range(2):
            await s.say(f"q{n} {turn} {len(s.got)}")
            place = await barrier.wait()
            s.got.append(f"{n} is {place}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape()
async def nested_groups(s: Shape) -> None:
    async def leaf(n: int, k: int) -> None:
        await s.say(f"leaf {n}{k} {len(s.got)}")

    async def branch(n: int) -> None:
        async with asyncio.TaskGroup() as group:
            for k in range(2):
                group.create_task(leaf(n, k))
        await s.say(f"branch {n} {len(s.got)}")

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(branch(n))
