"""A call that has a record is driven by it: what the world said is taken from there, in the recorded order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import DeadlineExceeded, ReplayDivergence
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Delta, Request, TextDelta
from lllm.replay import follow, replay_session, starts
from lllm.replay.kept import sealed
from lllm.replay.resume import resume_session
from lllm.session_hooks import Hooks

ASKED: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def clean() -> None:
    ASKED.clear()


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


def events(store: MemoryLog, session: str, call: str | None = None) -> list[dict[str, Any]]:
    found = [open_event(body) for body in store.read(session)]
    return [event for event in found if call is None or event["call"] == call]


def kinds(store: MemoryLog, session: str, call: str | None = None) -> list[str]:
    return [event["kind"] for event in events(store, session, call)]


def rounds_of(*rounds: list[FunctionCall]) -> Any:
    """A model that asks for these tools, round by round, and then says what they returned."""

    def model(request: Request) -> Any:
        ASKED["boss"] += 1
        done = sum(1 for message in request.messages if message.tool_calls)
        if done < len(rounds):
            return rounds[done]
        return " | ".join(message.text for message in request.messages if message.role == "tool")

    return model


def said(name: str) -> Any:
    def model(request: Request) -> str:
        ASKED[name] += 1
        return f"{name} says so"

    return model


class Stuck(ScriptedBackend):
    """Never answers, and takes a few turns of the loop to stop."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        ASKED["stuck"] += 1
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
        yield TextDelta("never")


def program(store: MemoryLog, model: Any, tools: list[Any], **more: Any) -> Any:
    async def main() -> str:
        agent = Agent("boss", ScriptedBackend(model), "You rule.", tools=tools, **more)
        async with arecord("work", store=store):
            return (await agent.acall("go")).content

    return main


def recorded(model: Any, tools: list[Any], **more: Any) -> tuple[MemoryLog, str]:
    store = MemoryLog()
    asyncio.run(program(store, model, tools, **more)())
    ASKED.clear()
    return store, store.sessions(1)[0].id


def test_a_live_call_is_asked_once_whether_it_has_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Hooks, "past", lambda self, call: asked.append(call))
    look = tool(effect="pure", name="look")(lambda at: at)
    recorded(rounds_of([FunctionCall("l", "look", '{"at":"x"}')]), [look])
    assert asked == ["c1"]


def test_results_come_in_the_recorded_order_and_nothing_runs() -> None:
    """Tools that are faster or slower now do not matter, because they are not run."""
    order, runs = ["c", "a", "b"], Counter[str]()
    gates = {name: asyncio.Event() for name in order}

    @tool(effect="pure")
    async def wait(name: str) -> str:
        """Returns in its turn."""
        runs[name] += 1
        place = order.index(name)
        if place:
            await gates[order[place - 1]].wait()
        gates[name].set()
        return name

    calls = [FunctionCall(name, "wait", f'{{"name":"{name}"}}') for name in "abc"]
    model = rounds_of(calls)
    store, session = recorded(model, [wait])
    returned = [e["data"]["id"] for e in events(store, session) if e["kind"] == ev.TOOL_RETURNED]
    assert returned == order
    assert replay_session(session, store=store, entry=program(store, model, [wait])).verified
    assert (runs, ASKED) == ({"a": 1, "b": 1, "c": 1}, {})


