"""What shapes are made of: a model that takes its time, tools and effects that leave a trace, and their list."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lllm
from lllm import Agent, ToolContext, tool
from lllm.errors import ProviderError
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta, ThinkingDelta, ToolCallDelta


class Ledger:
    """What was really done, outside of any session: an effect of a label, once per idempotency key. In a file, where a kill
    does not lose it; else in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lines: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def lines(self) -> list[tuple[str, str]]:
        """The labels and keys of all that was done."""
        if self.path is None or not self.path.exists():
            return self._lines
        found = [line.split("\t") for line in self.path.read_text().splitlines()]
        return [(label, key) for label, key in found]

    def apply(self, label: str, key: str = "") -> None:
        """Does it. Not a second time with the same key, where it has one."""
        with self._lock:
            if key and (label, key) in self.lines():
                return
            if self.path is None:
                self._lines.append((label, key))
                return
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(file, f"{label}\t{key}\n".encode())
                os.fsync(file)
            finally:
                os.close(file)


ledger = Ledger()
"""The one that tools and activities write. `use` replaces it."""


def use(path: Path) -> Ledger:
    """From now on, effects are written to this file."""
    global ledger
    ledger = Ledger(path)
    return ledger


@dataclass
class Slow:
    """Answers after a random time (`fixed`: after the same one), with something that nobody can guess, in two `pieces`. With
    a probability of `fails` it is busy instead."""

    latency: float = 0.02
    fixed: bool = False
    fails: float = 0.0
    pieces: bool = True
    name: str = "slow"
    capabilities: Capabilities = field(default_factory=Capabilities)
    asked: int = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        await asyncio.sleep(self.latency * (1 if self.fixed else random.random()))
        if random.random() < self.fails:
            raise ProviderError("busy", retryable=True, status=503)
        said = request.messages[-1].text[:24]
        if request.tools and request.messages[-1].role == "user":
            call = FunctionCall("n", "note", f'{{"text":"{said[:6]}"}}')
            yield Completed(Reply(content="", tool_calls=(call,)))
            return
        words = f"{said}~{random.random():.6f}"
        if self.pieces:
            yield TextDelta(words[:5])
            await asyncio.sleep(0.1 * self.latency * random.random())
            yield TextDelta(words[5:])
        yield Completed(Reply(content=words))

    async def aclose(self) -> None: ...


class Chatty(Slow):
    """Thinks, and answers in several deltas; with a probability of `breaks` it fails in the middle of it. With tools it asks
    for one."""

    breaks = 0.0
    thinks = True

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        last = request.messages[-1]
        await self._wait()
        if request.tools and last.role == "user":
            yield TextDelta("I note.")
            call = FunctionCall("n", "note", f'{{"text":"{last.text[:6]}"}}')
            yield ToolCallDelta(0, call.id, call.name, call.arguments[:5])
            await self._wait()
            yield ToolCallDelta(0, arguments=call.arguments[5:])
            yield Completed(Reply(content="I note.", tool_calls=(call,)))
            return
        thought = f"hm {random.random():.3f}" if self.thinks else None
        if thought:
            yield ThinkingDelta(thought[:4])
            await self._wait()
            yield ThinkingDelta(thought[4:])
        words = f"{last.text[:10]}~{random.random():.6f}"
        for at in range(0, len(words), 3):
            if random.random() < self.breaks:
                raise ProviderError("gone", retryable=True, status=503)
            yield TextDelta(words[at : at + 3])
            if random.random() < 0.6:
                await self._wait()
        yield Completed(Reply(content=words, thinking=thought))

    async def _wait(self) -> None:
        await asyncio.sleep(self.latency * random.random())


class Boss(Slow):
    """Asks three times for an agent that is its tool."""

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        if len(request.messages) < 2:
            calls = tuple(FunctionCall(f"k{n}", "sub", f'{{"task":"t{n}"}}') for n in range(3))
            yield Completed(Reply(content="", tool_calls=calls))
        else:
            yield Completed(Reply(content=" ".join(m.text for m in request.messages if m.role == "tool")))


@tool(effect="idempotent")
async def note(text: str, context: ToolContext) -> str:
    """Notes it."""
    await asyncio.sleep(random.random() * 0.005)
    ledger.apply(f"note {text}", context.idempotency_key)
    await asyncio.sleep(random.random() * 0.005)
    return f"noted {text}"


@lllm.activity(effect="idempotent", timeout=None)
async def pay(label: str, context: ToolContext) -> str:
    """An effect with an idempotency key: it is done again after a kill."""
    await asyncio.sleep(random.random() * 0.003)
    ledger.apply(label, context.idempotency_key)
    await asyncio.sleep(random.random() * 0.003)
    return f"paid {label}"


@lllm.activity(effect="ask", timeout=60)
def send(label: str) -> str:
    """An effect without one, in a thread: after a kill somebody looks whether it happened."""
    time.sleep(random.random() * 0.003)
    ledger.apply(label)
    time.sleep(random.random() * 0.003)
    return f"sent {label}"


class Shape:
    """What the program of a shape is given: agents, and a list whose content is said at the end.

    `effects`: also `say` acts on the world, by turns in each of the two ways.
    """

    def __init__(self, effects: bool = False, name: str = "x") -> None:
        self.name = name
        self.effects = effects
        self.backend = Slow()
        self.backends = [self.backend]
        self.agent = Agent("a", self.backend)
        self.other = Agent("b", self.backend)
        self.worker = Agent("worker", self.backend, tools=[note])
        self.talker = self.agent_with(Chatty(0.005), "talker")
        self.got: list[str] = []
        self.done = 0

    def agent_with(self, backend: Slow, name: str = "c", **more: Any) -> Agent:
        """An agent of another model, which is counted too."""
        self.backends.append(backend)
        return Agent(name, backend, **more)

    @property
    def asked(self) -> int:
        """So often a model was asked."""
        return sum(backend.asked for backend in self.backends)

    async def say(self, words: str) -> str:
        """What an agent says to it, which goes to the list."""
        reply = await self.agent.acall(words)
        if self.effects:
            await self.act(words)
        self.got.append(reply.content)
        return str(reply.content)

    async def act(self, words: str) -> None:
        """One effect more, with a label of its own."""
        self.done += 1
        label = f"{self.name} {self.done} {words[:20]}"
        if self.done % 3:
            await pay(label)
        else:
            await asyncio.to_thread(send, label)


Program = Callable[[Shape], Awaitable[None]]


@dataclass(frozen=True)
class Entry:
    """A shape. `silent`: it depends on what has no event. `sessions`: so many programs run side by side in one loop.
    `required`: False where no record can have its order. `rare`: what goes wrong in one run of some forty on a busy
    machine, and is not mended yet; the suite's sample leaves that out."""

    program: Program
    silent: bool = False
    sessions: int = 1
    required: bool = True
    rare: str = ""


SHAPES: Final[dict[str, Entry]] = {}


def shape(**more: Any) -> Callable[[Program], Program]:
    """Adds a program to the shapes, by its name."""

    def add(program: Program) -> Program:
        SHAPES[program.__name__.strip("_")] = Entry(program, **more)
        return program

    return add
