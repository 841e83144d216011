"""Deadlines are measured, whatever is done to the clock on the wall."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.clock import Clock
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import DeadlineExceeded, ServerError
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import ToolContext, tool
from lllm.models.message import FunctionCall
from lllm.ports import Request
from lllm.replay.again import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from lllm.session import Session

HOUR = 3_600_000_000  # microseconds


class Wall:
    """The clock of the machine, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.ahead * 1000)
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)

    def set(self, ahead: int) -> None:
        self.ahead = ahead


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


def asks(*names: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}} for name in names]}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("where", ["model", "tool", "fault"])
async def test_a_clock_that_is_put_forward_ends_no_call(wall: Wall, where: str, together: bool) -> None:
    def answer(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        if where == "model" or (where == "fault" and not faults):
            wall.set(wall.ahead + HOUR)
        if where == "fault" and not faults:
            faults.append(1)
            return ServerError("busy", status=503)
        return asks("step", "other") if together and said < 2 else asks("step") if said < 2 else "done"

    @tool(repeatable=True)
    async def step() -> str:
        """Sets the clock."""
        await asyncio.sleep(0)
        if where == "tool":
            wall.set(wall.ahead + HOUR)
        return "ok"

    @tool(repeatable=True)
    def other() -> str:
        """Runs beside it."""
        return "ok"

    faults: list[int] = []
    store = MemoryLog()
    agent = Agent(
        "a", ScriptedBackend(answer), tools=[step, other], deadline=300, backoff_base=0.01, store=store
    )
    reply = await agent.acall("go")
    assert reply.content == "done"
    assert wall.ahead >= HOUR
    times = [event["at"] for event in views.load(store, reply.session or "") if event["call"]]
    assert times == sorted(times)
    assert times[-1] - times[0] < HOUR / 2


@pytest.mark.parametrize("together", [False, True])
async def test_a_clock_that_is_put_back_puts_no_deadline_off(wall: Wall, together: bool) -> None:
    @tool
    async def step() -> str:
        """Sets the clock."""
        wall.set(-HOUR)
        return "ok"

    @tool
    async def forever() -> None:
        """Never ends by itself."""
        await asyncio.get_running_loop().create_future()

    script = [asks("step"), asks("forever", "step") if together else asks("forever")]
    agent = Agent("a", ScriptedBackend(script), tools=[step, forever], deadline=1, store=MemoryLog())
    async with asyncio.timeout(60):
        with pytest.raises(DeadlineExceeded):
            await agent.acall("go")


async def test_the_log_has_the_time_on_the_wall(wall: Wall) -> None:
    store = MemoryLog()
    agent = Agent("a", ScriptedBackend(lambda request: "ok"))
    async with arecord("day", store=store) as session:
        await agent.acall("one")
        wall.set(24 * HOUR)
        await agent.acall("two")
    events = views.load(store, session.id)
    calls = [event["at"] for event in events if event["kind"] == ev.CALL_STARTED]
    assert calls[1] - calls[0] > 23 * HOUR
    assert abs(calls[1] - time.time_ns() // 1000) < HOUR
    assert abs(events[-1]["at"] - time.time_ns() // 1000) < HOUR


def test_a_clock_stands_on_the_wall_between_calls(wall: Wall) -> None:
    clock = Clock()
    before = clock()
    clock.call_begins()
    wall.set(HOUR)
    assert clock() - before < HOUR / 2
    clock.call_begins()  # a second one does not move the first one's time
    assert clock() - before < HOUR / 2
    clock.call_ends()
    assert clock() - before < HOUR / 2
    clock.call_ends()
    assert clock() - before > HOUR / 2


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_what_is_left_of_a_deadline_is_left_after_a_crash(wall: Wall, ahead: int) -> None:
    """The clock is set between the crash and the resumption, and once more within that."""
    whole = MemoryLog()

    @tool(effect="pure", repeatable=True)
    async def step() -> str:
        """Sets the clock."""
        wall.set(wall.ahead + ahead)
        return "ok"

    @tool(effect="pure")
    async def forever() -> str:
        """Never ends by itself, but in the run that is cut off."""
        if running == "whole":
            return "ok"
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def answer(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        return (asks("step"), asks("step"), asks("forever"), "done")[said]

    def program(store: MemoryLog) -> Any:
        async def main() -> str:
            agent = Agent("a", ScriptedBackend(answer), tools=[step, forever], deadline=1)
            async with arecord("a", store=store):
                return (await agent.acall("go")).content

        return main

    running = "whole"
    asyncio.run(program(whole)())
    wall.set(0)
    session = whole.sessions(1)[0].id
    kinds = [open_event(body)["kind"] for body in whole.read(session)]
    cut = MemoryLog()
    cut._blobs = dict(whole._blobs)
    cut._sessions[session] = whole._sessions[session][: kinds.index(ev.TOOL_RETURNED) + 1]
    wall.set(ahead)
    running = "resumed"
    with pytest.raises(DeadlineExceeded):
        resume_session(session, store=cut, entry=program(cut))
    kinds = [open_event(body)["kind"] for body in cut.read(session)]
    assert kinds.count(ev.TOOL_REQUESTED) == 3, "the deadline had not passed before the tool that never ends"
    assert replay_session(session, store=cut, entry=program(cut)).verified


async def test_a_clock_of_ones_own_decides_alone() -> None:
    now = [0]

    @tool
    async def step() -> str:
        """Time passes."""
        now[0] += HOUR
        return "ok"

    agent = Agent("a", ScriptedBackend([asks("step"), "done"]), tools=[step], deadline=300)
    with pytest.raises(DeadlineExceeded):
        await agent.acall("go", session=Session(MemoryLog(), clock=lambda: now[0]))


# --- what a tool is told -----------------------------------------------------------------------------------------------


def clocked(told: list[float | None], *, repeatable: bool = False) -> Any:
    @tool(effect="pure", timeout=None, repeatable=repeatable)
    async def look(context: ToolContext) -> str:
        """Looks at the time that is left."""
        told.append(context.deadline)
        return "seen"

    return look


def rounds(count: int) -> ScriptedBackend:
    """A model that asks for the tool so many times."""

    def answer(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        return asks("look") if said < count else "done"

    return ScriptedBackend(answer)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_tool_knows_the_time_left(wall: Wall, plain: bool) -> None:
    told: list[float | None] = []

    @tool(effect="pure", timeout=2.0, repeatable=True)
    def look(context: ToolContext) -> str:
        """Looks at the time that is left, in a thread."""
        told.append(context.deadline)
        wall.set(wall.ahead + HOUR)
        return "seen"

    tools = [look] if plain else [clocked(told, repeatable=True)]
    agent = Agent("a", rounds(3), tools=tools, deadline=300, store=MemoryLog())
    start = time.monotonic()
    await agent.acall("go")
    passed = time.monotonic() - start
    assert all(left is not None and 300 - passed <= left <= 300 for left in told)
    assert len(told) == 3
    assert told == sorted(told, reverse=True)


async def test_a_tool_of_a_call_without_deadline_has_none() -> None:
    told: list[float | None] = []
    await Agent("a", rounds(1), tools=[clocked(told)], store=MemoryLog()).acall("go")
    assert told == [None]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(("outer", "limit", "inner", "most"), [
    (300, None, None, 300), (300, None, 40, 40), (30, None, 300, 30), (None, 50, None, 50), (None, 50, 300, 50),
    (None, None, None, None),
])  # fmt: skip
async def test_a_tool_within_a_tool_knows_the_shortest(
    outer: float | None, limit: float | None, inner: float | None, most: float | None, blocking: bool
) -> None:
    told: list[float | None] = []
    store = MemoryLog()
    within = Agent("inner", rounds(1), tools=[clocked(told)], deadline=inner, store=store)

    async def awaits() -> str:
        return (await within.acall("go")).content

    def blocks() -> str:
        return within.call("go").content

    made = tool(effect="pure", timeout=limit, name="look", description="Asks.")(
        blocks if blocking else awaits
    )
    await Agent("outer", rounds(1), tools=[made], deadline=outer, store=store).acall("go")
    if most is None:
        assert told == [None]
    else:
        assert [left is not None and most - 20 < left <= most for left in told] == [True]


async def test_time_without_a_process_is_not_taken_from_a_tool(wall: Wall) -> None:
    told: list[float | None] = []
    store = MemoryLog()

    async def main() -> None:
        agent = Agent("a", rounds(1), tools=[clocked(told)], deadline=300)
        async with arecord("work", store=store):
            await agent.acall("go")

    await main()
    (session,) = store._sessions
    bodies = store._sessions[session]
    begun = next(n for n, body in enumerate(bodies) if body.kind == ev.TOOL_REQUESTED)
    del bodies[begun + 1 :]
    wall.set(2 * HOUR)
    await asyncio.to_thread(resume_session, session, store=store, entry=main)
    assert len(told) == 2
    assert told[1] is not None
    assert 250 < told[1] <= 300


@pytest.mark.parametrize("how", ["resume", "fork"])
@pytest.mark.parametrize("blocking", [False, True, None])
@pytest.mark.parametrize(("outer", "inner"), [(300, None), (300, 40), (30, 300)])
async def test_a_tool_of_an_inner_call_knows_the_shortest_after_a_crash(
    wall: Wall, outer: float, inner: float | None, blocking: bool | None, how: str
) -> None:
    """`blocking` None: the inner agent is a tool itself."""
    told: list[float | None] = []
    store = MemoryLog()

    async def main() -> None:
        within = Agent("look", rounds(1), tools=[clocked(told)], deadline=inner)

        async def awaits() -> str:
            return (await within.acall("go")).content

        def blocks() -> str:
            return within.call("go").content

        made: Any = within
        if blocking is not None:
            made = tool(effect="pure", timeout=None, name="look", description="Asks.")(
                blocks if blocking else awaits
            )

        def asks_it(request: Request) -> Any:
            if request.messages[-1].role == "tool":
                return "done"
            return FunctionCall("", "look", '{"task": "go"}' if blocking is None else "{}")

        async with arecord("work", store=store):
            await Agent("outer", ScriptedBackend(asks_it), tools=[made], deadline=outer).acall("go")

    await main()
    (session,) = store._sessions
    bodies = store._sessions[session]
    begun = [n for n, body in enumerate(bodies) if body.kind == ev.TOOL_REQUESTED][-1]
    if how == "resume":
        del bodies[begun + 1 :]
        wall.set(2 * HOUR)
        await asyncio.to_thread(resume_session, session, store=store, entry=main, decide="retry")
    else:
        await asyncio.to_thread(fork_session, session, at=begun + 1, store=store, entry=main)
    most = min(outer, inner or outer)
    assert len(told) == 2
    assert [left is not None and most - 20 < left <= most for left in told] == [True, True]


async def test_a_replay_runs_no_tool_and_needs_no_time() -> None:
    told: list[float | None] = []
    store = MemoryLog()

    async def main() -> None:
        async with arecord("work", store=store):
            await Agent("a", rounds(1), tools=[clocked(told)], deadline=300).acall("go")

    await main()
    (session,) = store._sessions
    report = await asyncio.to_thread(replay_session, session, store=store, entry=main)
    assert report.verified
    assert len(told) == 1
