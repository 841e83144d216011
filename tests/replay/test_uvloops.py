"""Programs in a uvloop: recorded there as they are, replayed in a loop whose order can be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from lllm import Agent, MemoryLog, ScriptedBackend, arecord, replay_session, resume_session
from lllm.core.envelope import open_event
from lllm.ports import Request
from lllm.replay.fork import afork_session

DELAYS = (0.006, 0.001, 0.004, 0.002)


def by_run(main: Any) -> Any:
    return uvloop.run(main)


def by_factory(main: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def program(
    store: MemoryLog, start: Callable[[Any], Any], loops: list[type], asked: list[str]
) -> Callable[[], Any]:
    def model(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return f"{len(asked)} {request.messages[-1].text}"

    def entry() -> None:
        async def main() -> None:
            loops.append(type(asyncio.get_running_loop()))
            got: list[str] = []

            async def ask(number: int) -> None:
                agent = Agent(f"a{number}", ScriptedBackend(model, delay=DELAYS[number]))
                got.append((await agent.acall(f"q{number}")).content)

            async with arecord("x", store=store):
                await asyncio.gather(*map(ask, range(len(DELAYS))))
                await asyncio.wait_for(ask(0), 30)
                await Agent("end", ScriptedBackend(model)).acall(" ".join(got))

        start(main())

    return entry


@pytest.mark.parametrize("start", [by_run, by_factory])
def test_a_program_in_a_uvloop_replays_and_is_resumed(start: Callable[[Any], Any]) -> None:
    store, loops, asked = MemoryLog(), list[type](), list[str]()
    entry = program(store, start, loops, asked)
    entry()
    assert loops == [uvloop.Loop]
    session = store.sessions(1)[0].id
    assert open_event(store.read(session)[0])["data"]["inputs"] == "answers"
    before = list(asked)
    report = replay_session(session, store=store, entry=entry)
    assert report.verified, report.divergence
    assert asked == before
    cut = MemoryLog()
    cut._sessions[session] = store._sessions[session][:14]
    cut._blobs = dict(store._blobs)
    entry = program(cut, start, loops, list(asked))
    resume_session(session, store=cut, entry=entry)
    assert replay_session(session, store=cut, entry=entry).verified
    assert loops[0] is uvloop.Loop
    start(kind(loops))
    assert loops[-1] is loops[0]  # after the replay, programs get real ones again


def by_policy(main: Any) -> Any:
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        return asyncio.run(main)
    finally:
        asyncio.set_event_loop_policy(before)


def by_class(main: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize("start", [by_run, by_factory, by_policy, by_class])
@pytest.mark.parametrize("caller", [by_run, asyncio.run])
def test_a_program_in_a_uvloop_is_forked(start: Callable[[Any], Any], caller: Callable[[Any], Any]) -> None:
    """Its fork has the order of its parent, whichever loop it is asked for in."""
    store, loops, asked = MemoryLog(), list[type](), list[str]()
    entry = program(store, start, loops, asked)
    entry()
    (session,) = (info.id for info in store.sessions())
    before = len(asked)
    done = caller(afork_session(session, store=store, entry=entry))
    assert (done.reused, done.changed, done.new, len(asked) - before) == (before, 0, 0, 0)
    assert replay_session(done.session, store=store, entry=entry).verified
    replies = [event for event in events(store, session) if event["kind"] == "ModelReplied"]
    for event in replies[1::2]:
        asked.clear()
        done = caller(afork_session(session, at=event["seq"], edit="EDIT", store=store, entry=entry))
        assert (done.status, done.notes) == ("done", [])
        assert len(asked) == done.changed + done.new < before
        shared = [one["data"] for one in replies if one["seq"] < event["seq"]]
        made = [one["data"] for one in events(store, done.session) if one["kind"] == "ModelReplied"]
        assert [one["message"] for one in made[: len(shared)]] == [one["message"] for one in shared]
        assert [one["message"]["content"] for one in made].count("EDIT") == 1
        assert replay_session(done.session, store=store, entry=entry).verified
    assert loops[0] is uvloop.Loop
    start(kind(loops))
    assert loops[-1] is loops[0]


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


async def kind(loops: list[type]) -> None:
    loops.append(type(asyncio.get_running_loop()))
