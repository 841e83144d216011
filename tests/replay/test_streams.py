"""A stream in a program that is run again says what it said before: the same text, the same restarts, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

import lllm
from lllm import (
    Agent,
    FunctionCall,
    MemoryLog,
    Reply,
    ScriptedBackend,
    arecord,
    fork_session,
    replay_session,
)
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import CallError, ServerError, StreamInterrupted
from lllm.models.function import tool
from lllm.ports import Completed, Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta
from lllm.replay.resume import aresume_session

FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
DOWN = ServerError("down", status=500)
ADD = FunctionCall("call_1", "add", '{"a":1,"b":2}')


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


class Broken(ScriptedBackend):
    """Breaks off in the middle of its first replies."""

    def __init__(self, times: int, answer: str = "whole") -> None:
        super().__init__(lambda request: answer, chunk=3)
        self.times = times

    async def stream(self, request: Request) -> Any:
        self.times -= 1
        async for delta in super().stream(request):
            if self.times >= 0 and isinstance(delta, Completed):
                raise DOWN
            yield delta


PROGRAMS: dict[str, tuple[Callable[[], ScriptedBackend], dict[str, Any]]] = {
    "text": (lambda: ScriptedBackend(["to be or not to be"], chunk=4), {}),
    "nothing": (lambda: ScriptedBackend([""]), {}),
    "thinking": (lambda: ScriptedBackend([{"content": "yes", "thinking": "hm, so"}], chunk=2), {}),
    "tools": (
        lambda: ScriptedBackend([{"content": "I add.", "tool_calls": [ADD]}, "It is 3."], chunk=3),
        {"tools": [add]},
    ),
    "a repair": (lambda: ScriptedBackend(["no number", '{"n": 1}'], chunk=3), {"format": FORM}),
    "a fault before": (lambda: ScriptedBackend([DOWN, "to be"], chunk=3), {"backoff_base": 0}),
    "a fault after": (lambda: Broken(1), {"backoff_base": 0}),
    "nothing but faults": (lambda: Broken(9), {"max_provider_retry": 1, "backoff_base": 0}),
}


def added(deltas: list[Delta]) -> list[Any]:
    """Deltas, those of one kind that follow each other as one: so much of them is in the log."""
    out: list[Any] = []
    for delta in deltas:
        if isinstance(delta, Completed):
            out.append(delta.reply.content)
        elif isinstance(delta, Restart):
            out.append(delta)
        elif isinstance(delta, ToolCallDelta):
            if not out or out[-1][:2] != ["tool", delta.index]:
                out.append(["tool", delta.index, delta.id, delta.name, ""])
            out[-1][-1] += delta.arguments
        elif out and isinstance(out[-1], type(delta)):
            out[-1] = type(delta)(out[-1].text + delta.text)
        else:
            assert isinstance(delta, TextDelta | ThinkingDelta)
            out.append(delta)
    return out


async def deltas(agent: Agent) -> Any:
    got: list[Delta] = []
    try:
        async for delta in agent.astream("go"):
            got.append(delta)  # noqa: PERF401  what came before an error counts
    except CallError as error:
        return [*added(got), error.reason]
    return added(got)


async def text(agent: Agent) -> Any:
    got = ""
    try:
        async for piece in agent.astream("go").text():
            got += piece
    except StreamInterrupted as error:
        return [got, error.partial]
    except CallError as error:
        return [got, error.reason]
    return got


async def followed(agent: Agent) -> Any:
    got: list[Delta] = []
    try:
        await agent.acall("go", follow=lambda call, delta: got.append(delta))
    except CallError as error:
        return [*added(got), error.reason]
    return added(got)


async def first(agent: Agent) -> Any:
    async with aclosing(agent.astream("go")) as stream:
        async for delta in stream:
            return type(delta).__name__
    return None


def seen(store: MemoryLog, make: Callable[[], Agent], look: Any) -> tuple[Any, list[Any]]:
    """A program, and what each of its runs saw."""
    runs: list[Any] = []

    async def main() -> None:
        async with arecord("look", store=store):
            runs.append(await look(make()))
            runs[-1] = [runs[-1], (await Agent("next", ScriptedBackend(["on"])).acall("on")).content]

    return main, runs


@pytest.mark.parametrize("look", [deltas, text, followed, first])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_replay_sees_what_was_seen(name: str, look: Any) -> None:
    store = MemoryLog()
    backend, settings = PROGRAMS[name]
    main, runs = seen(store, lambda: Agent("agent", backend(), **settings), look)
    asyncio.run(main())
    session = store.sessions(1)[0].id
    report = replay_session(session, store=store, entry=main)
    assert report.verified, report.divergence
    assert runs[1] == runs[0]
    if look is not first and "fault" not in name:
        # a fork has the replies, not the faults, and a stream that is left is stopped wherever the model then is
        done = fork_session(session, store=store, entry=main)
        assert runs[2] == runs[0]
        assert done.changed == 0


def test_a_stream_that_was_left_and_whose_call_failed() -> None:
    """The program saw a piece, and never how the call ended."""
    store = MemoryLog()
    agents: list[Agent] = []

    def make() -> Agent:
        agents.append(Agent("agent", Broken(9), max_provider_retry=0, max_llm_recall=0))
        return agents[-1]

    async def left_late(agent: Agent) -> Any:
        async with aclosing(agent.astream("go")) as stream:
            async for _ in stream:
                for _ in range(20):
                    await asyncio.sleep(0)  # meanwhile the call fails
                return "left"

    main, runs = seen(store, make, left_late)
    asyncio.run(main())
    session = store.sessions(1)[0].id
    events = [open_event(body) for body in store.read(session)]
    (failed,) = [event["data"] for event in events if event["kind"] == ev.MODEL_FAILED]
    assert failed["told"] == "whole"
    assert next(event for event in events if event["kind"] == ev.CALL_ENDED)["data"]["status"] == "failed"
    report = replay_session(session, store=store, entry=main)
    assert report.verified, report.divergence
    assert runs == [["left", "on"], ["left", "on"]]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_stream_that_was_left_and_whose_call_went_on(resumed: bool) -> None:
    """The program was slow to leave, and is quick when it is run again: the call comes to its recorded end."""
    store = MemoryLog()
    pause = [200]
    both = [ADD, FunctionCall("call_2", "add", '{"a":3,"b":4}')]

    def make() -> Agent:
        model = ScriptedBackend([{"content": "I add.", "tool_calls": both}, "3 and 7."])
        return Agent("agent", model, tools=[add])

    async def left_late(agent: Agent) -> Any:
        async with aclosing(agent.astream("go")) as stream:
            async for _ in stream:
                for _ in range(pause[0]):
                    await asyncio.sleep(0.001)
                return "left"

    main, runs = seen(store, make, left_late)
    asyncio.run(main())
    session = store.sessions(1)[0].id
    ended = [event for event in map(open_event, store.read(session)) if event["kind"] == ev.CALL_ENDED]
    assert ended[0]["data"]["status"] == "done"
    pause[0] = 0
    if resumed:
        left = MemoryLog()
        left._sessions[session] = store._sessions[session][: ended[0]["seq"] + 1]
        left._blobs = dict(store._blobs)
        asyncio.run(aresume_session(session, store=left, entry=main))
        store = left
    report = replay_session(session, store=store, entry=main)
    assert report.verified, report.divergence
    assert runs == [["left", "on"]] * (2 + resumed)


class Thinks(ScriptedBackend):
    """Breaks off within the thinking of its first reply."""

    asked = 0

    async def stream(self, request: Request) -> Any:
        self.asked += 1
        if self.asked == 1:
            yield ThinkingDelta("hm")
            raise DOWN
        async for delta in super().stream(request):
            yield delta


def test_a_fault_within_the_thinking_takes_back_what_was_shown() -> None:
    """The event of a reply that broke off does not have its thinking: so a note does."""
    store = MemoryLog()
    main, runs = seen(store, lambda: Agent("agent", Thinks(["to be"]), backoff_base=0), deltas)
    asyncio.run(main())
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main)
    assert report.verified, report.divergence
    assert runs[0] == [[ThinkingDelta("hm"), Restart("asked again"), TextDelta("to be"), "to be"], "on"]
    assert runs[1] == runs[0]


def test_a_call_that_nobody_follows_does_not_say_what_was_shown() -> None:
    store = MemoryLog()
    with pytest.raises(CallError):
        Agent("agent", Broken(9), store=store, max_provider_retry=0, max_llm_recall=0)("go")
    events = [open_event(body) for body in store.read(store.sessions(1)[0].id)]
    (failed,) = [event["data"] for event in events if event["kind"] == ev.MODEL_FAILED]
    assert "told" not in failed


def test_whoever_looks_on_sees_what_is_asked_now_alone() -> None:
    """The program's own stream is told of recorded replies; a terminal is not."""
    store = MemoryLog()
    words = ["two"]

    async def main() -> str:
        agent = Agent("agent", ScriptedBackend(lambda request: request.messages[-1].text.upper()))
        async with arecord("look", store=store):
            got = [piece async for piece in agent.astream("one").text()]
            return "".join([*got, *[piece async for piece in agent.astream(words[0]).text()]])

    assert asyncio.run(main()) == "ONETWO"
    words[0] = "three"
    looked_at: list[Delta] = []
    done = fork_session(
        store.sessions(1)[0].id, store=store, entry=main, follow=lambda call, delta: looked_at.append(delta)
    )
    assert (done.result, done.reused, done.changed) == ("ONETHREE", 1, 1)
    assert "".join(delta.text for delta in looked_at if isinstance(delta, TextDelta)) == "THREE"


