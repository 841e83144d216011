"""Resume: a session cut off after any event goes on to the same end, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import (
    ConfigError,
    LogWriteError,
    ParseError,
    ReplayDivergence,
    ServerError,
    UncertainEffect,
)
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import ToolContext, tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Request
from lllm.replay import replay_session
from lllm.replay.resume import resume_session
from lllm.replay.resumed import Decide, Uncertain

CHARGES: Counter[str] = Counter()
MAILS: Counter[str] = Counter()
SUMS: Counter[str] = Counter()


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Adds."""
    SUMS[f"{a}+{b}"] += 1
    return a + b


@tool(effect="idempotent")
async def charge(amount: int, context: ToolContext) -> str:
    """Charges the card, once per key."""
    assert context.idempotency_key is not None
    CHARGES[context.idempotency_key] = 1  # what an idempotent service does
    await asyncio.sleep(0)
    return f"charged {amount}"


@tool(effect="never")
def mail(text: str) -> str:
    """Sends a mail."""
    MAILS[text] += 1
    return "sent"


@tool(effect="ask")
def pay(amount: int) -> str:
    """Pays."""
    return "paid"


def strict(content: str) -> str:
    if "=" not in content:
        raise ParseError("no equals sign")
    return content.partition("=")[2].strip()


ASK = Prompt("resume/ask", "Solve {task}.", parser=strict)
ROUNDS: list[list[FunctionCall]] = [
    [FunctionCall("a1", "add", '{"a":1,"b":2}'), FunctionCall("a2", "charge", '{"amount":3}')],
    [FunctionCall("b1", "writer", '{"task":"write"}')],
    [FunctionCall("d1", "mail", '{"text":"hello"}'), FunctionCall("d2", "add", '{"a":5,"b":6}')],
]


def model(request: Request) -> Any:
    if request.messages[0].text == "You write.":
        return "a story"
    rounds = sum(1 for message in request.messages if message.tool_calls)
    if rounds < len(ROUNDS):
        return ROUNDS[rounds]
    return "answer = 42" if "no equals sign" in request.messages[-1].text else "forty-two"


def program(store: Any, backend: ScriptedBackend, sink: list[str], tools: tuple[Any, ...] = ()) -> Any:
    async def main() -> str:
        writer = Agent("writer", backend, "You write.", description="Writes.")
        boss = Agent("boss", backend, "You rule.", tools=[add, charge, mail, writer, *tools])
        async with arecord("work", store=store) as session:
            sink.append(session.id)
            reply = await boss.acall(ASK, {"task": "it"})
            more = await writer.acall(f"About {reply.parsed}")
            return f"{reply.parsed}: {more.content}"

    return main


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


def run_once(**more: Any) -> tuple[MemoryLog, str, str]:
    store, sink = MemoryLog(), []
    result = asyncio.run(program(store, ScriptedBackend(model), sink, **more)())
    return store, sink[0], result


def kinds(store: MemoryLog, session: str) -> list[str]:
    return [open_event(body)["kind"] for body in store.read(session)]


@pytest.fixture(autouse=True)
def clean() -> None:
    for counter in (CHARGES, MAILS, SUMS):
        counter.clear()


def test_cut_off_after_every_event() -> None:
    whole, session, result = run_once()
    assert result == "42: a story"
    total = len(whole._sessions[session])
    assert total >= 40
    replies = kinds(whole, session)
    for events in range(1, total):
        store = cut(whole, session, events)
        CHARGES.clear()
        MAILS.clear()
        before = kinds(store, session)
        # what had begun may have been done: the ledger of the outside world knows
        charged = {f"{session}/c1/2": 1} if before.count(ev.TOOL_REQUESTED) >= 2 else {}
        CHARGES.update(charged)
        mailed = sum(b'"name":"mail"' in body and b"ToolRequested" in body for body in store.read(session))
        MAILS.update({"hello": mailed})
        backend = ScriptedBackend(model)
        done = resume_session(session, store=store, entry=program(store, backend, []))
        assert done.result == result, events
        assert dict(CHARGES) == {f"{session}/c1/2": 1}
        assert MAILS["hello"] == 1
        assert done.reused == before.count(ev.MODEL_REPLIED)
        assert len(backend.requests) == replies.count(ev.MODEL_REPLIED) - done.reused
        assert done.events == events
        again = replay_session(session, store=store, entry=program(store, backend, []))
        assert again.verified, (events, again.divergence)
        assert again.finished
        after = kinds(store, session)
        assert after.count(ev.SESSION_RESUMED) == 1
        added = Counter({kind: after.count(kind) for kind in (ev.SESSION_RESUMED, ev.CALL_RESUMED, ev.NOTE)})
        assert Counter(after) - added == Counter(replies)


