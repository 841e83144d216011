"""Logs whose ToolReturned spells an exception as its repr, as the first versions did, read like those of today."""

from __future__ import annotations

import asyncio

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, record, tool
from lllm.core import events as ev
from lllm.core.envelope import Record, open_event, seal
from lllm.log.export import FORMATS, export
from lllm.log.transcript import transcript
from lllm.replay import replay_session


def program(store: MemoryLog) -> str:
    @tool(timeout=0.01, effect="pure")
    async def wait() -> str:
        """Waits for too long."""
        await asyncio.sleep(600)
        return "done"

    model = ScriptedBackend([{"tool_calls": [{"name": "wait", "arguments": {}}]}, "It is late."])
    with record("late", store=store) as session:
        Agent("a", model, tools=[wait])("Go.")
    return session.id


def spelled(store: MemoryLog, session: str) -> MemoryLog:
    """The session as the first versions wrote it."""
    old: list[Record] = []
    for body in store.read(session):
        event = open_event(body)
        data = dict(event["data"])
        if event["kind"] == ev.TOOL_RETURNED:
            assert data["error"] == "TimeoutError"
            data["error"] = "TimeoutError()"
        at, call, dialog = event["at"], event["call"], event["dialog"]
        prev = old[-1].hash if old else ""
        old.append(seal(session, event["seq"], at, call, dialog, event["kind"], data, prev))
    other = MemoryLog()
    asyncio.run(other.append(old, store._blobs))
    return other


@pytest.fixture(scope="module")
def logs() -> tuple[MemoryLog, MemoryLog, str]:
    store = MemoryLog()
    session = program(store)
    return store, spelled(store, session), session


def test_the_transcript_is_the_same(logs: tuple[MemoryLog, MemoryLog, str]) -> None:
    new, old, session = logs
    rows = [transcript([open_event(body) for body in store.read(session)]) for store in (new, old)]
    assert rows[0] == rows[1]
    assert any(row.detail.get("error") == "TimeoutError" for row in rows[1])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "bundle"])
def test_every_export_is_the_same(name: str, logs: tuple[MemoryLog, MemoryLog, str]) -> None:
    new, old, session = logs
    assert export(old, session, name) == export(new, session, name)
    assert name != "otel" or "TimeoutError()" not in export(old, session, name)


def test_it_replays(logs: tuple[MemoryLog, MemoryLog, str]) -> None:
    _, old, session = logs
    assert replay_session(session, store=old, entry=lambda: program(old)).verified
