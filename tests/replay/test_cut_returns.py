"""A session that is cut off while calls and effects are being handed back: what the log does not have yet waits for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import lllm
from benchmarks.order.runs import made
from lllm import Agent, MemoryLog, ScriptedBackend, activity, arecord, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event

RUNS = 4


def test_returns_that_the_log_does_not_have_wait_for_its_end() -> None:
    """Effects that time out together: the program counts them, so the order in which they return is in what it does next."""
    cuts = 0
    for _ in range(RUNS):
        whole = MemoryLog()
        made("effects_with_timeouts", whole).live()
        session = whole.sessions(1)[0].id
        events = [open_event(body) for body in whole.read(session)]
        for place in range(1, len(events) - 1):
            before = events[place - 1]["data"]
            if events[place]["kind"] != ev.NOTE and not (
                before.get("of") == "inputs" or before.get("cancelled")
            ):
                continue
            cuts += 1
            for at in (place, place + 1):
                store = MemoryLog()
                store._sessions[session] = whole._sessions[session][:at]
                store._blobs = dict(whole._blobs)
                entry = made("effects_with_timeouts", store).entries["x0"]
                resume_session(session, store=store, entry=entry, decide="retry")
                report = replay_session(session, store=store, entry=entry)
                assert report.verified, (at, report.divergence)
    assert cuts


@activity(effect="idempotent")
async def pay(label: str) -> str:
    await asyncio.sleep(60)
    return label


@activity(effect="idempotent")
async def slow(n: int) -> str:
    await asyncio.sleep(0.006 * n)
    return str(n)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("kind", [ev.CALL_ENDED, ev.EFFECT_RETURNED])
def test_what_begins_after_the_last_event_may_be_stopped_at_once(kind: str, turns: int) -> None:
    """It has begun by then, as in a replay: the record's end is not waited for."""

    def entry_of(store: MemoryLog) -> Callable[[], None]:
        async def main() -> None:
            async with arecord("x", store=store):
                agent = Agent("a", ScriptedBackend(lambda request: "yes"))
                await agent.acall("first")
                lllm.uuid()
                task = asyncio.ensure_future(pay("beside"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await agent.acall("then")

        return lambda: lllm.run(main())

    whole = MemoryLog()
    entry_of(whole)()
    session = whole.sessions(1)[0].id
    kinds = [open_event(body)["kind"] for body in whole.read(session)]
    store = MemoryLog()
    store._sessions[session] = whole._sessions[session][: kinds.index(kind) + 1]
    store._blobs = dict(whole._blobs)
    resume_session(session, store=store, entry=entry_of(store), decide="retry")
    assert ev.EFFECT_REQUESTED in [open_event(body)["kind"] for body in store.read(session)]
    report = replay_session(session, store=store, entry=entry_of(store))
    assert report.verified, report.divergence


class Slow(MemoryLog):
    """A store that takes a while for the first effects that return: others come about while they wait for their log. The last
    ones are handed back at once, and the log does not say where."""

    async def append(self, records: Any, blobs: Any = None) -> None:
        events = [open_event(record.body) for record in records]
        if any(event["kind"] == ev.EFFECT_RETURNED and event["data"]["n"] < 3 for event in events):
            await asyncio.sleep(0.012)
        await super().append(records, blobs)


def test_a_resumed_session_notes_where_it_has_handed_back_what_the_log_does_not_have() -> None:
    """Two effects returned, and the log has not where; timers fired meanwhile. What follows depends on their order."""

    def entry_of(store: MemoryLog) -> Callable[[], None]:
        async def main() -> None:
            got: list[str] = []

            async def beat() -> None:
                while True:
                    await asyncio.sleep(0.004)
                    got.append(".")

            async def one(n: int) -> None:
                for more in range(3):
                    got.append(await slow(n + more))  # noqa: PERF401 - others see it as it comes

            async with arecord("x", store=store):
                agent = Agent("a", ScriptedBackend(lambda request: request.messages[-1].text))
                beats = asyncio.ensure_future(beat())
                await asyncio.gather(one(1), one(2))
                beats.cancel()
                await slow(1)  # it shows that both have returned, and not when
                await agent.acall(" ".join(got))

        return lambda: lllm.run(main())

    whole = Slow()
    entry_of(whole)()
    session = whole.sessions(1)[0].id
    noted = 0
    for place in range(2, len(list(whole.read(session))) - 2):
        store = MemoryLog()
        store._sessions[session] = whole._sessions[session][:place]
        store._blobs = dict(whole._blobs)
        resume_session(session, store=store, entry=entry_of(store), decide="retry")
        report = replay_session(session, store=store, entry=entry_of(store))
        assert report.verified, (place, report.divergence)
        events = [open_event(body) for body in store.read(session)]
        noted += sum("returned" in event["data"] for event in events if event["kind"] == ev.SESSION_RESUMED)
    assert noted


def test_an_effect_waits_for_its_answer_in_a_loop_that_a_blocking_call_blocks() -> None:
    """Where the call came back is not in the log: it comes back first, since nothing else can."""

    def entry_of(store: MemoryLog) -> Callable[[], None]:
        async def main() -> None:
            async with arecord("x", store=store):
                agent = Agent("a", ScriptedBackend(lambda request: request.messages[-1].text))
                await asyncio.gather(slow(1), slow(2))
                task = asyncio.ensure_future(slow(3))
                await asyncio.sleep(0)
                agent("blocks")
                await task
                await agent.acall("then")

        return lambda: lllm.run(main())

    whole = Slow()
    entry_of(whole)()
    session = whole.sessions(1)[0].id
    for place in range(2, len(list(whole.read(session))) - 2):
        store = MemoryLog()
        store._sessions[session] = whole._sessions[session][:place]
        store._blobs = dict(whole._blobs)
        resume_session(session, store=store, entry=entry_of(store), decide="retry")
        assert replay_session(session, store=store, entry=entry_of(store)).verified


def test_what_a_resumed_session_handed_back_at_once_is_so_when_it_is_resumed_again() -> None:
    """A call was stopped, and the process died before its caller heard of it; the next one told it at once."""

    def entry_of(store: MemoryLog) -> Callable[[], None]:
        async def model(request: Any) -> str:
            await asyncio.sleep(0.05)
            return "late"

        async def main() -> None:
            got: list[str] = []

            async def beat() -> None:
                while True:
                    await asyncio.sleep(0.004)
                    got.append(".")

            async def one(n: int) -> None:
                for more in range(3):
                    try:
                        await asyncio.wait_for(agent.acall(f"{n} after {len(got)}"), 0.006 * n + more / 1000)
                    except TimeoutError:
                        got.append(str(n))

            async with arecord("x", store=store):
                agent = Agent("a", ScriptedBackend(model))
                beats = asyncio.ensure_future(beat())
                await asyncio.gather(slow(1), slow(2), one(1), one(2))
                beats.cancel()

        return lambda: lllm.run(main())

    def cut(store: MemoryLog, place: int) -> MemoryLog:
        out = MemoryLog()
        out._sessions[session] = store._sessions[session][:place]
        out._blobs = dict(store._blobs)
        return out

    whole = Slow()
    entry_of(whole)()
    session = whole.sessions(1)[0].id
    kinds = [open_event(body)["kind"] for body in whole.read(session)]
    ends = [place for place, kind in enumerate(kinds, 1) if kind == ev.CALL_ENDED]
    for place in ends:
        first = cut(whole, place)
        resume_session(session, store=first, entry=entry_of(first), decide="retry")
        for again in range(place + 2, len(list(first.read(session))) - 1, 3):
            second = cut(first, again)
            resume_session(session, store=second, entry=entry_of(second), decide="retry")
            report = replay_session(session, store=second, entry=entry_of(second))
            assert report.verified, (place, again, report.divergence)
