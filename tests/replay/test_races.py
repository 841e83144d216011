"""What a replay says where a program goes by an order that no record has; and programs with several sessions."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, arecord, record, replay_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log.transcript import transcript
from lllm.ports import Request

Start = Callable[[Any], Any]
ASKED: list[str] = []


def model(request: Request) -> str:
    ASKED.append(request.messages[-1].text)
    return f"{len(ASKED)} {request.messages[-1].text}"


def named(store: MemoryLog) -> dict[str, str]:
    """The sessions by name."""
    return {open_event(store.read(info.id)[0])["data"].get("name", ""): info.id for info in store.sessions()}


def newest(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


@pytest.mark.parametrize(("start", "rule"), [(lllm.run, "all"), (asyncio.run, "answers")])
def test_the_log_and_the_report_say_of_what_there_is_an_order(start: Start, rule: str) -> None:
    store = MemoryLog()

    def program() -> None:
        async def main() -> None:
            async with arecord("x", store=store):
                await Agent("a", ScriptedBackend(model)).acall("go")

        start(main())

    program()
    first = open_event(store.read(newest(store))[0])
    assert first["data"]["inputs"] == rule
    report = replay_session(newest(store), store=store, entry=program)
    assert report.verified
    assert report.inputs == report.as_dict()["inputs"] == rule


def silent(store: MemoryLog, start: Start, beats: Callable[[], int]) -> Callable[[], None]:
    """A program whose last words depend on a counter that its log knows nothing of."""

    def program() -> None:
        async def main() -> None:
            agent = Agent("a", ScriptedBackend(model, delay=0.001))
            async with arecord("x", store=store):
                await asyncio.gather(agent.acall("one"), agent.acall("two"))
                await agent.acall(f"beats: {beats()}")

        start(main())

    return program


def test_a_race_that_no_record_has_is_named() -> None:
    store = MemoryLog()
    count = iter(range(100))
    program = silent(store, asyncio.run, lambda: next(count))
    program()
    found = replay_session(newest(store), store=store, entry=program).divergence
    assert found is not None
    assert found.hint is not None
    assert "an order that its log does not have" in found.hint
    assert "lllm.run(main())" in found.hint
    events = list(map(open_event, store.read(newest(store))))
    last = [e["seq"] for e in events if e["kind"] == ev.CALL_ENDED][:2]
    for seq in last:
        assert f"{seq} (CallEnded of " in found.hint


def test_where_the_log_has_the_order_the_code_is_to_blame() -> None:
    store = MemoryLog()
    count = iter(range(100))
    program = silent(store, lllm.run, lambda: next(count))
    program()
    found = replay_session(newest(store), store=store, entry=program).divergence
    assert found is not None
    assert "an order that" not in (found.hint or "")


def test_another_session_of_the_program_asks_no_model() -> None:
    store = MemoryLog()

    def program() -> None:
        for name in ("first", "second"):
            with record(name, store=store):
                Agent("a", ScriptedBackend(model))(name)

    program()
    ids = named(store)
    before = list(ASKED)
    report = replay_session(ids["first"], store=store, entry=program)
    assert report.verified, report.divergence
    assert "what the program does in other sessions was not re-executed" in report.notes
    assert before == ASKED
    assert len(store.sessions()) == 2


def test_a_transcript_does_not_have_what_is_for_replays() -> None:
    store = MemoryLog()

    async def main() -> None:
        async with arecord("x", store=store):
            await asyncio.sleep(0.001)
            await Agent("a", ScriptedBackend(model)).acall("go")

    lllm.run(main())
    events = list(map(open_event, store.read(newest(store))))
    assert [e["data"]["text"] for e in events if e["kind"] == ev.NOTE] == ["t1"]
    assert "note" not in {row.kind for row in transcript(events)}


def test_timeout_that_is_over_before_it_is_armed() -> None:
    """A process waits for a processor between the two looks that asyncio takes at the clock."""
    live = True

    class Late(asyncio.Timeout):
        async def __aenter__(self) -> asyncio.Timeout:
            if live:
                time.sleep(0.01)
            return await super().__aenter__()

    store = MemoryLog()

    async def main() -> None:
        agent = Agent("a", ScriptedBackend(model, delay=0.001))
        got: list[str] = []

        async def ask(words: str) -> None:
            got.append((await agent.acall(f"{words} {len(got)}")).content)

        async def within() -> None:
            try:
                async with Late(asyncio.get_running_loop().time() + 0.005):
                    await asyncio.gather(ask("one"), asyncio.sleep(1))
            except TimeoutError:
                got.append("late")

        async with arecord("x", store=store):
            await asyncio.gather(within(), ask("two"), asyncio.sleep(0.001))
            await ask(" ".join(got))

    lllm.run(main())
    live = False
    report = replay_session(newest(store), store=store, entry=lambda: lllm.run(main()))
    assert report.verified, report.divergence


def test_job_dropped_before_a_thread_began() -> None:
    """It does not run in the replay either, where a thread is free for it. One that had begun does."""
    store, ran, go = MemoryLog(), list[str](), threading.Event()

    async def main() -> None:
        agent, loop = Agent("a", ScriptedBackend(model)), asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            async with arecord("x", store=store):
                first = loop.run_in_executor(pool, lambda: (ran.append("first"), go.wait()))
                second = loop.run_in_executor(pool, ran.append, "second")
                await agent.acall("go")
                second.cancel()
                await asyncio.gather(second, return_exceptions=True)
                go.set()
                await first
                await agent.acall("on")

    lllm.run(main())
    assert ran == ["first"]
    noted = [
        e["data"]["text"].split() for e in map(open_event, store.read(newest(store))) if e["kind"] == ev.NOTE
    ]
    assert "-e2" in noted[0]
    report = replay_session(newest(store), store=store, entry=lambda: lllm.run(main()))
    assert report.verified, report.divergence
    assert ran == ["first", "first"]


def test_two_sessions_in_one_loop() -> None:
    store = MemoryLog()

    async def one(name: str) -> None:
        agent = Agent(name, ScriptedBackend(model, delay=0.001))
        got: list[str] = []

        async def ask(words: str) -> None:
            got.append((await agent.acall(words)).content)

        async with arecord(name, store=store):
            await asyncio.gather(*(ask(f"{name} {n}") for n in range(4)))
            await asyncio.wait_for(ask(" ".join(got)), 5)

    async def both() -> None:
        await asyncio.gather(one("left"), one("right"))

    lllm.run(both())
    before = list(ASKED)
    for name, session in named(store).items():
        report = replay_session(session, store=store, entry=lambda name=name: lllm.run(one(name)))
        assert report.verified, report.divergence
    assert before == ASKED


def test_a_thread_without_a_session_does_no_effect() -> None:
    store, ran, failed = MemoryLog(), list[str](), list[BaseException]()

    @lllm.activity
    def charge(item: str) -> str:
        ran.append(item)
        return item

    def program() -> None:
        def work() -> None:
            try:
                charge("tea")
            except lllm.LLMError as error:
                failed.append(error)

        with record("x", store=store):
            Agent("a", ScriptedBackend(model))("one")
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    program()
    assert ran == ["tea"]
    assert replay_session(newest(store), store=store, entry=program).verified
    assert ran == ["tea"]
    assert "pass session=" in str(failed[-1])


def test_a_program_that_handles_signals_replays() -> None:
    store = MemoryLog()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        async with arecord("x", store=store):
            await Agent("a", ScriptedBackend(model)).acall("go")
        loop.remove_signal_handler(signal.SIGUSR1)

    lllm.run(main())
    assert replay_session(newest(store), store=store, entry=main).verified
