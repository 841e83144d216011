"""Cancelling a call ends it, whatever its tools, models and parsers do with the cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ParseError
from lllm.llm.agent import Agent
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta
from lllm.replay.again import areplay_session
from lllm.session import Session

Stop = Callable[[Agent, Any, "Stubborn", Session], Awaitable[None]]


class Stubborn:
    """Waits until it is cancelled, takes no notice of that, and goes on for some turns of the loop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.told = 0
        self.finished = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.told += 1
        for _ in range(20):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        self.finished = True


class World:
    """A record of actions: tools that must not run after the cancellation append to it."""

    def __init__(self) -> None:
        self.stubborn = Stubborn()
        self.paid: list[str] = []

        @tool(effect="never", timeout=None)
        async def slow() -> str:
            """Takes no notice of its cancellation."""
            await self.stubborn()
            return "slow is done"

        @tool(effect="never", timeout=60)
        async def timed() -> str:
            """The same, with a time limit that does not pass."""
            await self.stubborn()
            return "slow is done"

        @tool(effect="never", concurrent=False)
        async def serial() -> str:
            """The same, and others wait for it."""
            await self.stubborn()
            return "slow is done"

        @tool(effect="never", concurrent=False)
        def pay() -> str:
            """Pays."""
            self.paid.append("pay")
            return "paid"

        @tool
        async def forever() -> None:
            """Ends when it is cancelled, as most do."""
            await asyncio.get_running_loop().create_future()

        self.slow, self.timed, self.serial, self.pay, self.forever = slow, timed, serial, pay, forever


def asks(*names: str) -> dict[str, Any]:
    return {
        "tool_calls": [{"name": name, "arguments": {}, "id": f"t{place}"} for place, name in enumerate(names)]
    }


class DeafModel:
    """A backend that answers although its request was cancelled."""

    capabilities = Capabilities()

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.requests += 1
        if self.requests > 1:
            yield Completed(Reply("again"))
            return
        yield TextDelta("a")
        await self.world.stubborn()
        yield Completed(Reply("all the same"))

    async def aclose(self) -> None: ...


def case(where: str, world: World) -> tuple[Agent, Any]:
    """An agent one of whose plug-ins takes no notice of its cancellation, and what to call it with."""
    more: dict[str, Any] = {}
    if where.endswith("with a deadline"):
        more["deadline"] = 600
    match where.removesuffix(" with a deadline"):
        case "a tool":
            model = ScriptedBackend([asks("slow"), asks("pay"), "done"])
            return Agent("a", model, tools=[world.slow, world.pay], **more), "go"
        case "a tool with a time limit":
            model = ScriptedBackend([asks("timed"), asks("pay"), "done"])
            return Agent("a", model, tools=[world.timed, world.pay], **more), "go"
        case "one of two tools":
            model = ScriptedBackend([asks("slow", "forever"), asks("pay"), "done"])
            return Agent("a", model, tools=[world.slow, world.forever, world.pay], **more), "go"
        case "a tool that others wait for":
            model = ScriptedBackend([asks("serial", "pay"), "done"])
            return Agent("a", model, tools=[world.serial, world.pay], **more), "go"
        case "an agent":
            inner = Agent(
                "inner", ScriptedBackend([asks("slow"), asks("pay"), "done"]), tools=[world.slow, world.pay]
            )
            model = ScriptedBackend(
                [{"tool_calls": [{"name": "inner", "arguments": {"task": "go"}}]}, asks("pay"), "x"]
            )
            return Agent("a", model, tools=[inner, world.pay], **more), "go"
        case "a model":
            return Agent("a", DeafModel(world), **more), "go"
        case "a parser":

            async def parse(text: str) -> str:
                await world.stubborn()
                return text

            return Agent("a", ScriptedBackend(["text"]), **more), Prompt("t/p", "Go.", parser=parse)
        case "a parser that refuses":

            async def refuse(text: str) -> str:
                await world.stubborn()
                raise ParseError("no")

            return Agent("a", ScriptedBackend(["text", "text"]), **more), Prompt("t/p", "Go.", parser=refuse)
        case "a handler":

            async def handle(context: Any) -> str:
                await world.stubborn()
                return "Once more."

            prompt = Prompt("t/p", "Go.", required_xml_tags=["x"], exception_prompt=handle)
            return Agent("a", ScriptedBackend(["text", "<x>1</x>"]), **more), prompt
        case "approval":

            async def approve(call: Any) -> bool:
                await world.stubborn()
                return True

            gated = world.pay.with_(approval=True)
            return Agent(
                "a", ScriptedBackend([asks("pay"), "done"]), tools=[gated], approve=approve, **more
            ), "go"
    raise AssertionError(where)


WHERE = [
    *("a tool", "a tool with a time limit", "one of two tools", "a tool that others wait for", "an agent"),
    *("a model", "a parser", "a parser that refuses", "a handler", "approval"),
]


async def begun(call: Awaitable[Any], world: World) -> asyncio.Future[Any]:
    """The call, when its plug-in is at work."""
    task, at_work = asyncio.ensure_future(call), asyncio.ensure_future(world.stubborn.begun.wait())
    await asyncio.wait((task, at_work), return_when=asyncio.FIRST_COMPLETED)
    assert at_work.done(), task
    return task


