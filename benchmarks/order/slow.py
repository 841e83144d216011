"""A session that took a minute, replayed."""

from __future__ import annotations

import asyncio
import time

from benchmarks.order.runs import make, names_of, replays
from benchmarks.order.shape import Shape, Slow
from lllm import MemoryLog


async def program(s: Shape) -> None:
    """Two branches with a slow model, pauses between their calls, and a timeout that comes."""
    agent = s.agent_with(Slow(6.0, fixed=True))

    async def branch(n: int) -> None:
        for turn in range(5):
            s.got.append((await agent.acall(f"q{n} {turn}")).content)
            await asyncio.sleep(5)
        try:
            async with asyncio.timeout(4):
                await agent.acall(f"too slow {n}")
        except TimeoutError:
            s.got.append(f"late {n}")

    await asyncio.gather(branch(0), branch(1))


def main() -> int:
    store = MemoryLog()
    made = make(program, store)
    begun = time.monotonic()
    made.live()
    live = time.monotonic() - begun
    asked = made.asked[0]
    begun = time.monotonic()
    wrong = replays(made, store)
    replay = time.monotonic() - begun
    for line in wrong:
        print(line)
    if made.asked[0] != asked:
        wrong.append("asked")
    print(
        f"live {live:.1f} s, replay {1000 * replay:.0f} ms ({len(names_of(store))} session, {asked} requests)"
    )
    return 1 if wrong else 0