def test_cut_off_again_and_again() -> None:
    whole, session, result = run_once()
    store = cut(whole, session, 1)
    backend = ScriptedBackend(model)
    for _ in range(200):
        copy = MemoryLog()
        copy._sessions[session] = list(store._sessions[session])
        copy._blobs = dict(store._blobs)
        resume_session(session, store=copy, entry=program(copy, backend, []))
        if len(copy._sessions[session]) <= len(store._sessions[session]) + 3:
            break
        store = cut(copy, session, len(store._sessions[session]) + 3)
    assert kinds(store, session).count(ev.SESSION_RESUMED) > 5
    report = replay_session(session, store=copy, entry=program(copy, backend, []))
    assert report.verified, report.divergence
    assert result == "42: a story"


def test_what_is_uncertain_is_reported() -> None:
    whole, session, _ = run_once()
    events = kinds(whole, session)
    at = [n for n, kind in enumerate(events) if kind == ev.TOOL_REQUESTED][3]  # the mail
    store = cut(whole, session, at + 1)
    MAILS.clear()
    done = resume_session(session, store=store, entry=program(store, ScriptedBackend(model), []))
    assert [(item.key, item.tool, item.effect, item.decision) for item in done.uncertain] == [
        ("c1/d1", "mail", "never", "skip")
    ]
    assert MAILS == {}
    said = [open_event(body)["data"] for body in store.read(session)]
    assert any("whether it took effect is not known" in str(data.get("content")) for data in said)


PAYING = [[FunctionCall("p1", "pay", '{"amount":9}')]]


def paying(request: Request) -> Any:
    rounds = sum(1 for message in request.messages if message.tool_calls)
    return PAYING[0] if rounds < 1 else f"done: {request.messages[-1].text}"


def pay_program(store: Any, sink: list[str]) -> Any:
    async def main() -> str:
        async with arecord("pay", store=store) as session:
            sink.append(session.id)
            return (await Agent("payer", ScriptedBackend(paying), tools=[pay]).acall("pay")).content

    return main


def interrupted() -> tuple[MemoryLog, str]:
    store, sink = MemoryLog(), []
    asyncio.run(pay_program(store, sink)())
    at = kinds(store, sink[0]).index(ev.TOOL_REQUESTED)
    return cut(store, sink[0], at + 1), sink[0]


@pytest.mark.parametrize(
    ("decide", "text"),
    [
        ("retry", "done: paid"),
        ({"c1/p1": "retry"}, "done: paid"),
        ({"*": {"result": "paid before"}}, "done: paid before"),
        (lambda effect: {"result": f"{effect.tool} was done"}, "done: pay was done"),
        ("skip", "done: error: 'pay' had begun"),
    ],
)
def test_a_decision(decide: Decide, text: str) -> None:
    store, session = interrupted()
    done = resume_session(session, store=store, entry=pay_program(store, []), decide=decide)
    assert done.result.startswith(text)
    assert replay_session(session, store=store, entry=pay_program(store, [])).verified


def test_somebody_has_to_decide() -> None:
    store, session = interrupted()
    before = len(kinds(store, session))
    with pytest.raises(
        UncertainEffect, match=r'(?s)c1/p1: pay\(\{"amount":9\}\).*--decide c1/p1=retry'
    ) as caught:
        resume_session(session, store=store, entry=pay_program(store, []))
    assert caught.value.exit_code == 4
    assert len(kinds(store, session)) == before
    with pytest.raises(ConfigError, match="no uncertain tool call 'c9/x'"):
        resume_session(session, store=store, entry=pay_program(store, []), decide={"c9/x": "retry"})

    def perhaps(effect: Uncertain) -> str:
        return "perhaps"

    with pytest.raises(ConfigError, match="a decision is 'perhaps'"):
        resume_session(session, store=store, entry=pay_program(store, []), decide=perhaps)


def test_other_code_does_nothing() -> None:
    whole, session, _ = run_once()
    store = cut(whole, session, 12)
    before = len(kinds(store, session))
    backend = ScriptedBackend(model)

    async def other() -> None:
        async with arecord("work"):
            await Agent("boss", backend, "You rule otherwise.", tools=[add]).acall(ASK, {"task": "it"})

    with pytest.raises(ReplayDivergence, match="lllm fork"):
        resume_session(session, store=store, entry=other)
    assert backend.requests == []
    assert len(kinds(store, session)) == before


