"""Streams whose every delta counts: in which order those of several came, and what had come when something else did."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from benchmarks.order.shape import Chatty, Shape, note, shape
from lllm.errors import LLMError
from lllm.ports import Completed, Delta, TextDelta


class Breaks(Chatty):
    """Fails every now and then."""

    breaks = 0.08


class Plain(Chatty):
    """Does not think."""

    thinks = False


def _said(delta: Any) -> str:
    return f"{type(delta).__name__[0]}{len(getattr(delta, 'text', ''))}"


@shape()
async def every_delta(s: Shape) -> None:
    """All deltas of several streams go to one list, and it is said how many there were by then."""
    agent = s.agent_with(Chatty(0.002))

    async def one(n: int) -> None:
        async for delta in agent.astream(f"q{n}"):
            if not isinstance(delta, Completed):
                s.got.append(f"{n}{getattr(delta, 'text', '')[:1]}")
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(3)))


@shape()
async def followed_with_timeouts(s: Shape) -> None:
    """Calls that are followed, and cut off: what was seen is said."""
    agent = s.agent_with(Chatty(0.004))

    async def one(n: int) -> None:
        seen: list[str] = []

        def follow(call: str, delta: Delta) -> None:
            seen.append(getattr(delta, "text", ""))

        try:
            await asyncio.wait_for(agent.acall(f"q{n}", follow=follow), 0.012)
        except TimeoutError:
            s.got.append(f"late {n}")
        await s.say(f"{n} {''.join(seen)}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def texts_with_timeouts(s: Shape) -> None:
    """The text of streams, cut off."""
    agent = s.agent_with(Chatty(0.003))

    async def one(n: int) -> None:
        text = ""
        try:
            async with asyncio.timeout(0.014), aclosing(agent.astream(f"q{n}").text()) as stream:
                async for piece in stream:
                    text += piece
        except TimeoutError:
            text += " late"
        await s.say(f"{n} {text}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def calls_within_streams(s: Shape) -> None:
    """Another agent is asked about each delta as it comes."""
    agent = s.agent_with(Plain(0.003))

    async def one(n: int) -> None:
        async for delta in agent.astream(f"q{n}"):
            if isinstance(delta, TextDelta):
                await s.say(f"{n} {delta.text} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(2)))


@shape()
async def left_at_thoughts(s: Shape) -> None:
    """Streams that are left at some delta or other, be it a thought."""
    agent = s.agent_with(Chatty(0.002))

    async def one(n: int) -> None:
        async with aclosing(agent.astream(f"q{n}")) as stream:
            async for delta in stream:
                s.got.append(f"{n}{_said(delta)}")
                if len(s.got) % 4 == n:
                    break
        await s.say(f"left {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def one_is_left(s: Shape) -> None:
    """One stream alone, which is left in the middle, again and again."""
    agent = s.agent_with(Chatty(0.001))
    for n in range(4):
        async with aclosing(agent.astream(f"q{n}")) as stream:
            count = 0
            async for delta in stream:
                s.got.append(_said(delta))
                count += 1
                if count > n:
                    break


@shape()
async def streams_that_break(s: Shape) -> None:
    """Streams whose model fails in the middle: it is asked again, and some are cut off."""
    agent = s.agent_with(Breaks(0.002), max_provider_retry=4, backoff_base=0.001, backoff_cap=0.003)

    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.03), aclosing(agent.astream(f"q{n}")) as stream:
                async for delta in stream:
                    s.got.append(f"{n}{_said(delta)}")
        except (TimeoutError, LLMError) as error:
            s.got.append(f"{n} {type(error).__name__}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def streams_with_deadlines(s: Shape) -> None:
    """Streams that reach their deadline."""
    agent = s.agent_with(Chatty(0.003), deadline=0.012)

    async def one(n: int) -> None:
        text = ""
        try:
            async for delta in agent.astream(f"q{n}"):
                text += getattr(delta, "text", "")
        except LLMError as error:
            text += f" {type(error).__name__}"
        await s.say(f"{n} {text}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape(silent=True)
async def tools_in_streams(s: Shape) -> None:
    """Streams with tools, and a heartbeat beside them."""
    agent = s.agent_with(Chatty(0.002), tools=[note])

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.002)
            s.got.append(".")

    async def one(n: int) -> None:
        async for delta in agent.astream(f"q{n}"):
            s.got.append(f"{n}{type(delta).__name__[:2]}")

    beats = asyncio.ensure_future(beat())
    await asyncio.gather(*(one(n) for n in range(3)))
    beats.cancel()


@shape()
async def a_word_stops_all(s: Shape) -> None:
    """A stream stops the others as soon as it says a certain digit."""
    agent = s.agent_with(Plain(0.002))

    async def one(n: int) -> None:
        async for delta in agent.astream(f"q{n}"):
            s.got.append(f"{n}{getattr(delta, 'text', '')}")
            if "7" in getattr(delta, "text", ""):
                for task in tasks:
                    if task is not asyncio.current_task():
                        task.cancel()

    tasks = [asyncio.ensure_future(one(n)) for n in range(3)]
    await asyncio.gather(*tasks, return_exceptions=True)


@shape(silent=True)
async def streams_in_threads(s: Shape) -> None:
    """Blocking streams, each in a thread of its own: which of the threads comes back first has no event."""
    agent = s.agent_with(Chatty(0.002))

    def reads(n: int) -> str:
        return "".join(getattr(delta, "text", "") for delta in agent.stream(f"q{n}"))

    async def one(n: int) -> None:
        s.got.append(await asyncio.to_thread(reads, n))
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(3)))