async def by_cancel(call: Awaitable[Any], world: World) -> None:
    task = await begun(call, world)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def by_three_cancels(call: Awaitable[Any], world: World) -> None:
    task = await begun(call, world)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(call: Awaitable[Any], world: World) -> None:
    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            at_work = asyncio.ensure_future(world.stubborn.begun.wait())
            at_work.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
            await call

    with pytest.raises(TimeoutError):
        await limited()


async def by_wait_for(call: Awaitable[Any], world: World) -> None:
    # however long it takes until the plug-in has begun, it takes no notice before that
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.2)


async def by_group(call: Awaitable[Any], world: World) -> None:
    async def fails() -> None:
        await world.stubborn.begun.wait()
        raise LookupError("a sibling")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call)  # type: ignore[arg-type]
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as caught:
        await grouped()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


WAYS = [by_cancel, by_three_cancels, by_timeout, by_group]


def ends(store: MemoryLog, session: str) -> tuple[list[str], list[dict[str, Any]]]:
    events = [event for event in views.load(store, session) if event["data"].get("of") != "inputs"]
    return [event["kind"] for event in events], [
        event["data"] for event in events if event["kind"] == ev.CALL_ENDED
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("deadline", ["", " with a deadline"])
@pytest.mark.parametrize("where", WHERE)
async def test_the_call_ends_cancelled(where: str, deadline: str, way: Any) -> None:
    world, store = World(), MemoryLog()
    agent, input = case(where + deadline, world)
    agent.store = store
    await way(agent.acall(input), world)
    assert world.stubborn.told == 1
    assert world.stubborn.finished, "what takes its time is waited for"
    assert world.paid == []
    (session,) = [info.id for info in store.sessions()]
    kinds, ended = ends(store, session)
    assert [data["status"] for data in ended] == ["cancelled"] * len(ended)
    assert kinds[-3:] == [ev.CANCELLED, ev.CALL_ENDED, ev.SESSION_ENDED]
    assert views.load(store, session)[-1]["data"]["status"] == "cancelled"

    async def program() -> None:
        await agent.acall(input)

    report = await areplay_session(session, store=store, entry=program)
    assert report.divergence is None, report.divergence
    assert world.paid == []


@pytest.mark.parametrize(
    "where", ["a tool", "one of two tools", "a tool with a deadline", "one of two tools with a deadline"]
)
async def test_what_a_tool_did_at_last_is_in_the_log(where: str) -> None:
    world, store = World(), MemoryLog()
    agent, input = case(where, world)
    agent.store = store
    await by_cancel(agent.acall(input), world)
    (session,) = [info.id for info in store.sessions()]
    returned = [event["data"] for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED]
    assert [(data["id"], data["content"]) for data in returned] == [("t0", "slow is done")]


async def test_wait_for_ends_it_too() -> None:
    world, store = World(), MemoryLog()
    agent, input = case("a tool", world)
    agent.store = store
    await by_wait_for(agent.acall(input), world)
    assert world.paid == []
    (session,) = [info.id for info in store.sessions()]
    assert ends(store, session)[1][0]["status"] == "cancelled"


async def test_a_deadline_that_a_tool_takes_no_notice_of_ends_the_call_after_it() -> None:
    world, store = World(), MemoryLog()
    now = [0]
    agent = Agent(
        "a",
        ScriptedBackend([asks("slow"), asks("pay"), "done"]),
        tools=[world.slow, world.pay],
        deadline=0.05,
    )
    session = Session(store, clock=lambda: now[0], seed=1)
    call = await begun(agent.acall("go", session=session), world)
    now[0] = 10_000_000
    with pytest.raises(Exception, match=r"the deadline of 0\.05 s has passed"):
        await call
    assert world.stubborn.finished
    assert world.paid == []
    returned = [event["data"] for event in views.load(store, session.id) if event["kind"] == ev.TOOL_RETURNED]
    assert [data["content"] for data in returned] == ["slow is done"]


async def test_a_time_limit_within_a_tool_is_its_own_affair() -> None:
    paid: list[str] = []

    @tool
    async def patient() -> str:
        """Waits a moment for what does not come."""
        async with asyncio.timeout(0.01):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                return "nothing came"
        raise AssertionError

    @tool
    async def group() -> str:
        """Starts two tasks, one of which fails."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.sleep(60))
                tasks.create_task(asyncio.wait_for(asyncio.sleep(60), 0))
        except ExceptionGroup:
            return "one failed"
        raise AssertionError

    @tool
    async def inner_task() -> str:
        """Cancels a task of its own."""
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        raise AssertionError

    @tool
    async def pay() -> str:
        """Pays."""
        paid.append("pay")
        return "paid"

    script = [
        asks("patient"),
        asks("group"),
        asks("inner_task"),
        asks("patient", "group", "inner_task"),
        asks("pay"),
        "done",
    ]
    for more in ({}, {"deadline": 600}):
        agent = Agent(
            "a", ScriptedBackend(script), tools=[patient, group, inner_task, pay], store=MemoryLog(),
            max_interrupt_times=None, **more,
        )  # fmt: skip
        assert (await agent.acall("go")).content == "done"
    assert paid == ["pay"] * 2


async def test_a_call_made_while_cleaning_up_is_a_call_like_any_other() -> None:
    agent = Agent("a", ScriptedBackend([asks("add"), "a summary"]), store=MemoryLog())

    @tool
    async def add() -> str:
        """Fails by a cancellation of its own."""
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        raise AssertionError

    async def program() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return (await agent.acall("Summarise.", tools=[add])).content
        raise AssertionError

    task = asyncio.ensure_future(program())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "a summary"
