"""Effects within other effects, and the steps of stateful tools: what a resumption or a fork builds up again."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, arecord, fork_session, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.models.function import ToolContext, tool
from lllm.ports import Request
from lllm.session import own_code, recording
from tests.replay.test_effects import cut


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def newest(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


async def nested(name: str, ran: list[str], count: int = 2) -> Any:
    """An effect whose code has further ones, as a cell that calls an API has."""
    session = recording()
    assert session is not None
    context, place = contextvars.copy_context(), session.where()

    async def outer(about: ToolContext) -> list[Any]:
        async def inner(number: int) -> Any:
            def do() -> int:
                ran.append(f"{name}/{number}")
                return number

            with own_code(session, place._replace(inside=about.effect)):
                return await session.effect("inner", {"of": name, "number": number}, do)

        ran.append(name)
        loop = asyncio.get_running_loop()
        return [await loop.create_task(inner(number), context=context) for number in range(count)]

    return await session.effect("outer", {"name": name}, outer, effect="pure")


def program(store: MemoryLog, ran: list[str]) -> Callable[[], Any]:
    async def main() -> Any:
        async with arecord("nested", store=store):
            first = await nested("a", ran)
            return [first, await nested("b", ran)]

    return main


def test_a_replay_gives_the_outer_one_and_does_none_of_the_inner() -> None:
    store, ran = MemoryLog(), list[str]()
    assert asyncio.run(program(store, ran)()) == [[0, 1], [0, 1]]
    assert ran == ["a", "a/0", "a/1", "b", "b/0", "b/1"]
    inside = [
        event["data"].get("inside")
        for event in events(store, newest(store))
        if event["kind"] == ev.EFFECT_REQUESTED
    ]
    assert inside == [None, 1, 1, None, 4, 4]
    ran.clear()
    report = replay_session(newest(store), store=store, entry=program(store, ran))
    assert report.verified, report
    assert ran == []


def test_cut_off_after_every_event() -> None:
    whole, ran = MemoryLog(), list[str]()
    asyncio.run(program(whole, ran)())
    session, everything = newest(whole), list(ran)
    for count in range(1, len(events(whole, session)) - 1):
        store, again = cut(whole, session, count), list[str]()
        done = {
            (event["data"]["request"]["of"], event["data"]["request"]["number"])
            for event in events(store, session)
            if event["kind"] == ev.EFFECT_REQUESTED
            and event["data"]["kind"] == "inner"
            and any(
                other["kind"] == ev.EFFECT_RETURNED and other["data"]["n"] == event["data"]["n"]
                for other in events(store, session)
            )
        }
        resume_session(session, store=store, entry=program(store, again), decide="retry")
        assert not {f"{of}/{number}" for of, number in done} & set(again), "what was done is not done again"
        assert {name for name in everything if "/" in name} == {
            f"{event['data']['request']['of']}/{event['data']['request']['number']}"
            for event in events(store, session)
            if event["kind"] == ev.EFFECT_REQUESTED and event["data"]["kind"] == "inner"
        }
        assert replay_session(session, store=store, entry=program(store, [])).verified


# --- stateful tools ---------------------------------------------------------------------------------------------------


class Register:
    """A tool that adds to what it did before, in effects that know their past."""

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran
        self.lives: dict[str, list[tuple[int, int]]] = {}

    def tool(self) -> Any:
        @tool(effect="pure", repeatable=True, stateful=True, concurrent=False)
        async def add(number: int) -> str:
            """Adds a number."""
            session = recording()
            assert session is not None
            steps = self.lives.setdefault(session.id, [])

            def total() -> int:
                known = {value["at"]: value["sum"] for _, _, value in session.earlier_effects("add")}
                known |= dict(steps)
                return known[max(known)] if known else 0

            def do() -> dict[str, int]:
                self.ran.append(f"{total()}+{number}")
                known = [value["at"] for _, _, value in session.earlier_effects("add")] + [
                    at for at, _ in steps
                ]
                return {"at": max(known, default=0) + 1, "before": total(), "sum": total() + number}

            value = await session.effect(
                "add", {"number": number}, do, effect="pure", holds=lambda value: value["before"] == total()
            )
            steps.append((value["at"], value["sum"]))
            return str(value["sum"])

        return add


def calls(*numbers: int) -> list[Any]:
    return [
        {
            "tool_calls": [
                {
                    "id": f"t{n}",
                    "type": "function",
                    "function": {"name": "add", "arguments": json.dumps({"number": n})},
                }
            ]
        }
        for n in numbers
    ]


def model(first: int) -> Callable[[Request], Any]:
    script = [*calls(first, 2, 3), "done"]

    def answer(request: Request) -> Any:
        return script[sum(message.role == "tool" for message in request.messages)]

    return answer


def adding(store: MemoryLog, ran: list[str], first: int = 1) -> Callable[[], Any]:
    async def main() -> str:
        agent = Agent("adder", ScriptedBackend(model(first)), "Add.", tools=[Register(ran).tool()])
        async with arecord("adding", store=store) as live:
            dialog = agent.init_dialog(session=live)
            dialog.append("go")
            reply = await agent.acall(dialog)
        return str(reply.content)

    return main


def results(store: MemoryLog, session: str) -> list[str]:
    return [event["data"]["content"] for event in events(store, session) if event["kind"] == ev.TOOL_RETURNED]


def test_a_resumed_session_builds_on_what_tools_did() -> None:
    whole, ran = MemoryLog(), list[str]()
    asyncio.run(adding(whole, ran)())
    assert ran == ["0+1", "1+2", "3+3"]
    session = newest(whole)
    for count in range(2, len(events(whole, session)) - 1):
        store, again = cut(whole, session, count), list[str]()
        resume_session(session, store=store, entry=adding(store, again))
        assert results(store, session) == ["1", "3", "6"], count
        assert again == ran[len(ran) - len(again) :], "what was done is not done again"
        assert replay_session(session, store=store, entry=adding(store, [])).verified


def second_result(store: MemoryLog, session: str) -> int:
    found = [event["seq"] for event in events(store, session) if event["kind"] == ev.TOOL_RETURNED]
    return int(found[1])


def test_a_fork_that_changes_nothing_runs_nothing() -> None:
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    parent = newest(store)
    for at in (second_result(store, parent), None):
        ran.clear()
        keywords = {} if at is None else {"at": at}
        fork = fork_session(parent, store=store, entry=adding(store, ran), **keywords)
        assert results(store, fork.session) == ["1", "3", "6"]
        assert not set(ran) - {"1+2", "3+3"}
        assert replay_session(fork.session, store=store, entry=adding(store, [])).verified


def test_a_fork_of_a_fork_knows_the_steps_of_the_shared_part() -> None:
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    first = fork_session(
        newest(store), store=store, entry=adding(store, []), at=second_result(store, newest(store))
    )
    ran.clear()
    last = [event["seq"] for event in events(store, first.session) if event["kind"] == ev.TOOL_RETURNED][-1]
    again = fork_session(first.session, store=store, entry=adding(store, ran), at=last)
    assert results(store, again.session) == ["1", "3", "6"]


@pytest.mark.parametrize("first", [5, 10])
def test_an_answer_with_another_past_is_not_used(first: int) -> None:
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    parent = newest(store)
    begun = next(event["seq"] for event in events(store, parent) if event["kind"] == ev.MODEL_REQUESTED)
    ran.clear()
    fork = fork_session(parent, store=store, entry=adding(store, ran, first), at=begun)
    assert results(store, fork.session) == [str(first), str(first + 2), str(first + 5)]
    assert ran == [f"0+{first}", f"{first}+2", f"{first + 2}+3"]
