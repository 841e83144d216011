"""Threads, loops and processes: calls side by side are told apart, now and in a replay."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import Agent, ScriptedBackend, errors, record, replay_session
from lllm.log import SQLiteLog
from lllm.log.memory import MemoryLog
from lllm.ports import Request


def echo(request: Request) -> str:
    return f"heard {request.messages[-1].text}"


def test_calls_that_come_in_another_order_now_are_known_again() -> None:
    store = MemoryLog()

    def program(order: list[int]) -> None:
        agent = Agent("a", ScriptedBackend(echo), store=store)
        with record("x", store=store):
            for number in order:
                agent(f"number {number}")

    program([1, 2, 3])
    (info,) = store.sessions()
    report = replay_session(info.id, store=store, entry=lambda: program([3, 1, 2]))
    assert report.verified, report.divergence


def test_threads_in_one_session_are_replayed() -> None:
    store = MemoryLog()

    def program() -> None:
        agent = Agent("a", ScriptedBackend(echo), store=store)
        with record("x", store=store), ThreadPoolExecutor(8) as pool:
            jobs = [
                pool.submit(contextvars.copy_context().run, agent, f"number {number}") for number in range(40)
            ]
            assert [job.result().content for job in jobs] == [f"heard number {n}" for n in range(40)]

    program()
    (info,) = store.sessions()
    report = replay_session(info.id, store=store, entry=program)
    assert report.verified, report.divergence
    assert report.reexecuted == 40


def test_a_forked_process_has_sessions_of_its_own(tmp_path: Path) -> None:
    store = SQLiteLog(tmp_path / "log.db")
    agent = Agent("a", ScriptedBackend(echo), store=store)
    with record("x", store=store) as session:
        agent("one")
        child = os.fork()
        if not child:
            code = 1
            try:
                agent("two")
                with pytest.raises(errors.LogWriteError, match="forked"):
                    agent("three", session=session)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        agent("four")
    assert len(store.sessions()) == 2
    assert replay_session(session.id, store=store).verified
    store.close()


def test_one_agent_in_many_loops() -> None:
    agent = Agent("a", ScriptedBackend(echo), store=MemoryLog())

    async def within() -> str:
        return agent("in a loop").content + (await agent.acall("awaited")).content

    heard = [asyncio.run(within()) for _ in range(3)]
    thread = threading.Thread(target=lambda: heard.append(agent("in a thread").content))
    thread.start()
    thread.join()
    assert heard == ["heard in a loopheard awaited"] * 3 + ["heard in a thread"]