def test_another_program_is_a_divergence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for anything: nobody has to find out that all wait."""
    monkeypatch.setattr(follow, "SILENCE", 1e6)
    calls = [FunctionCall(id, "look", f'{{"at":"{id}"}}') for id in "abc"]
    rules = {"approval": False}

    def look() -> Any:
        return tool(effect="pure", name="look", approval=rules["approval"])(lambda at: at)

    store, session = recorded(rounds_of(calls), [look()])
    tampered = events(store, session)
    requested = [event for event in tampered if event["kind"] == ev.TOOL_REQUESTED]
    requested[0]["data"] = {**requested[0]["data"], "id": "x"}
    other, _ = sealed(tampered, session, store)
    report = replay_session(session, store=other, entry=program(other, rounds_of(calls), [look()]))
    assert report.divergence is not None
    assert (report.divergence.seq, report.divergence.kind) == (requested[0]["seq"], ev.TOOL_REQUESTED)
    rules["approval"] = True
    report = replay_session(session, store=store, entry=program(store, rounds_of(calls), [look()]))
    assert report.divergence is not None
    assert report.divergence.kind == ev.CALL_STARTED
    assert ASKED == {}


def test_an_agent_whose_stop_was_not_written_is_stopped_by_the_resumption() -> None:
    """The deadline ended the call, and the process died before the agent within could say that it was stopped: no model is
    asked for an answer that nobody waits for."""
    stuck = Agent("stuck", Stuck([]), "You wait.", description="Waits.").as_tool()

    @tool(effect="pure", timeout=None)
    async def hang() -> str:
        """Hangs."""
        await asyncio.Event().wait()
        return "never"

    calls = [FunctionCall("h", "hang", "{}"), FunctionCall("s", "stuck", '{"task":"x"}')]
    deadline, store, session = 0.2, MemoryLog(), ""
    while True:
        whole = MemoryLog()
        main = program(whole, rounds_of(calls), [hang, stuck], deadline=deadline)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(main())
        session = whole.sessions(1)[0].id
        reached = next(e["seq"] for e in events(whole, session, "c1") if e["kind"] == ev.LIMIT_REACHED)
        if "c2" in {event["call"] for event in events(whole, session)}:
            break
        deadline *= 2  # a loaded machine: the agent had not begun
    left = [event for event in events(whole, session) if event["seq"] <= reached]
    left = [
        event for event in left if event["call"] != "c2" or event["kind"] not in (ev.CANCELLED, ev.CALL_ENDED)
    ]
    store, _ = sealed(left, session, whole)
    ASKED.clear()
    again = program(store, rounds_of(calls), [hang, stuck], deadline=deadline)
    with pytest.raises(DeadlineExceeded):
        resume_session(session, store=store, entry=again)
    assert ASKED == {}
    assert kinds(store, session, "c2")[-2:] == [ev.CANCELLED, ev.CALL_ENDED]
    assert kinds(store, session, "c1")[-2:] == [ev.LIMIT_REACHED, ev.CALL_ENDED]
    assert replay_session(session, store=store, entry=again).verified


def test_an_agent_that_is_not_to_be_run_again_asks_nothing() -> None:
    """It is a tool whose effect is not known to be harmless, and somebody decides to skip it."""
    writer = Agent("writer", ScriptedBackend(said("writer")), "You write.", description="Writes.")
    writes = writer.as_tool().with_(effect="ask")
    model = rounds_of([FunctionCall("w", "writer", '{"task":"x"}')])
    whole, session = recorded(model, [writes])
    store = cut(whole, session, events(whole, session, "c2")[1]["seq"] + 1)
    done = resume_session(session, store=store, entry=program(store, model, [writes]), decide="skip")
    assert "not run again" in done.result
    assert ASKED["writer"] == 0
    assert replay_session(session, store=store, entry=program(store, model, [writes])).verified


def test_a_tool_that_had_begun_goes_before_those_that_take_turns_with_it() -> None:
    order: list[str] = []

    @tool(effect="idempotent", concurrent=False)
    async def one(name: str) -> str:
        """Says it."""
        order.append(name)
        return name

    calls = [FunctionCall(name, "one", f'{{"name":"{name}"}}') for name in "abc"]
    model = rounds_of(calls)
    whole, session = recorded(model, [one])
    begun = [e["seq"] for e in events(whole, session) if e["kind"] == ev.TOOL_REQUESTED]
    order.clear()
    store = cut(whole, session, begun[1] + 1)  # `a` has returned, `b` has begun
    assert resume_session(session, store=store, entry=program(store, model, [one])).result == "a | b | c"
    assert order == ["b", "c"]
    requested = [e["data"]["id"] for e in events(store, session) if e["kind"] == ev.TOOL_REQUESTED]
    assert requested == ["a", "b", "c"]


def test_a_parser_that_waits_for_what_a_tool_did_is_a_divergence_and_no_hang() -> None:
    done = asyncio.Event()

    async def read(text: str) -> str:
        await done.wait()
        return text

    @tool(effect="pure")
    async def act() -> str:
        """Does it."""
        done.set()
        return "done"

    prompt = Prompt("t/follow", "Write of {task}.", parser=read)
    writer = Agent("writer", ScriptedBackend(said("writer")), prompt=prompt, description="Writes.")
    model = rounds_of([FunctionCall("w", "writer", '{"task":"x"}'), FunctionCall("a", "act", "{}")])
    store, session = recorded(model, [writer, act])
    done = asyncio.Event()
    with pytest.raises(ReplayDivergence, match=r"does not bring this event about(.|\n)*read \("):
        replay_session(session, store=store, entry=program(store, model, [writer, act]), raises=True)


def test_recorded_calls_are_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a replay takes is linear in the calls of the session."""
    compared = 0
    agrees = starts.agrees

    def counted(one: Any, other: Any) -> bool:
        nonlocal compared
        compared += 1
        return agrees(one, other)

    monkeypatch.setattr(starts, "agrees", counted)
    store = MemoryLog()

    async def main() -> None:
        agent = Agent("a", ScriptedBackend(lambda _: "yes"))
        async with arecord("work", store=store):
            for number in range(50):
                await agent.acall(f"question {number}")

    asyncio.run(main())
    assert replay_session(store.sessions(1)[0].id, store=store, entry=main).verified
    assert compared == 100