def test_what_has_ended_is_not_resumed() -> None:
    store, session, _ = run_once()
    with pytest.raises(ConfigError, match=r"(?s)has ended: done.*lllm fork"):
        resume_session(session, store=store, entry=program(store, ScriptedBackend(model), []))


def test_one_writer() -> None:
    whole, session, _ = run_once()
    store = cut(whole, session, 12)
    store.claim(session)
    with pytest.raises(LogWriteError, match="being written by somebody else"):
        resume_session(session, store=store, entry=program(store, ScriptedBackend(model), []))
    store.release(session)
    assert (
        resume_session(session, store=store, entry=program(store, ScriptedBackend(model), [])).result
        == "42: a story"
    )


@tool(effect="pure", approval=True)
def launch(where: str) -> str:
    """Launches."""
    return f"launched to {where}"


@pytest.mark.parametrize("stream", [False, True])
def test_waits_approvals_and_streams(stream: bool) -> None:
    """A provider fault that is waited out, two approvals, and somebody who follows: cut off after every event."""
    failed: list[int] = []
    approved: list[str] = []

    def model(request: Request) -> Any:
        if len(request.messages) == 1 and not failed:
            failed.append(1)
            raise ServerError("down", status=503)
        if request.messages[-1].role != "tool":
            return [
                FunctionCall("l1", "launch", '{"where":"Mars"}'),
                FunctionCall("l2", "launch", '{"where":"Rome"}'),
            ]
        return " and ".join(message.text for message in request.messages if message.role == "tool")

    def yes(call: FunctionCall) -> Any:
        approved.append(call.id)
        return True if call.id == "l1" else "too near"

    def made(store: Any, backend: ScriptedBackend, seen: list[Any]) -> Any:
        async def main() -> str:
            agent = Agent("pilot", backend, tools=[launch], approve=yes, backoff_base=0.001)
            follow = (lambda call, delta: seen.append(delta)) if stream else None
            async with arecord("fly", store=store):
                return (await agent.acall("go", follow=follow)).content

        return main

    whole, backend = MemoryLog(), ScriptedBackend(model)
    result = asyncio.run(made(whole, backend, [])())
    assert result == "launched to Mars and error: not approved: too near"
    session = whole.sessions(1)[0].id
    written = kinds(whole, session)
    assert {ev.MODEL_FAILED, ev.WAIT_ENDED, ev.APPROVAL_GIVEN} <= set(written)
    for events in range(1, len(written)):
        store = cut(whole, session, events)
        before = kinds(store, session)
        approved.clear()
        failed[:] = [1] * (ev.MODEL_FAILED in before)
        asked, seen = ScriptedBackend(model), []  # type: ignore[var-annotated]
        done = resume_session(session, store=store, entry=made(store, asked, seen))
        assert done.result == result, events
        assert len(approved) == 2 - before.count(ev.APPROVAL_GIVEN)
        assert kinds(store, session).count(ev.WAIT_ENDED) == 1
        if stream and done.asked:
            assert seen  # what is said now is followed
        report = replay_session(session, store=store, entry=made(store, ScriptedBackend(model), []))
        assert report.verified, (events, report.divergence)


def test_the_deadline_does_not_count_the_time_in_which_nobody_worked() -> None:
    def made(store: Any) -> Any:
        async def main() -> str:
            agent = Agent("slow", ScriptedBackend(lambda _: "done"), deadline=5.0)
            async with arecord("slow", store=store):
                return (await agent.acall("go")).content

        return main

    whole = MemoryLog()
    asyncio.run(made(whole)())
    session = whole.sessions(1)[0].id
    at = kinds(whole, session).index(ev.MODEL_REQUESTED)
    store = cut(whole, session, at + 1)
    # as if it had been cut off an hour ago
    from lllm.core.envelope import seal

    records, prev = [], ""
    for record in store._sessions[session]:
        event = open_event(record.body)
        old = seal(
            session, event["seq"], event["at"] - 3_600_000_000, event["call"], event["dialog"], event["kind"],
            event["data"], prev,
        )  # fmt: skip
        records.append(old)
        prev = old.hash
    store._sessions[session] = records
    assert resume_session(session, store=store, entry=made(store)).result == "done"
    assert replay_session(session, store=store, entry=made(store)).verified
