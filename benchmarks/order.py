"""Concurrent programs, recorded with random latencies and replayed: how many runs of each shape are verified.

    python -m benchmarks.order                  # every shape, 20 runs each
    python -m benchmarks.order --runs 100
    python -m benchmarks.order --shape wait_for
    python -m benchmarks.order --kill           # also cut off at random places, resumed, and replayed

A shape is a program that makes agent calls side by side and lets what it says next depend on the order in which they ended.
No model may be asked in a replay. The shapes of INEXACT depend on timers or threads that change state without an event: no
record of an ungated loop has their order, so they are counted and not required.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import lllm
from lllm import Agent, LLMError, MemoryLog, arecord, record, replay_session, tool
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.replay import resume_session


@dataclass
class Slow:
    """Answers after a random time, with something that nobody can guess."""

    latency: float = 0.02
    name: str = "slow"
    capabilities: Capabilities = field(default_factory=Capabilities)
    asked: int = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        await asyncio.sleep(random.random() * self.latency)
        said = request.messages[-1].text[:24]
        if request.tools and request.messages[-1].role == "user":
            call = FunctionCall("n", "note", f'{{"text":"{said[:6]}"}}')
            yield Completed(Reply(content="", tool_calls=(call,)))
        else:
            yield Completed(Reply(content=f"{said}~{random.random():.6f}"))

    async def aclose(self) -> None: ...


@tool(effect="pure")
async def note(text: str) -> str:
    """Notes it."""
    await asyncio.sleep(random.random() * 0.01)
    return f"noted {text}"


class Shape:
    """What a shape is given: agents, and a list whose content is said at the end."""

    def __init__(self) -> None:
        self.backend = Slow()
        self.agent = Agent("a", self.backend)
        self.other = Agent("b", self.backend)
        self.worker = Agent("worker", self.backend, tools=[note])
        self.got: list[str] = []

    async def say(self, words: str) -> str:
        reply = await self.agent.acall(words)
        self.got.append(reply.content)
        return str(reply.content)


Program = Callable[[Shape], Awaitable[None]]
SHAPES: Final[dict[str, Program]] = {}
INEXACT: Final = frozenset(
    ("wait_for", "blocking_in_threads", "queue_wait_for", "heartbeat", "timers", "to_thread_sleeps")
)


def shape(program: Program) -> Program:
    SHAPES[program.__name__.strip("_")] = program
    return program


@shape
async def gather(s: Shape) -> None:
    await asyncio.gather(*(s.say(f"q{n}") for n in range(5)))


@shape
async def as_completed(s: Shape) -> None:
    for done in asyncio.as_completed([s.agent.acall(f"q{n}") for n in range(5)]):
        first = (await done).content
        await s.say(f"next {first}")


@shape
async def race(s: Shape) -> None:
    tasks = [asyncio.ensure_future(s.agent.acall(f"q{n}")) for n in range(4)]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    s.got += sorted(task.result().content for task in done)


@shape
async def wait_for(s: Shape) -> None:
    for n in range(5):
        try:
            await asyncio.wait_for(s.say(f"q{n}"), 0.01)
        except TimeoutError:
            s.got.append(f"late {n}")


@shape
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


@shape
async def timeouts_around_tools(s: Shape) -> None:
    async def one(n: int) -> None:
        try:
            async with asyncio.timeout(0.02):
                s.got.append((await s.worker.acall(f"q{n}")).content)
        except TimeoutError:
            s.got.append(f"late {n}")

    await asyncio.gather(*(one(n) for n in range(5)))


@shape
async def equal_words(s: Shape) -> None:
    async def chain(n: int) -> None:
        await s.say(f"q{n}")
        await s.say("go on")

    await asyncio.gather(*(chain(n) for n in range(4)))


@shape
async def work_queue(s: Shape) -> None:
    left = list(range(8))

    async def work(name: str) -> None:
        while left:
            await s.say(f"item {left.pop(0)} by {name} after {len(s.got)}")

    await asyncio.gather(*(work(name) for name in "xyz"))


@shape
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


@shape
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


@shape
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


@shape
async def agents_as_tools(s: Shape) -> None:
    sub = Agent("sub", Slow(), tools=[note], description="Does it.")

    async def branch(n: int) -> None:
        boss = Agent(f"boss{n}", _Boss(), tools=[sub])
        s.got.append((await boss.acall("go")).content)
        await s.say(f"more {n} {len(s.got)}")

    await asyncio.gather(branch(0), branch(1))


class _Boss(Slow):
    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if len(request.messages) < 2:
            calls = tuple(FunctionCall(f"k{n}", "sub", f'{{"task":"t{n}"}}') for n in range(3))
            yield Completed(Reply(content="", tool_calls=calls))
        else:
            yield Completed(Reply(content=" ".join(m.text for m in request.messages if m.role == "tool")))


@shape
async def left_early(s: Shape) -> None:
    async def one(n: int) -> None:
        async for _ in s.agent.astream(f"q{n}"):
            s.got.append(str(n))
            break

    await asyncio.gather(*(one(n) for n in range(4)))


@shape
async def outlive_their_parent(s: Shape) -> None:
    left: list[asyncio.Task[Any]] = []

    async def parent(n: int) -> None:
        left.append(asyncio.ensure_future(s.say(f"child {n}")))
        await s.say(f"parent {n}")

    await asyncio.gather(*(parent(n) for n in range(3)))
    await asyncio.gather(*left)


@shape
async def sleeps(s: Shape) -> None:
    async def one(n: int) -> None:
        await asyncio.sleep(0.05 * random.Random(n).random())
        await s.say(f"q{n}")

    await asyncio.gather(*(one(n) for n in range(5)))
    await asyncio.sleep(0.2)


@shape
async def blocking_in_threads(s: Shape) -> None:
    def call(n: int) -> str:
        return str(s.agent(f"q{n}").content)

    async def one(n: int) -> None:
        s.got.append(await asyncio.to_thread(call, n))

    await asyncio.gather(*(one(n) for n in range(4)))


@shape
async def heartbeat(s: Shape) -> None:
    async def beat() -> None:
        while True:
            await asyncio.sleep(0.002)
            s.got.append(".")

    task = asyncio.ensure_future(beat())
    await asyncio.gather(*(s.say(f"q{n}") for n in range(4)))
    task.cancel()


@shape
async def timers(s: Shape) -> None:
    async def beat() -> None:
        for _ in range(3):
            await asyncio.sleep(0.007)
            s.got.append(".")

    await asyncio.gather(beat(), *(s.say(f"q{n}") for n in range(4)))


@shape
async def to_thread_sleeps(s: Shape) -> None:
    async def rest() -> None:
        for _ in range(3):
            await asyncio.to_thread(time.sleep, 0.005)
            s.got.append("t")

    await asyncio.gather(rest(), *(s.say(f"q{n}") for n in range(4)))


def bare_threads(store: MemoryLog, backend: Slow) -> Callable[[], None]:
    """Threads of the program's own, with a queue: they are given the session."""

    def main() -> None:
        with record("x", store=store) as session:
            items: queue.Queue[int] = queue.Queue()
            for n in range(6):
                items.put(n)
            agent, got = Agent("a", backend), []

            def work(name: str) -> None:
                while True:
                    try:
                        n = items.get_nowait()
                    except queue.Empty:
                        return
                    got.append(agent(f"item {n}", session=session).content)

            threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    return main


