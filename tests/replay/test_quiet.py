"""asyncio says nothing about the tasks of a program that a replay has stopped, and all about others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

import lllm
from benchmarks.order.runs import noise
from lllm import Agent, MemoryLog, ScriptedBackend, arecord, fork_session, replay_session, resume_session
from lllm.errors import ReplayDivergence
from lllm.replay import apart


def program(store: MemoryLog, words: list[str]) -> Callable[[], Any]:
    """Tasks that nobody waits for, and one that is never done."""

    async def main() -> None:
        agent = Agent("a", ScriptedBackend(lambda _: "yes"))

        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    break

        async with arecord("x", store=store):
            tasks = [asyncio.ensure_future(agent.acall(text)) for text in words]
            tasks.append(asyncio.ensure_future(stubborn()))
            await asyncio.wait(tasks[:-1])
            await agent.acall("end")

    return main


@pytest.mark.parametrize("start", [lllm.run, asyncio.run])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("how", ["diverges", "unfinished", "halted"])
def test_tasks_of_a_stopped_program(start: Callable[[Any], Any], plain: bool, how: str) -> None:
    store, words = MemoryLog(), ["one", "two"]
    made = program(store, words)
    start(made())
    (session,) = (info.id for info in store.sessions())
    entry = (lambda: start(made())) if plain else made
    if how != "diverges":
        store._sessions[session] = store._sessions[session][:8]
    if how != "unfinished":
        words[:] = ["one", "other"]
    with noise() as complaints:
        if how == "halted":
            with pytest.raises(ReplayDivergence):
                resume_session(session, store=store, entry=entry)
        else:
            report = replay_session(session, store=store, entry=entry)
            assert report.verified is (how == "unfinished")
        gc.collect()
    assert complaints == []


def test_a_task_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is thrown away with its loop."""
    monkeypatch.setattr(apart, "PATIENCE", 0.1)
    store, words = MemoryLog(), ["one"]
    live = True

    async def main() -> None:
        async def stays() -> None:
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    if live:
                        raise

        async with arecord("x", store=store):
            task = asyncio.ensure_future(stays())
            for text in words:
                await Agent("a", ScriptedBackend(["yes"])).acall(text)
            task.cancel()

    asyncio.run(main())
    words[:], live = ["other"], False
    with noise() as complaints:
        assert not replay_session(store.sessions()[0].id, store=store, entry=main).verified
        gc.collect()
    assert complaints == []


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("how", ["replay", "fork"])
def test_faults_of_the_program_itself_are_told(plain: bool, how: str) -> None:
    """Those of tasks of the program that a replay has not stopped; and of the caller's own tasks."""
    store = MemoryLog()

    async def main() -> None:
        async def fails() -> None:
            raise RuntimeError("a fault of the program")

        async with arecord("x", store=store):
            task = asyncio.ensure_future(fails())
            await Agent("a", ScriptedBackend(["yes"] * 3)).acall("one")
            del task
            gc.collect()

    with noise():
        lllm.run(main())
        gc.collect()
    session = store.sessions()[0].id
    entry = (lambda: lllm.run(main())) if plain else main
    with noise() as complaints:
        if how == "replay":
            assert replay_session(session, store=store, entry=entry).verified
        else:
            fork_session(session, store=store, entry=entry)
        gc.collect()
    assert complaints == ["Task exception was never retrieved"]
