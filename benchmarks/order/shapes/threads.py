"""Threads beside tasks."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.order.shape import Shape, shape
from lllm.session import current


@shape()
async def blocking_in_threads(s: Shape) -> None:
    def call(n: int) -> str:
        return str(s.agent(f"q{n}").content)

    async def one(n: int) -> None:
        s.got.append(await asyncio.to_thread(call, n))

    await asyncio.gather(*(one(n) for n in range(4)))


@shape(silent=True)
async def to_thread_sleeps(s: Shape) -> None:
    async def rest() -> None:
        for _ in range(3):
            await asyncio.to_thread(time.sleep, 0.005)
            s.got.append("t")

    await asyncio.gather(rest(), *(s.say(f"q{n}") for n in range(4)))


@shape(silent=True)
async def threads_and_tasks(s: Shape) -> None:
    """Chains of blocking calls in threads, beside tasks that see what they have done."""

    def chain(n: int) -> str:
        said = s.agent(f"thread {n}").content
        return str(s.other(f"then {said}").content)

    async def one(n: int) -> None:
        s.got.append(await asyncio.to_thread(chain, n))
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(2)), *(s.say(f"q{n}") for n in range(3)))


@shape(silent=True)
async def own_pool(s: Shape) -> None:
    """Work in a pool of the program's own, in which its places are few."""
    loop = asyncio.get_running_loop()

    def work(n: int) -> str:
        time.sleep(random.Random(n).random() * 0.004)
        return f"worked {n}"

    with ThreadPoolExecutor(2) as pool:

        async def one(n: int) -> None:
            s.got.append(await loop.run_in_executor(pool, work, n))
            await s.say(f"q{n} {len(s.got)}")

        await asyncio.gather(*(one(n) for n in range(5)))


@shape()
async def loops_in_threads(s: Shape) -> None:
    """Each thread has a loop of its own, in which calls run side by side."""

    async def pair(n: int) -> str:
        both = await asyncio.gather(s.agent.acall(f"q{n} x"), s.agent.acall(f"q{n} y"))
        return " ".join(reply.content for reply in both)

    async def one(n: int) -> None:
        s.got.append(await asyncio.to_thread(lambda: asyncio.run(pair(n))))

    await asyncio.gather(*(one(n) for n in range(2)))


@shape()
async def pool_with_context(s: Shape) -> None:
    """Blocking calls in a pool that is given the context."""
    loop = asyncio.get_running_loop()

    def call(n: int) -> str:
        return str(s.agent(f"q{n}").content)

    with ThreadPoolExecutor(3) as pool:
        work = [loop.run_in_executor(pool, contextvars.copy_context().run, call, n) for n in range(5)]
        for done in asyncio.as_completed(work):
            s.got.append(await done)


@shape()
async def keyed_threads(s: Shape) -> None:
    """Threads of the program's own that say the same words, twice each: their keys tell them apart."""
    scope = current.get()
    assert scope is not None
    said: dict[str, str] = {}

    def work(name: str) -> None:
        first = s.agent("the same words", session=scope.session, key=name).content
        then = s.agent("once more", session=scope.session, key=f"{name} again").content
        said[name] = f"{first} {then}"

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]

    def join() -> None:
        for thread in threads:
            thread.join()

    for thread in threads:
        thread.start()
    await asyncio.to_thread(join)
    s.got += [said[name] for name in "abc"]
