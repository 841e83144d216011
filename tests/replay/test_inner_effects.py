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
from lllm.errors import EffectFailed
from lllm.models.function import ToolContext, tool
from lllm.ports import Request
from lllm.session import own_code, recording
from tests.replay.test_effects import cut


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def newest(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


async def nested(
    name: str,
    ran: list[str],
    count: int = 2,
    *,
    of: str | None = None,
    before: Callable[[], Any] | None = None,
    holds: Callable[[Any], bool] | None = None,
) -> Any:
    """An effect whose code has further ones, as a cell that calls an API has.

    Args:
        of: what the requests of the inner ones say, by default `name`. before: is called and awaited before these.
    """
    session = recording()
    assert session is not None
    context, place = contextvars.copy_context(), session.where()
    said = name if of is None else of

    async def outer(about: ToolContext) -> list[Any]:
        async def inner(number: int) -> Any:
            def do() -> Any:
                ran.append(f"{name}/{number}")
                return number if of is None else f"{name}{number}"

            with own_code(session, place._replace(inside=about.effect)):
                return await session.effect("inner", {"of": said, "number": number}, do)

        ran.append(name)
        if before is not None:
            await before()
        loop = asyncio.get_running_loop()
        return [await loop.create_task(inner(number), context=context) for number in range(count)]

    return await session.effect("outer", {"name": name}, outer, effect="pure", holds=holds)


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


def alike(store: MemoryLog, ran: list[str], *, late: bool = False, second: str = "b") -> Callable[[], Any]:
    """Two effects side by side and the program itself ask for the same, and each gets its own answer. `late`: the first asks
    after the second."""

    async def main() -> Any:
        async with arecord("alike", store=store) as session:
            asked = asyncio.Event()

            async def other() -> Any:
                found = await nested(second, ran, of="x")
                asked.set()
                return found

            waits = asked.wait if late else None
            both = await asyncio.gather(nested("a", ran, of="x", before=waits), other())
            own = await session.effect("inner", {"of": "x", "number": 0}, lambda: ran.append("own") or "own")
            return [*both, own]

    return main


ALIKE = [["a0", "a1"], ["b0", "b1"], "own"]


def test_equal_requests_belong_to_the_effect_they_are_in() -> None:
    store, ran = MemoryLog(), list[str]()
    entry = alike(store, ran)
    assert asyncio.run(entry()) == ALIKE
    ran.clear()
    again: list[Any] = []

    async def noted() -> None:
        again.append(await entry())

    assert replay_session(newest(store), store=store, entry=noted).verified
    assert (again, ran) == ([ALIKE], [])


def test_equal_requests_are_resumed_each_in_its_place() -> None:
    whole = MemoryLog()
    assert asyncio.run(alike(whole, [], late=True)()) == ALIKE
    session = newest(whole)
    for count in range(1, len(events(whole, session)) - 1):
        store = cut(whole, session, count)
        # today the first one is the quicker: what the second got is not for it
        resumed = resume_session(session, store=store, entry=alike(store, []), decide="retry")
        assert resumed.result == ALIKE, count


def test_a_fork_answers_within_what_the_parent_began() -> None:
    """What had an answer before the fork keeps it; what follows is done."""
    store, ran = MemoryLog(), list[str]()
    asyncio.run(program(store, ran)())
    parent = newest(store)
    first = next(e["seq"] for e in events(store, parent) if e["data"].get("inside") == 4)
    for at, again in ((first, ["b", "b/0", "b/1"]), (first + 2, ["b", "b/1"])):
        ran.clear()
        fork = fork_session(parent, store=store, entry=program(store, ran), at=at)
        assert (fork.result, ran) == ([[0, 1], [0, 1]], again)
        assert replay_session(fork.session, store=store, entry=program(store, [])).verified


@pytest.mark.parametrize(
    ("fresh", "unmatched", "again"),
    [
        (False, "run", ["a", "a", "a/1", "b"]),
        (False, "pure", ["a", "a", "b"]),
        (True, "run", ["a", "a/0", "a", "a/0", "a/1", "b", "b/0", "b/1"]),
    ],
)
def test_what_an_effect_that_is_done_anew_asks_is_answered(
    fresh: bool, unmatched: str, again: list[str]
) -> None:
    """An effect whose past differs is done again; what it asks in the same words has an answer, unless all is asked anew."""
    store, ran = MemoryLog(), list[str]()

    def entry(mode: str, count: int) -> Callable[[], Any]:
        async def main() -> Any:
            async with arecord("nested", store=store) as session:
                await session.effect("mode", {"mode": mode}, lambda: mode, effect="pure")
                found = []
                for name, number in (("a", 1), ("a", count), ("b", 2)):
                    try:
                        found.append(await nested(name, ran, number, holds=lambda _: mode == "one"))
                    except EffectFailed:
                        found.append("refused")
                return found

        return main

    assert asyncio.run(entry("one", 1)()) == [[0], [0], [0, 1]]
    ran.clear()
    fork = fork_session(newest(store), store=store, entry=entry("two", 2), fresh=fresh, unmatched=unmatched)
    assert ran == again
    assert fork.result == [[0], [0, 1] if unmatched == "run" else "refused", [0, 1]]
    assert replay_session(fork.session, store=store, entry=entry("two", 2)).verified


def test_a_fork_does_not_answer_within_what_is_new() -> None:
    store, ran = MemoryLog(), list[str]()
    asyncio.run(alike(store, ran)())
    ran.clear()
    fork = fork_session(newest(store), store=store, entry=alike(store, ran, second="c"))
    assert fork.result == [["a0", "a1"], ["c0", "c1"], "own"]
    assert ran == ["c", "c/0", "c/1"]


# --- stateful tools ---------------------------------------------------------------------------------------------------


class Register:
    """A tool that adds to what it did before, in effects that know their past."""

    def __init__(self, ran: list[str], inner: bool = False) -> None:
        self.ran, self.inner = ran, inner
        self.lives: dict[str, list[tuple[int, int]]] = {}

    def tool(self) -> Any:
        @tool(effect="pure", repeatable=True, stateful=True, concurrent=False)
        async def add(number: int) -> str:
            """Adds a number."""
            session = recording()
            assert session is not None
            steps, place = self.lives.setdefault(session.id, []), session.where()

            def total() -> int:
                known = {value["at"]: value["sum"] for _, _, value in session.earlier_effects("add")}
                known |= dict(steps)
                return known[max(known)] if known else 0

            async def do(about: ToolContext) -> dict[str, int]:
                if self.inner:
                    with own_code(session, place._replace(inside=about.effect)):
                        await session.effect("look", {}, lambda: number)
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


def model(numbers: tuple[int, ...]) -> Callable[[Request], Any]:
    script = [*calls(*numbers), "done"]

    def answer(request: Request) -> Any:
        return script[sum(message.role == "tool" for message in request.messages)]

    return answer


def adding(
    store: MemoryLog, ran: list[str], *numbers: int, mode: str = "plain", inner: bool = False
) -> Callable[[], Any]:
    """An agent adds numbers, by default 1, 2, 3. `mode`: something that the program does before. `inner`: each step has an
    effect of its own."""

    async def main() -> str:
        tool = Register(ran, inner).tool()
        agent = Agent("adder", ScriptedBackend(model(numbers or (1, 2, 3))), "Add.", tools=[tool])
        async with arecord("adding", store=store) as live:
            await live.effect("mode", {"mode": mode}, lambda: mode, effect="pure")
            dialog = agent.init_dialog(session=live)
            dialog.append(f"add {numbers or (1, 2, 3)}")
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


def test_a_fork_logs_the_inner_effects_of_the_steps_it_shares() -> None:
    store = MemoryLog()
    asyncio.run(adding(store, [], inner=True)())
    parent = newest(store)
    at = second_result(store, parent) + 1
    fork = fork_session(parent, store=store, entry=adding(store, [], inner=True), at=at)

    def steps(session: str) -> list[tuple[str, int, Any]]:
        found = [
            e
            for e in events(store, session)
            if e["kind"].startswith("Effect") and e["data"]["n"] in range(2, 6)
        ]
        return [(e["kind"], e["data"]["n"], e["data"].get("inside")) for e in found]

    assert [inside for kind, _, inside in steps(parent) if kind == ev.EFFECT_REQUESTED] == [None, 2, None, 4]
    assert steps(fork.session) == steps(parent)
    resumed = cut(store, fork.session, len(events(store, fork.session)) - 3)
    resume_session(fork.session, store=resumed, entry=adding(resumed, [], inner=True))
    assert results(resumed, fork.session) == ["1", "3", "6"]


@pytest.mark.parametrize(
    ("numbers", "sums", "again"),
    [
        ((1, 2, 3), ["1", "3", "6"], []),  # nothing that a step knows has changed
        ((1, 2, 4), ["1", "3", "7"], ["3+4"]),
        ((1, 4, 3), ["1", "5", "8"], ["1+4", "5+3"]),
        ((5, 2, 3), ["5", "7", "10"], ["0+5", "5+2", "7+3"]),
        ((2, 1, 3), ["2", "3", "6"], ["0+2", "2+1"]),  # the third one's past comes to the same
    ],
)
def test_a_fork_tells_pasts_apart(numbers: tuple[int, ...], sums: list[str], again: list[str]) -> None:
    """A recorded step is given again where what was before it came to the same, and only there."""
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    ran.clear()
    fork = fork_session(newest(store), store=store, entry=adding(store, ran, *numbers, mode="other"))
    assert results(store, fork.session) == sums
    assert ran == again
    assert replay_session(fork.session, store=store, entry=adding(store, [], *numbers, mode="other")).verified


def test_an_edited_result_leaves_what_its_tool_did() -> None:
    """The model is told something else; the steps that the tool took are there for those that follow."""
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    parent = newest(store)
    for number, given in enumerate(e["seq"] for e in events(store, parent) if e["kind"] == ev.TOOL_RETURNED):
        ran.clear()
        fork = fork_session(parent, store=store, entry=adding(store, ran), at=given, edit="edited")
        assert fork.notes == []
        expected = ["1", "3", "6"]
        expected[number] = "edited"
        assert results(store, fork.session) == expected
        assert ran == []
        assert replay_session(fork.session, store=store, entry=adding(store, [])).verified


@pytest.mark.parametrize("first", [5, 10])
def test_a_fresh_fork_uses_no_answer(first: int) -> None:
    store, ran = MemoryLog(), list[str]()
    asyncio.run(adding(store, ran)())
    parent = newest(store)
    begun = next(event["seq"] for event in events(store, parent) if event["kind"] == ev.MODEL_REQUESTED)
    ran.clear()
    fork = fork_session(parent, store=store, entry=adding(store, ran, first, 2, 3), at=begun)
    assert results(store, fork.session) == [str(first), str(first + 2), str(first + 5)]
    assert ran == [f"0+{first}", f"{first}+2", f"{first + 2}+3"]
