"""Parts of calls: streams, dialogs, batches, parsers, repairs, approvals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from benchmarks.order.shape import Shape, Slow, note, shape
from lllm import FunctionCall, Prompt, tool
from lllm.errors import DialogBusyError, ParseError, RepairExhausted
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request


@shape()
async def left_early(s: Shape) -> None:
    """Streams that are left as soon as the reply is there."""
    agent = s.agent_with(Slow(pieces=False))

    async def one(n: int) -> None:
        async for _ in agent.astream(f"q{n}"):
            s.got.append(str(n))
            break

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def left_in_the_middle(s: Shape) -> None:
    """Streams that are left while the reply is being written."""

    async def one(n: int) -> None:
        async for _ in s.agent.astream(f"q{n}"):
            s.got.append(str(n))
            break

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def streams_with_timeouts(s: Shape) -> None:
    """Streams that are cut off while the reply is being written: what was seen of it is said."""
    agent = s.agent_with(Slow(0.03))

    async def one(n: int) -> None:
        text = ""
        try:
            async with asyncio.timeout(0.02):
                async for piece in agent.astream(f"q{n}"):
                    text += getattr(piece, "text", "") or ""
        except TimeoutError:
            text += " late"
        s.got.append(f"{n} {text}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def streams(s: Shape) -> None:
    """Streams side by side: whose text is complete first."""

    async def one(n: int) -> None:
        text = ""
        async for piece in s.agent.astream(f"q{n}"):
            text += getattr(piece, "text", "") or ""
        s.got.append(f"{n} {text}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def async_generators(s: Shape) -> None:
    """Generators that call agents, read by turns, one of them not to its end."""

    async def asks(name: str) -> AsyncIterator[str]:
        for n in range(3):
            yield (await s.agent.acall(f"{name} {n} {len(s.got)}")).content

    async def reads(name: str, most: int) -> None:
        count = 0
        source = asks(name)
        async for said in source:
            s.got.append(said)
            count += 1
            if count == most:
                break
        await source.aclose()  # type: ignore[attr-defined]

    await asyncio.gather(reads("x", 9), reads("y", 9), reads("z", 2))


@shape()
async def one_dialog(s: Shape) -> None:
    """Several tasks talk in one dialog, one after another; some try it while it is busy."""
    dialog, lock = s.agent.init_dialog(), asyncio.Lock()

    async def turn(n: int) -> None:
        await s.other.acall(f"think {n}")
        if lock.locked():
            try:
                s.got.append((await s.agent.acall(dialog)).content)
            except DialogBusyError:
                s.got.append(f"busy {n}")
        async with lock:
            s.got.append((await s.agent.acall(dialog.append(f"turn {n} {len(s.got)}"))).content)

    await asyncio.gather(*(turn(n) for n in range(4)))


@shape()
async def batches(s: Shape) -> None:
    """Batches side by side, with fewer workers than items."""

    async def one(n: int) -> None:
        replies = await s.agent.acall([f"q{n} {k}" for k in range(4)], workers=2)
        s.got += [str(reply.content) for reply in replies]
        await s.say(f"batch {n} {len(s.got)}")

    await asyncio.gather(one(0), one(1))


def _even(content: str) -> str:
    time.sleep(random.random() * 0.002)
    if int(content[-1]) % 2:
        raise ParseError("the last digit is odd")
    return content[-3:]


@shape()
async def parsers_in_threads(s: Shape) -> None:
    """Parsers that take a while, and refuse every other reply: it is repaired."""
    prompt = Prompt("order/even", "Say {n}.", parser=_even)

    async def one(n: int) -> None:
        try:
            reply = await s.agent.acall(prompt, {"n": n})
            s.got.append(str(reply.parsed))
        except RepairExhausted:
            s.got.append(f"never {n}")
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(4)))


@shape()
async def repairs_with_back_off(s: Shape) -> None:
    """A model that is often busy and whose replies are often refused, within a timeout."""
    agent = s.agent_with(Slow(0.006, fails=0.2), max_provider_retry=4, backoff_base=0.002, backoff_cap=0.004)
    prompt = Prompt("order/even", "Say {n}.", parser=_even)

    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.03):
                s.got.append(str((await agent.acall(prompt, {"n": n})).parsed))
        except TimeoutError:
            s.got.append(f"late {n}")
        except Exception as error:
            s.got.append(f"{type(error).__name__} {n}")

    await asyncio.gather(*(one(n) for n in range(4)))


@tool(effect="pure")
def count(text: str) -> str:
    """Counts, in a thread."""
    time.sleep(random.random() * 0.004)
    return str(len(text))


class _Many(Slow):
    """Asks for all tools at once."""

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if request.messages[-1].role != "user":
            async for delta in super().stream(request):
                yield delta
            return
        self.asked += 1
        said = request.messages[-1].text[:5]
        calls = [
            FunctionCall(f"{name}{n}", name, f'{{"text":"{said}{n}"}}')
            for name in ("count", "note")
            for n in (0, 1)
        ]
        await asyncio.sleep(random.random() * self.latency)
        yield Completed(Reply(content="", tool_calls=tuple(calls)))


@shape()
async def tools_side_by_side(s: Shape) -> None:
    """Tools in threads and in the loop, several to a reply, of several agents."""
    agent = s.agent_with(_Many(0.01), tools=[count, note])

    async def one(n: int) -> None:
        s.got.append((await agent.acall(f"q{n}")).content)
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(3)))


@tool(effect="pure", approval=True)
async def note_if_allowed(text: str) -> str:
    """Notes it, if somebody allows it."""
    return f"allowed {text}"


class _Asks(Slow):
    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        await asyncio.sleep(random.random() * self.latency)
        last = request.messages[-1]
        if last.role == "user":
            call = FunctionCall("n", "note_if_allowed", f'{{"text":"{last.text[:4]}"}}')
            yield Completed(Reply(content="", tool_calls=(call,)))
        else:
            yield Completed(Reply(content=f"{last.text[:20]}~{random.random():.4f}"))


@shape()
async def approvals(s: Shape) -> None:
    """Somebody takes a while to say yes or no."""

    async def approve(call: FunctionCall) -> bool:
        await asyncio.sleep(random.random() * 0.01)
        return random.random() < 0.5

    agent = s.agent_with(_Asks(0.01), tools=[note_if_allowed], approve=approve)

    async def one(n: int) -> None:
        s.got.append((await agent.acall(f"q{n}")).content)
        await s.say(f"after {n} {len(s.got)}")

    await asyncio.gather(*(one(n) for n in range(4)))
