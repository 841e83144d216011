"""Calls that were stopped from outside, in programs that went on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, Prompt, ScriptedBackend, arecord, record, replay_session, tool
from lllm.errors import LogWriteError
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall


def closing_a_stream(store: MemoryLog) -> None:
    agent = Agent("a", ScriptedBackend(["many words " * 10, "Two."], chunk=3, delay=0.001))
    with record("x", store=store):
        for _ in agent.stream("one"):
            break
        agent("two")


async def cancelling_a_task(store: MemoryLog) -> None:
    async with arecord("x", store=store):
        model = ScriptedBackend(["y"], delay=600)
        slow = asyncio.ensure_future(Agent("slow", model).acall("one"))
        while not (model.requests or slow.done()):  # a replay asks no model
            await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await Agent("quick", ScriptedBackend(["z"])).acall("two")


async def losing_patience(store: MemoryLog) -> None:
    async with arecord("x", store=store):
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await asyncio.wait_for(Agent("slow", ScriptedBackend(["y"], delay=60)).acall("one"), 0.02)
        await Agent("quick", ScriptedBackend(["z"])).acall("two")


@pytest.mark.parametrize("program", [closing_a_stream, cancelling_a_task, losing_patience])
def test_a_program_that_went_on_is_replayed(program: Callable[[MemoryLog], Any]) -> None:
    store = MemoryLog()

    def run() -> None:
        asyncio.run(program(store)) if asyncio.iscoroutinefunction(program) else program(store)

    run()
    (info,) = store.sessions()
    report = replay_session(info.id, store=store, entry=run)
    assert report.verified, report.divergence
    assert report.reexecuted == 2


def test_odd_texts_everywhere_are_replayed() -> None:
    store = MemoryLog()

    def program() -> None:
        ask = Prompt(path="odd/ask", prompt="\udc80 {x}", required_xml_tags=["a"])
        agent = Agent("a", ScriptedBackend(["bad \udc80", "<a>\udc80\x00</a>"]), "system \udc80")
        with record("x", store=store):
            agent(ask, {"x": "\udc80 \x00 \N{GRINNING FACE}"})

    program()
    (info,) = store.sessions()
    report = replay_session(info.id, store=store, entry=program)
    assert report.verified, report.divergence


def test_a_tool_that_had_timed_out_does_not_go_on_in_a_session_that_has_ended() -> None:
    store = MemoryLog()
    gave_up = threading.Event()
    raised: list[BaseException] = []

    def late() -> str:
        gave_up.wait(120)
        try:
            return Agent("inner", ScriptedBackend(["y"]))("x").content
        except (asyncio.CancelledError, LogWriteError) as error:
            raised.append(error)
            raise
        finally:
            over.set()

    over = threading.Event()
    with record("x", store=store):
        calls = ScriptedBackend([FunctionCall("", "late", "{}"), "Done."])
        Agent("outer", calls, tools=[tool(timeout=0.05)(late)])("x")
    gave_up.set()
    assert over.wait(120)
    assert "has been stopped" in str(raised[0])  # or the session "has ended", where nothing stopped it
    (info,) = store.sessions()
    assert info.status == "done"
