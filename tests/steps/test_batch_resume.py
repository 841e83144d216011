"""Batches that were interrupted go on where they stopped: finished items are not done again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, step
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import StageError
from lllm.replay.resume import aresume_session


def clean(text: str) -> str:
    return text.strip()


class Program:
    """A batch over a model that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def entry(self, store: MemoryLog) -> Any:
        def model(request: Any) -> str:
            words = request.messages[-1].text
            self.asked.append(words)
            return words.upper()

        made = step(clean) >> Agent("upper", ScriptedBackend(model)) >> check

        def again() -> list[Any]:
            return made.batch([f" {n}x" for n in range(5)], limit=2, store=store)

        return again


def check(text: str) -> str:
    if text.startswith("3"):
        raise ValueError("three")
    return text.lower()


def cut(store: MemoryLog, keep: dict[str, int]) -> MemoryLog:
    """The sessions of a store, some of them cut off after so many events; of those with 0 nothing is left."""
    out = MemoryLog()
    out._blobs = dict(store._blobs)
    for id, bodies in store._sessions.items():
        left = bodies[: keep.get(id, len(bodies))]
        if left:
            out._sessions[id] = list(left)
    return out


def batch_of(store: MemoryLog) -> str:
    return min(store._sessions, key=len)


def test_a_batch_is_replayed_with_all_of_its_items() -> None:
    program, store = Program(), MemoryLog()
    found = program.entry(store)()
    assert [str(one) for one in found[:3]] == ["0x", "1x", "2x"]
    assert isinstance(found[3], StageError)
    asked = len(program.asked)
    report = lllm.replay_session(batch_of(store), store=store, entry=program.entry(store))
    assert report.verified, report.divergence
    assert len(program.asked) == asked


def test_an_item_that_differs_is_a_divergence_of_the_batch() -> None:
    program, store = Program(), MemoryLog()
    program.entry(store)()
    other = step(clean) >> Agent("upper", ScriptedBackend(["x"])) >> (lambda text: 5)
    report = lllm.replay_session(
        batch_of(store),
        store=store,
        entry=lambda: other.batch([f" {n}x" for n in range(5)], limit=2, store=store),
    )
    assert not report.verified


@pytest.mark.parametrize("events", [3, 6, 9])
@pytest.mark.parametrize("inside", [2, 5, 9])
def test_an_interrupted_batch_goes_on_where_it_stopped(events: int, inside: int) -> None:
    program, store = Program(), MemoryLog()
    whole = [str(one) for one in program.entry(store)()]
    batch = batch_of(store)
    kept = [open_event(record.body) for record in store._sessions[batch][:events]]
    ended = {event["data"]["item"] for event in kept if event["kind"] == ev.ITEM_ENDED}
    begun = {event["data"]["item"] for event in kept if event["kind"] == ev.ITEM_STARTED} - ended
    keep = {batch: events}
    keep |= {f"{batch}-{n}": inside if n in begun else 0 for n in range(5) if n not in ended}
    left = cut(store, keep)
    before = {id: list(bodies) for id, bodies in left._sessions.items()}
    program.asked.clear()
    done = lllm.resume_session(batch, store=left, entry=program.entry(left))
    assert [str(one) for one in done.result] == whole
    assert not {f"{n}x" for n in ended} & set(program.asked)
    assert all(left._sessions[id][: len(bodies)] == bodies for id, bodies in before.items())
    assert set(left._sessions) == set(store._sessions)
    report = lllm.replay_session(batch, store=left, entry=program.entry(left))
    assert report.verified, report.divergence


SIDE_BY_SIDE = """
import sys

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, step

sys.setswitchinterval(1e-5)  # Python refuses a thread that sets its profile function while another one does
store = MemoryLog()
made = step(str.strip) >> Agent("upper", ScriptedBackend(lambda request: request.messages[-1].text.upper()))


def program():
    return made.batch([f" {n}x" for n in range(60)], limit=20, store=store)


program()
print(lllm.replay_session(min(store._sessions, key=len), store=store, entry=program).divergence)
"""


def test_many_items_are_replayed_side_by_side() -> None:
    done = subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "None", done.stderr


def test_functions_of_items_that_a_resumed_batch_begins_return() -> None:
    """Their sessions are not in the batch's record, which cannot say when they return."""
    agent = Agent("a", ScriptedBackend(lambda request: f"{request.messages[-1].text}!"))
    made, words = step(clean) >> agent >> agent, [f"{n}x" for n in range(6)]

    async def again(id: str, store: MemoryLog) -> Any:
        work = aresume_session(id, store=store, entry=lambda: made.batch(words, limit=3, store=store))
        return (await asyncio.wait_for(work, 60)).result

    for _ in range(15):  # two of them have to be at work at once
        store = MemoryLog()
        made.batch(words, limit=3, store=store)
        id = batch_of(store)
        left = cut(store, {id: 9, f"{id}-4": 0, f"{id}-5": 0})
        assert [str(one) for one in asyncio.run(again(id, left))] == [f"{word}!!" for word in words]
