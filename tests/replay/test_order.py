"""Whole programs are replayed in the order of their record, and in its time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import LLMError, ReplayDivergence
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, record
from lllm.log.memory import MemoryLog
from lllm.replay import apart, order, replay_session, timers
from lllm.replay.again import areplay_session
from lllm.replay.resume import resume_session


def program(store: MemoryLog, body: Callable[[Agent], Awaitable[Any]]) -> Callable[[], Any]:
    async def main() -> Any:
        async with arecord("work", store=store):
            return await body(Agent("a", ScriptedBackend(lambda request: request.messages[-1].text)))

    return main


def recorded(body: Callable[[Agent], Awaitable[Any]]) -> tuple[MemoryLog, str]:
    store = MemoryLog()
    asyncio.run(program(store, body)())
    return store, store.sessions(1)[0].id


def test_a_timeout_that_cancelled_a_call_cancels_it_again() -> None:
    """By the record, and not by the clock: the call that follows is answered although it takes as long."""
    ends: list[str] = []

    class Some(ScriptedBackend):
        async def stream(self, request: Any) -> Any:
            if request.messages[-1].text == "never":
                await asyncio.Event().wait()
            async for delta in super().stream(request):
                yield delta

    async def body(_: Agent) -> None:
        agent = Agent("a", Some(lambda _: "yes"))
        for words, seconds in (("never", 0.01), ("soon", 600.0), ("never", 0.01)):
            try:
                async with asyncio.timeout(seconds):
                    ends.append((await agent.acall(words)).content)
            except TimeoutError:
                ends.append("late")

    store, session = recorded(body)
    assert ends == ["late", "yes", "late"]
    ends.clear()
    assert replay_session(session, store=store, entry=program(store, body)).verified
    assert ends == ["late", "yes", "late"]


def test_a_replay_takes_none_of_the_programs_time() -> None:
    waits = 0.2

    async def body(agent: Agent) -> None:
        for n in range(3):
            await asyncio.sleep(waits)
            await agent.acall(f"q{n}")

    store, session = recorded(body)
    waits = 15.0  # of the record's time
    begun = time.monotonic()
    assert replay_session(session, store=store, entry=program(store, body)).verified
    assert time.monotonic() - begun < 45


def test_a_resumed_program_waits_again_in_real_time() -> None:
    spent: list[float] = []

    async def body(agent: Agent) -> None:
        await agent.acall("one")
        begun = asyncio.get_running_loop().time(), time.monotonic()
        await asyncio.sleep(0.05)
        spent[:] = [asyncio.get_running_loop().time() - begun[0], time.monotonic() - begun[1]]
        await agent.acall("two")

    whole, session = recorded(body)
    events = [open_event(each) for each in whole.read(session)]
    second = next(
        event["seq"] for event in events if event["kind"] == ev.CALL_STARTED and event["call"] == "c2"
    )
    store = MemoryLog()
    store._sessions[session] = whole._sessions[session][:second]
    store._blobs = dict(whole._blobs)
    resume_session(session, store=store, entry=program(store, body))
    assert spent[1] >= 0.05
    assert replay_session(session, store=store, entry=program(store, body)).verified


def test_the_callers_loop_keeps_its_time() -> None:
    async def body(agent: Agent) -> None:
        await asyncio.sleep(0.1)
        await agent.acall("one")

    store, session = recorded(body)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time() - time.monotonic()
        async with asyncio.timeout(60):
            assert (await areplay_session(session, store=store, entry=program(store, body))).verified
        assert abs(loop.time() - time.monotonic() - before) < 1e-3
        assert type(loop._selector).__module__ == "selectors"

    asyncio.run(main())


def test_two_replays_in_one_loop_do_not_disturb_each_other() -> None:
    async def body(agent: Agent) -> None:
        async def one(n: int) -> None:
            await asyncio.sleep(0.01 * (3 - n))
            await agent.acall(f"q{n}")

        await asyncio.gather(*(one(n) for n in range(3)))

    made = [recorded(body) for _ in range(2)]

    async def main() -> list[bool]:
        replays = [
            areplay_session(session, store=store, entry=program(store, body)) for store, session in made
        ]
        return [report.verified for report in await asyncio.gather(*replays)]

    assert asyncio.run(main()) == [True, True]


def test_a_program_that_waits_for_what_never_comes_is_a_divergence_at_once() -> None:
    """It names the event, and the place in the program."""
    waits = False

    async def body(agent: Agent) -> None:
        await agent.acall("one")
        if waits:
            await asyncio.Event().wait()
        await agent.acall("two")

    store, session = recorded(body)
    waits = True
    with pytest.raises(ReplayDivergence, match=r"event 6 \(CallStarted\)(.|\n)*body \(.*test_order.py"):
        replay_session(session, store=store, entry=program(store, body), raises=True)


def test_a_program_that_does_not_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "CLOSING", 0.1)
    waits = False

    async def main() -> None:
        async with arecord("work", store=store):
            await Agent("a", ScriptedBackend(lambda _: "yes")).acall("one")
        if waits:
            await asyncio.Event().wait()

    store = MemoryLog()
    asyncio.run(main())
    waits = True
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main)
    assert report.divergence is not None
    assert "does not come to its end" in report.divergence.cause


@pytest.fixture
def idle_thread() -> Iterator[None]:
    """A thread that nobody knows: it might belong to the program."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="unknown")
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_heartbeat_beside_an_unknown_thread_ends(
    idle_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is waited for at each beat, and so a few beats must be enough: 6,000 took 25 minutes."""
    monkeypatch.setattr(order, "BEATS", 2)
    monkeypatch.setattr(order, "BEATING", 0.1)
    test_a_heartbeat_does_not_keep_a_replay_from_ending(10_000)


@pytest.mark.parametrize("beats", [1, 10_000])
def test_a_heartbeat_does_not_keep_a_replay_from_ending(beats: int) -> None:
    """A program that waits for ever beside a timer that comes again and again."""
    waits = False

    async def body(agent: Agent) -> None:
        async def beat() -> None:
            while True:
                await asyncio.sleep(100 / beats)

        task = asyncio.create_task(beat())
        await agent.acall("one")
        if waits:
            await asyncio.Event().wait()
        await agent.acall("two")
        task.cancel()

    store, session = recorded(body)
    assert replay_session(session, store=store, entry=program(store, body)).verified
    waits = True
    report = replay_session(session, store=store, entry=program(store, body))
    assert report.divergence is not None
    assert "does not bring this event about" in report.divergence.cause


def test_threads_with_the_session_are_answered_in_the_recorded_order() -> None:
    """Each thread is given the session; the second waits for the first outside of any event."""
    store = MemoryLog()
    first = threading.Event()
    ends: list[str] = []

    def main() -> None:
        first.clear()
        with record("work", store=store) as session:
            agent = Agent("a", ScriptedBackend(lambda request: request.messages[-1].text))

            def one() -> None:
                ends.append(agent("one", session=session).content)
                first.set()

            def two() -> None:
                first.wait(60)
                ends.append(agent("two", session=session).content)

            threads = [threading.Thread(target=target) for target in (two, one)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    main()
    assert ends == ["one", "two"]
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main)
    assert (report.verified, report.whole) == (True, True)
    assert ends == ["one", "two"] * 2


def test_a_thread_without_the_session_asks_no_model_in_a_replay() -> None:
    store, own, asked, refused = MemoryLog(), MemoryLog(), [0], list[str]()

    def model(request: Any) -> str:
        asked[0] += 1
        return "yes"

    def main() -> None:
        agent = Agent("a", ScriptedBackend(model), store=own)

        def stray() -> None:
            try:
                agent("without a session")
            except LLMError as error:
                refused.append(str(error))

        with record("work", store=store):
            agent("one")
            thread = threading.Thread(target=stray)
            thread.start()
            thread.join()

    main()
    assert (asked, refused) == ([2], [])
    assert replay_session(store.sessions(1)[0].id, store=store, entry=main).verified
    assert asked == [2]
    assert len(own.sessions()) == 1
    assert "pass session=" in refused[0]


def test_a_resumed_program_that_waits_for_something_else_can_be_resumed_still() -> None:
    waits = False

    async def body(agent: Agent) -> None:
        await agent.acall("one")
        if waits:
            await asyncio.Event().wait()
        await agent.acall("two")

    whole, session = recorded(body)
    store = MemoryLog()
    store._sessions[session] = whole._sessions[session][:-2]
    store._blobs = dict(whole._blobs)
    before = list(store.read(session))
    waits = True
    with pytest.raises(ReplayDivergence, match="does not bring this event about"):
        resume_session(session, store=store, entry=program(store, body))
    assert list(store.read(session)) == before
    waits = False
    resume_session(session, store=store, entry=program(store, body))
    assert replay_session(session, store=store, entry=program(store, body)).verified


def test_a_program_that_cannot_be_stopped_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 0.1)
    waits, release = False, threading.Event()

    def main() -> None:
        with record("work", store=store):
            agent = Agent("a", ScriptedBackend(lambda _: "yes"))
            agent("one")
            if waits:
                release.wait()
            agent("two")

    store = MemoryLog()
    main()
    monkeypatch.setattr(order, "SILENCE", 0.2)
    waits = True
    try:
        report = replay_session(store.sessions(1)[0].id, store=store, entry=main)
    finally:
        release.set()
    assert report.divergence is not None
    assert "does not bring this event about" in report.divergence.cause


def test_heartbeat_is_no_reason_to_wait() -> None:
    """A program of today that does nothing else is given up after some beats, and not after a minute of them."""
    beats, asks = 0, True

    async def body(agent: Agent) -> None:
        nonlocal beats
        if asks:
            await agent.acall("one")
            return
        while True:
            await asyncio.sleep(0.0001)
            beats += 1

    store, session = recorded(body)
    asks = False
    report = replay_session(session, store=store, entry=program(store, body))
    assert report.divergence is not None
    assert order.BEATS / 2 < beats < order.LATE / 1e6 / 0.0001 / 2


def test_many_timers_do_not_make_it_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that may fire next are looked at: not every one at each answer."""
    looked = 0
    whom = timers.cancels

    def counted(timer: Any) -> Any:
        nonlocal looked
        looked += 1
        return whom(timer)

    monkeypatch.setattr(timers, "cancels", counted)

    async def body(agent: Agent) -> None:
        await asyncio.gather(*(asyncio.wait_for(agent.acall(f"q{n}"), 500) for n in range(50)))

    store, session = recorded(body)
    assert replay_session(session, store=store, entry=program(store, body)).verified
    assert looked < 500