def test_a_follower_that_raises_leaves_a_replay_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryLog()

    def broken(call: str, delta: Delta) -> None:
        raise ValueError("no")

    async def main() -> str:
        async with arecord("look", store=store):
            return (await Agent("agent", ScriptedBackend(["on"])).acall("go", follow=broken)).content

    asyncio.run(main())
    assert "a follower raised" in caplog.text
    caplog.clear()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main)
    assert report.verified, report.divergence
    assert caplog.text == ""


class Slow(ScriptedBackend):
    """Wants a tool; then says its first piece, and waits to be stopped."""

    async def stream(self, request: Request) -> Any:
        if not any(message.role == "tool" for message in request.messages):
            yield TextDelta("I add.")
            yield Completed(Reply("I add.", None, (ADD,), "tool_calls"))
            return
        yield TextDelta("so")
        await asyncio.sleep(60)


def test_a_stream_that_is_left_in_the_record_is_stopped_behind_it() -> None:
    """The process died after the program had left the stream, and before the call was stopped."""
    store = MemoryLog()
    leave_at = ["so"]

    async def main() -> str:
        async with arecord("look", store=store):
            agent = Agent("agent", Slow([]), tools=[add])
            async with aclosing(agent.astream("go").text()) as stream:
                async for piece in stream:
                    if piece == leave_at[0]:
                        break
            return (await Agent("next", ScriptedBackend(["on"])).acall("on")).content

    assert asyncio.run(main()) == "on"
    session = store.sessions(1)[0].id
    kinds = [open_event(body)["kind"] for body in store.read(session)]
    left = MemoryLog()
    left._sessions[session] = store._sessions[session][: kinds.index(ev.TOOL_RETURNED) + 1]
    left._blobs = dict(store._blobs)
    leave_at[0] = "I add."
    done = asyncio.run(asyncio.wait_for(aresume_session(session, store=left, entry=main), 20))
    assert done.result == "on"
    events = [open_event(body) for body in left.read(session)]
    assert [event["call"] for event in events if event["kind"] == ev.CANCELLED] == ["c1"]
    report = replay_session(session, store=left, entry=main)
    assert report.verified, report.divergence
    assert report.finished


