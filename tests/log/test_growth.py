"""The size of a log, and the work to write it, are linear in the turns.

One dialog of 10, 100 and 1,000 turns; a turn is a question, a tool call, its result and an answer, all as long in the last
turn as in the first. Counted is what reaches the store (bytes of bodies and blobs, events, appends) and what lies on the
disk; time is not measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lllm import Agent, Prompt, ScriptedBackend, arecord
from lllm.log import LocalFileLog, ReplayableLogBase, SQLiteLog
from lllm.log.views import load, summary
from lllm.ports import Record, Request

TURNS = (10, 100, 1000)
STORES: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": LocalFileLog,
}


class Cost(NamedTuple):
    """What a session cost its store. `early` and `last` are the bytes of its 6th and its last turn."""

    events: int
    appends: int
    bodies: int
    blobs: int
    disk: int
    last: int
    early: int


def look(n: int) -> str:
    """Look something up."""
    return f"{n:06d} " + "found " * 20


def script(request: Request) -> Any:
    last = request.messages[-1]
    if last.role == "user":
        return {"tool_calls": [{"name": "look", "arguments": {"n": int(last.text[-6:])}}]}
    return "An answer of some length, the same every time." * 2


async def talk(store: ReplayableLogBase, folder: Path, turns: int) -> Cost:
    appends: list[int] = []
    events = blobs = 0
    append = store.append

    async def counted(records: Sequence[Record], given: Mapping[str, bytes] | None = None) -> None:
        nonlocal events, blobs
        appends.append(sum(len(record.body) for record in records))
        events += len(records)
        blobs += sum(map(len, (given or {}).values()))
        await append(records, given)

    store.append = counted  # type: ignore[method-assign]
    question = Prompt("growth/ask", "A question of some length: {n}", functions=[look])
    agent = Agent("talker", ScriptedBackend(script), "You talk.")
    per_turn = []
    async with arecord("a long talk", store=store) as session:
        dialog = agent.init_dialog()
        for number in range(turns):
            before = sum(appends)
            agent.send_message(dialog, question, {"n": f"{number:06d}"})
            await agent.acall(dialog)
            per_turn.append(sum(appends) - before)
    told = summary(load(store, session.id))
    assert (told.calls, told.model_calls, told.tool_calls) == (turns, 2 * turns, turns)
    store.verify(session.id)
    store.close()
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Cost(events, len(appends), sum(appends), blobs, disk, per_turn[-1], per_turn[min(5, turns - 1)])


@pytest.mark.parametrize("kind", STORES)
async def test_bytes_and_operations_per_turn_do_not_grow(kind: str, tmp_path: Path) -> None:
    costs = {}
    for turns in TURNS:
        folder = tmp_path / f"{turns}"
        costs[turns] = await talk(STORES[kind](folder), folder, turns)
    short, longest = costs[TURNS[0]], costs[TURNS[-1]]

    # all that was handed to the store, per turn: the longest session against the shortest
    assert (longest.bodies + longest.blobs) / 1000 <= 1.3 * (short.bodies + short.blobs) / 10
    # one turn against another of the same session: the 1,000th against the 6th
    assert longest.last <= 1.1 * longest.early
    # what lies on the disk grows by as much per turn between 100 and 1,000 as the store was handed, and a half at most
    grown = longest.disk - costs[100].disk
    assert grown <= 1.5 * (longest.bodies - costs[100].bodies)
    # events and appends are exactly as many in every turn
    for a, b in itertools.pairwise(TURNS):
        few, many = costs[a], costs[b]
        assert (many.events - few.events) % (b - a) == 0
        assert (many.appends - few.appends) % (b - a) == 0
    assert (longest.events - short.events) / 990 == (costs[100].events - short.events) / 90
    assert (longest.appends - short.appends) / 990 == (costs[100].appends - short.appends) / 90
    assert longest.blobs / 1000 == short.blobs / 10  # the schemas of the tools, which the store keeps once


async def test_what_was_said_is_written_once(tmp_path: Path) -> None:
    """A marker of the first turn stands in the log a fixed number of times, however long the dialog goes on."""
    times = []
    for turns in (3, 30):
        store = LocalFileLog(tmp_path / f"{turns}")
        await talk(store, tmp_path / f"{turns}", turns)
        (info,) = LocalFileLog(tmp_path / f"{turns}").sessions()
        times.append(b"".join(LocalFileLog(tmp_path / f"{turns}").read(info.id)).count(b"000000 found"))
    assert times[0] == times[1] == 1