def program_of(name: str, store: MemoryLog, asked: list[int], loop: str) -> Callable[[], None]:
    """A program of a shape, in a loop (one of LOOPS) that it starts itself."""

    async def main() -> None:
        made = Shape()
        try:
            async with arecord("x", store=store):
                await SHAPES[name](made)
                await made.other.acall("all: " + " ".join(made.got))
        finally:
            asked[0] += made.backend.asked

    start = LOOPS[loop]
    return lambda: start(main())


def _uvloop(main: Any) -> Any:
    import uvloop  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return uvloop.run(main)


LOOPS: Final[dict[str, Callable[[Any], Any]]] = {"lllm": lllm.run, "asyncio": asyncio.run, "uvloop": _uvloop}


def run(name: str, runs: int, kill: bool = False, loop: str = "lllm") -> Counter[str]:
    """Records and replays a shape so many times; counts what came of it."""
    found: Counter[str] = Counter()
    for _ in range(runs):
        store, asked = MemoryLog(), [0]
        program = program_of(name, store, asked, loop)
        program()
        session = store.sessions(1)[0].id
        before = asked[0]
        begun = time.monotonic()
        report = replay_session(session, store=store, entry=program)
        found["ms"] += int(1000 * (time.monotonic() - begun))
        found["verified" if report.verified and report.whole else "diverged"] += 1
        found["asked"] += asked[0] - before
        if kill:
            found[cut_off(name, store, session, loop)] += 1
    return found


def cut_off(name: str, whole: MemoryLog, session: str, loop: str) -> str:
    """Cuts a session off at a random place, resumes it, and replays the whole: `resumed`, or what is wrong."""
    bodies = whole._sessions[session]
    at = random.randrange(1, len(bodies) - 1)
    store = MemoryLog()
    store._sessions[session] = bodies[:at]
    store._blobs = dict(whole._blobs)
    program = program_of(name, store, [0], loop)
    try:
        resume_session(session, store=store, entry=program, decide="retry")
    except LLMError as error:
        return f"not resumed: {type(error).__name__}"
    if store._sessions[session][:at] != bodies[:at]:
        return "the prefix changed"
    if [*map(open_event, store.read(session))][-1]["data"].get("status") != "done":
        return "not done"
    kinds = Counter(open_event(body)["kind"] for body in store.read(session))
    if kinds[ev.SESSION_ENDED] != 1:
        return "not ended once"
    return "resumed" if replay_session(session, store=store, entry=program).verified else "resumed, diverged"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append")
    parser.add_argument("--loop", choices=sorted(LOOPS), default="lllm", help="the loop of the live run")
    parser.add_argument("--kill", action="store_true")
    given = parser.parse_args(argv)
    bad = 0
    for name in given.shape or SHAPES:
        found = run(name, given.runs, given.kill, given.loop)
        inexact = name in INEXACT and given.loop != "lllm"
        mark = "  (not required)" if inexact else ""
        rest = {key: count for key, count in found.items() if key not in ("ms", "verified", "asked")}
        print(
            f"{name:26} {found['verified']:4} of {given.runs}  {found['ms'] / given.runs:7.1f} ms  {rest}{mark}",
            flush=True,
        )
        wrong = sum(count for key, count in rest.items() if key not in ("resumed",)) + found["asked"]
        bad += found["asked"] if inexact else wrong
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
