"""A call that was handed back at once has no name in the log: a resumed session finds out that it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lllm import Agent, MemoryLog, arecord, inputs
from lllm.backends.scripted import ScriptedBackend
from lllm.core.envelope import open_event
from lllm.errors import ReplayDivergence
from lllm.loops import run
from lllm.ports import Delta, Request
from lllm.replay import replay_session, resume, resume_session
from lllm.session_log import SessionLog

LATE = {"q0": 0.06, "q1": 0.02, "q2": 0.021}
"""Seconds until each reply: that to q1 comes just before that to q2."""


class Slow(ScriptedBackend):
    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(LATE.get(request.messages[-1].text, 0.001))
        async for delta in super().stream(request):
            yield delta


async def main(store: MemoryLog) -> list[str]:
    """Calls side by side, each of which says then how many had returned."""
    got: list[str] = []
    agent = Agent("a", Slow(lambda request: request.messages[-1].text))

    async def one(n: int) -> None:
        reply = await agent.acall(f"q{n}")
        got.append(reply.content)
        words = f"{n} was number {len(got)}"
        if n == 1:
            await asyncio.to_thread(time.sleep, 0.02)  # nothing tells of its return for a while
        await agent.acall(words)

    async with arecord("work", store=store):
        await asyncio.gather(*(one(n) for n in range(3)))
    return got


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryLog, str]:
    """A log in which c2 was handed back without a note and c3 with one, up to what both brought about."""
    kept = SessionLog.hand_back

    async def hand_back(self: Any, name: str) -> None:
        if name == "c2":
            return
        if name == "c3":
            with inputs.effect():
                await asyncio.sleep(0.005)
            self.inputs.came.append(name)
        else:
            await kept(self, name)

    store = MemoryLog()
    with monkeypatch.context() as patched:
        patched.setattr(SessionLog, "hand_back", hand_back)
        run(main(store))
    session = store.sessions(1)[0].id
    events = [open_event(body) for body in store.read(session)]
    noted = [event["data"].get("text") for event in events if event["kind"] == "Note"]
    assert any("c3" in words for words in noted)
    assert not any("c2" in words for words in noted)
    until = next(
        e["seq"] for e in events if e["kind"] == "CallStarted" and "number 2" in str(e["data"]["add"])
    )
    left = MemoryLog()
    left._sessions[session] = store._sessions[session][: until + 1]
    left._blobs = dict(store._blobs)
    return left, session


def test_it_is_handed_back_at_once_again(cut_off: tuple[MemoryLog, str]) -> None:
    store, session = cut_off
    before = list(store.read(session))
    resume_session(session, store=store, entry=lambda: main(store))
    assert list(store.read(session))[: len(before)] == before
    assert replay_session(session, store=store, entry=lambda: main(store)).verified


def test_without_another_try_it_differs(
    cut_off: tuple[MemoryLog, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the log above is one that needs it; and where nothing fits, nothing is added to it."""
    store, session = cut_off
    before = list(store.read(session))
    monkeypatch.setattr(resume, "RETURNS", 0)
    with pytest.raises(ReplayDivergence):
        resume_session(session, store=store, entry=lambda: main(store))
    assert list(store.read(session)) == before