@pytest.mark.parametrize("closes", [True, False])
def test_what_was_read_of_a_reply_that_was_cut_off(closes: bool) -> None:
    """The program closes its stream, or is cancelled while it reads it."""

    class Slow(ScriptedBackend):
        async def stream(self, request: Any) -> Any:
            if request.messages[-1].text != "long":
                async for delta in super().stream(request):
                    yield delta
                return
            yield TextDelta("once ")
            yield TextDelta("upon")
            await asyncio.Event().wait()

    store, seen = MemoryLog(), list[str]()

    async def program() -> None:
        async with arecord("reads", store=store):
            agent, text = Agent("a", Slow(lambda _: "yes")), ""
            try:
                async with asyncio.timeout(600) as limit, aclosing(agent.astream("long")) as stream:
                    async for piece in stream:
                        text += piece.text if isinstance(piece, TextDelta) else ""
                        if closes and text == "once upon":
                            break
                        if text == "once upon":
                            limit.reschedule(0)
            except TimeoutError:
                text += " ..."
            seen.append(text)
            await agent.acall(text)

    lllm.run(program())
    report = replay_session(store.sessions(1)[0].id, store=store, entry=lambda: lllm.run(program()))
    assert (report.verified, report.whole) == (True, True)
    assert seen == ["once upon" if closes else "once upon ..."] * 2
