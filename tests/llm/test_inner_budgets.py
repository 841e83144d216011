"""Budgets of an agent call hold for everything within it: sub-agents, theirs, hand-offs, agents that tools call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from lllm import session_hooks
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.use import Use
from lllm.errors import BudgetExceeded, DeadlineExceeded
from lllm.llm.agent import Agent
from lllm.llm.handoff import tool_name
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.log.views import fold_session
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.replay.test_resume import cut

MODEL = "gpt-4o-2024-08-06"
USAGE = Usage(4000, 0)  # one cent
FREE: dict[str, Any] = {"max_interrupt_times": None}


def cents(script: Any) -> ScriptedBackend:
    """A model whose every reply costs one cent and 4,000 tokens."""
    return ScriptedBackend(script, capabilities=Capabilities(local=False))


def says(text: str, usage: Usage | None = USAGE) -> Reply:
    return Reply(text, usage=usage, model=MODEL)


def asks(*names: str) -> Callable[[Request], Reply]:
    """A model that never comes to an end by itself. Its arguments are others each time."""

    def answer(request: Request) -> Reply:
        n = len(request.messages)
        calls = tuple(FunctionCall(f"{n}_{k}", name, f'{{"task":"{n}"}}') for k, name in enumerate(names))
        return Reply("", tool_calls=calls, usage=USAGE, model=MODEL)

    return answer


def once(*names: str) -> Callable[[Request], Reply]:
    """A model that calls these tools, and answers then."""
    call = asks(*names)
    return lambda request: says("done") if request.messages[-1].role == "tool" else call(request)


@tool(effect="pure")
def look(task: str) -> str:
    """Look."""
    return f"nothing at {task}"


def events_of(store: MemoryLog) -> list[dict[str, Any]]:
    return list(views.load(store, store.sessions()[0].id))


def requests(store: MemoryLog) -> int:
    return sum(event["kind"] == ev.MODEL_REQUESTED for event in events_of(store))


def three(**limits: Any) -> Agent:
    """top asks mid, mid asks leaf, and leaf looks without end."""
    leaf = Agent("leaf", cents(asks("look")), tools=[look], **FREE)
    mid = Agent("mid", cents(asks("leaf")), tools=[leaf], **FREE)
    return Agent("top", cents(asks("mid")), tools=[mid], **FREE, **limits)


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"max_model_calls": 6}, "max_model_calls=6 is used up, 5 of it by agents within the call"),
    (
        {"max_tokens_total": 23_000},
        "24000 of 23000 tokens are used up, 20000 of it by agents within the call",
    ),
    ({"max_cost": "0.055"}, r"\$0.06\d* of \$0.055 is used up, \$0.05\d* of it by agents within the call"),
]


@pytest.mark.parametrize(("limits", "words"), LIMITS)
def test_nested_agents_count(limits: dict[str, Any], words: str) -> None:
    store = MemoryLog()
    top = three(**limits)
    top.store = store
    with pytest.raises(BudgetExceeded, match=words) as caught:
        top("begin")
    assert caught.value.reason == next(iter(limits))
    assert requests(store) == 6
    inner = [event["data"] for event in events_of(store) if event["kind"] == ev.LIMIT_REACHED]
    assert [data["reason"] for data in inner] == [caught.value.reason] * 2  # leaf and mid
    assert all("a budget of agent 'top', around this call: " in data["message"] for data in inner)


def test_several_at_once_count_together() -> None:
    store = MemoryLog()
    helpers = [Agent(name, cents(asks("look")), tools=[look], **FREE) for name in ("a", "b", "c")]
    top = Agent("top", cents(asks("a", "b", "c")), tools=helpers, max_cost="0.10", store=store, **FREE)
    with pytest.raises(BudgetExceeded, match=r"of \$0\.10 is used up"):
        top("begin")
    assert 10 <= requests(store) <= 12  # each may have one request under way when the budget is used up


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
def test_agents_that_a_tool_calls_count(blocking: bool) -> None:
    leaf = Agent("leaf", cents(asks("look")), tools=[look], **FREE)

    @tool(effect="pure")
    async def research(task: str) -> str:
        """Research."""
        return (await leaf.acall(task)).content

    @tool(effect="pure", name="research")
    def in_thread(task: str) -> str:
        """Research."""
        return leaf(task).content

    store = MemoryLog()
    top = Agent(
        "top",
        cents(asks("research")),
        tools=[in_thread if blocking else research],
        max_model_calls=5,
        store=store,
    )
    with pytest.raises(BudgetExceeded, match="max_model_calls=5"):
        top("begin")
    assert requests(store) == 5


def test_a_tool_that_catches_the_error_gets_no_further() -> None:
    leaf = Agent("leaf", cents(asks("look")), tools=[look], **FREE)
    met: list[str | None] = []

    @tool(effect="pure")
    async def research(task: str) -> str:
        """Research."""
        for _ in range(3):
            try:
                await leaf.acall(task)
            except BudgetExceeded as error:
                met.append(error.reason)
        return "gave up"

    store = MemoryLog()
    with pytest.raises(BudgetExceeded):
        Agent("top", cents(asks("research")), tools=[research], max_model_calls=4, store=store)("begin")
    assert (requests(store), met) == (4, ["max_model_calls"] * 3)


def test_what_returned_tools_used_counts() -> None:
    """The helper ends by itself each time; its use adds up."""
    helper = Agent("helper", cents([says("yes")] * 9))
    store = MemoryLog()
    with pytest.raises(BudgetExceeded, match="max_model_calls=7 is used up, 3 of it"):
        Agent("top", cents(asks("helper")), tools=[helper], max_model_calls=7, store=store, **FREE)("begin")
    spent = [event["data"]["spent"] for event in events_of(store) if "spent" in event["data"]]
    assert [{**one, "cost": Decimal(one["cost"])} for one in spent] == [
        {"model_calls": 1, "tokens": 4000, "cost": Decimal("0.01")}
    ] * 3


def test_a_budget_of_the_sub_agent_is_its_own() -> None:
    helper = Agent("helper", cents(asks("look")), tools=[look], max_model_calls=2, **FREE)
    top = Agent("top", cents(once("helper")), tools=[helper], max_model_calls=9)
    reply = top("begin")
    assert reply.content == "done"
    assert "max_model_calls=2 is used up" in reply.messages[-2].text
    assert (reply.cost, reply.total_usage) == (Decimal("0.02"), Usage(8000, 0))  # those of its own replies


class Unmetered(ScriptedBackend):
    """A model of unknown price that does not report what it uses."""

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply("yes", model="nobody-knows"))


@pytest.mark.parametrize("limit", ["max_cost", "max_tokens_total"])
def test_unknown_use_within_ends_the_call(limit: str) -> None:
    helper = Agent("helper", Unmetered([], capabilities=Capabilities(local=False)))
    top = Agent("top", cents(asks("helper")), tools=[helper], **{limit: 10**6})
    words = f"{limit} is set, but an agent within the call has used an unknown amount"
    with pytest.raises(BudgetExceeded, match=words):
        top("begin")


def test_without_budgets_nothing_is_noted() -> None:
    store = MemoryLog()
    helper = Agent("helper", cents([says("yes")]))
    assert Agent("top", cents(once("helper")), tools=[helper], store=store)("begin").content == "done"
    assert not any("spent" in event["data"] for event in events_of(store))


def test_an_agent_that_took_over_is_bounded_by_those_around() -> None:
    store = MemoryLog()
    billing = Agent("billing", cents(asks("look")), tools=[look], **FREE)
    front = Agent("front", cents(asks(tool_name("billing"))), handoffs=[billing])
    top = Agent("top", cents(asks("front")), tools=[front], max_model_calls=6, store=store)
    with pytest.raises(BudgetExceeded, match="max_model_calls=6 is used up, 5 of it"):
        top("begin")
    assert requests(store) == 6


def test_time_within_counts() -> None:
    async def never(request: Request) -> Reply:
        await asyncio.Event().wait()
        return says("late")

    leaf = Agent("leaf", ScriptedBackend(never))
    mid = Agent("mid", cents(asks("leaf")), tools=[leaf])
    with pytest.raises(DeadlineExceeded, match=r"agent 'top': the deadline of 0\.2 s has passed"):
        Agent("top", cents(asks("mid")), tools=[mid], deadline=0.2)("begin")


# --- sessions that are run again


def program(store: MemoryLog, counts: list[str], **limits: Any) -> Callable[[], Any]:
    """top asks two helpers at once, which end, then a tool whose code calls an agent."""

    def counting(name: str, script: Callable[[Request], Reply]) -> ScriptedBackend:
        def answer(request: Request) -> Reply:
            counts.append(name)
            return script(request)

        return cents(answer)

    async def main() -> str:
        leaf = Agent("leaf", counting("leaf", once("look")), tools=[look])

        @tool(effect="idempotent")
        async def research(task: str) -> str:
            """Research."""
            return (await leaf.acall(task)).content

        a, b = (Agent(name, counting(name, once("look")), tools=[look]) for name in "ab")
        top = Agent(
            "top", counting("top", asks("a", "b", "research")), tools=[a, b, research], **FREE, **limits
        )
        async with arecord("work", store=store):
            try:
                return (await top.acall("begin")).content
            except BudgetExceeded as error:
                return str(error.reason)

    return main


@pytest.mark.parametrize("limits", [{"max_cost": "0.115"}, {"max_model_calls": 12}])
def test_cut_off_after_every_event(limits: dict[str, Any]) -> None:
    store, counts = MemoryLog(), list[str]()
    assert asyncio.run(program(store, counts, **limits)()) == next(iter(limits))
    session, events = store.sessions()[0].id, events_of(store)
    again = partial(program, **limits)
    assert replay_session(session, store=store, entry=again(store, [])).verified
    assert len(counts) <= 15
    for at in range(1, len(events), 2):
        died, anew = cut(store, session, at), list[str]()
        known = sum(event["kind"] == ev.MODEL_REPLIED for event in events[:at])
        done = resume_session(session, store=died, entry=again(died, anew), decide="retry")
        assert done.result == next(iter(limits)), at
        # a request that was under way is made again; each of the three at work may have one when the budget is used up
        assert 12 <= known + len(anew) <= 15, (at, known, anew)
        if at % 5 == 0:
            assert replay_session(session, store=died, entry=again(died, [])).verified, at


def test_a_fork_counts_what_it_shares() -> None:
    store, counts = MemoryLog(), list[str]()
    asyncio.run(program(store, counts, max_model_calls=12)())
    session, events = store.sessions()[0].id, events_of(store)
    for at in (len(events) // 3, len(events) // 2, len(events) - 4):
        done = fork_session(session, store=store, at=at, entry=program(store, [], max_model_calls=12))
        assert done.result == "max_model_calls"
        assert replay_session(
            done.session, store=store, entry=program(store, [], max_model_calls=12)
        ).verified


def test_a_log_of_before_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """There only the own replies of a call counted."""

    def main(store: MemoryLog) -> Callable[[], Any]:
        async def run() -> str:
            async with arecord("work", store=store):
                helper = Agent("helper", cents([says("yes")] * 9))
                top = Agent("top", cents(once("helper")), tools=[helper], max_model_calls=3)
                return (await top.acall("begin")).content

        return run

    store = MemoryLog()
    with monkeypatch.context() as before:
        before.setattr(session_hooks, "RULES", 2)
        assert asyncio.run(main(store)()) == "done"
    session = store.sessions()[0].id
    assert not any("spent" in event["data"] for event in events_of(store))
    assert replay_session(session, store=store, entry=main(store)).verified


def test_the_state_can_be_folded_from_the_log() -> None:
    store = MemoryLog()
    helper = Agent("helper", cents([says("yes")]))
    Agent("top", cents(once("helper")), tools=[helper], max_cost=1, store=store)("begin")
    folded = fold_session(events_of(store))
    assert folded.calls["c1"].inner == Use(1, 4000, Decimal("0.01"))
