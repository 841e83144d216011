"""What a session log costs: CPU per event, long sessions beside short ones, size, looking at a long one, listing many.

    python -m benchmarks.log_store            # the whole table, about four minutes
    python -m benchmarks.log_store --quick
    python -m benchmarks.log_store --store sqlite

CPU is the process's own time (`time.process_time`, all threads), so that other work on the machine disturbs it little. The cost
of logging is the difference between the same calls with the store and with the log off, in turns within one run; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lllm.backends.scripted import ScriptedBackend
from lllm.core.envelope import seal
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import open_store as opened
from lllm.log.base import ReplayableLogBase
from lllm.log.none import NoLog
from lllm.log.views import fold_session, load
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import LogStore, Request

STORES: Final = ("sqlite", "localfile", "memory")
GOALS: Final = {"event": 100.0, "turn": 1.2, "size": 0.1, "look": 1.0, "list": 0.2}
"""Microseconds per event, ratio of a long session's turn to a short one's, share of naive JSON, seconds, seconds."""


def open_store(kind: str, folder: Path) -> ReplayableLogBase:
    store = opened(kind, folder)
    assert isinstance(store, ReplayableLogBase)
    return store


@tool(effect="pure")
async def calculate(expression: str) -> str:
    """Evaluates an arithmetic expression."""
    return f"{expression} is {len(expression) * 17}, and the steps that led there are kept for whoever asks."


def agent(rounds: int, **more: Any) -> Agent:
    """An agent that calls a tool `rounds` times and then answers."""

    def answer(request: Request) -> Any:
        done = 0
        for message in reversed(request.messages):
            if message.role == "user":
                break
            done += message.role == "tool"
        if done < rounds:
            number = len(request.messages)
            return FunctionCall(
                f"call_{number}", "calculate", json.dumps({"expression": f"17 * 23 + {number}"})
            )
        return "It is 391, as the tool says."

    system = "You are a helpful assistant. Use the calculate tool for arithmetic and report its result. " * 4
    return Agent(
        "bench", ScriptedBackend(answer), system, tools=[calculate], max_interrupt_times=None, **more
    )


async def talk(store: LogStore, turns: int, rounds: int = 1) -> str:
    """A session of so many turns of one dialog: its id."""
    one = agent(rounds)
    async with arecord("bench", store=store) as session:
        dialog = one.init_dialog()
        for turn in range(turns):
            dialog.append(f"Question {turn}: what is 17 times 23, plus {turn}?")
            await one.acall(dialog)
    return session.id


def cpu(store: LogStore, sessions: int, turns: int) -> float:
    """CPU seconds of so many sessions at once."""

    async def all_of_them() -> None:
        await asyncio.gather(*(talk(store, turns, 2) for _ in range(sessions)))

    before = time.process_time()
    asyncio.run(all_of_them())
    return time.process_time() - before


def per_event(kind: str, folder: Path, sessions: int, turns: int, repeats: int) -> float:
    """Microseconds of CPU per event that logging adds."""
    found = []
    cpu(NoLog(), sessions, turns)
    for number in range(repeats):
        with open_store(kind, folder / f"{sessions}-{number}") as store:
            cpu(store, 1, 2)  # opens it
            known = len(store.sessions())
            off, on = cpu(NoLog(), sessions, turns), cpu(store, sessions, turns)
            assert len(store.sessions()) == known + sessions
            events = sum(info.events for info in store.sessions()[:sessions])
        found.append((on - off) / events * 1e6)
    return statistics.median(found)


async def added(store: LogStore, turns: int) -> list[float]:
    """What logging adds to each turn of a session, in CPU seconds: beside the same session with the log off, turn by turn."""
    goes = asyncio.Barrier(2)
    times: dict[LogStore, list[float]] = {}

    async def side(mine: int, store: LogStore) -> None:
        one = agent(1)
        async with arecord("bench", store=store):
            dialog = one.init_dialog()
            spent = times[store] = []
            for turn in range(turns):
                dialog.append(f"Question {turn}: what is 17 times 23, plus {turn}?")
                for goer in (turn % 2, 1 - turn % 2):  # whoever is second finds a warmer machine
                    if goer == mine:
                        before = time.process_time()
                        await one.acall(dialog)
                        spent.append(time.process_time() - before)
                    await goes.wait()

    off = NoLog()
    await asyncio.gather(side(0, off), side(1, store))
    return [on - plain for plain, on in zip(times[off], times[store], strict=True)]


def per_turn(kind: str, folder: Path, turns: int, repeats: int) -> tuple[float, float]:
    """Microseconds that logging adds to a turn in a session of ten, and in the last tenth of one of `turns`."""
    short: list[float] = []
    long: list[float] = []
    for number in range(repeats):
        with open_store(kind, folder / f"turns-{number}") as store:
            asyncio.run(added(store, 10))
            for _ in range(10):
                short += asyncio.run(added(store, 10))
            long += asyncio.run(added(store, turns))[-(turns // 10) :]
    return statistics.median(short) * 1e6, statistics.median(long) * 1e6


def size(kind: str, folder: Path, turns: int) -> tuple[int, int]:
    """Bytes of a session of so many turns with two tool rounds each, and of naive JSON: all messages in every step."""
    with open_store(kind, folder) as store:
        session = asyncio.run(talk(store, turns, 2))
        events = load(store, session)
        bodies = sum(map(len, store.read(session)))
    naive, messages = 0, list[Any]()
    for event in events:
        data = event["data"]
        messages += data.get("add", ())
        if "message" in data:
            messages.append(data["message"])
        elif event["kind"] == "ToolReturned":
            messages.append({"role": "tool", "tool_call_id": data["id"], "content": data.get("content", "")})
        else:
            continue
        naive += len(json.dumps({"step": event["seq"], "at": event["at"], "messages": messages}))
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return (sum(path.stat().st_size for path in files) if files else bodies), naive


def look(kind: str, folder: Path, turns: int) -> tuple[int, float]:
    """Events of a session of so many turns, and seconds to open the store, prove and fold it."""
    store = open_store(kind, folder)
    session = asyncio.run(talk(store, turns))
    if kind != "memory":
        store.close()
        store = open_store(kind, folder)
    before = time.process_time()
    events = load(store, session)
    fold_session(events)
    seconds = time.process_time() - before
    store.close()
    return len(events), seconds


def listing(kind: str, folder: Path, count: int) -> tuple[float, float]:
    """Seconds to list the last 20 of so many sessions, and all of them."""

    async def fill(store: LogStore) -> None:
        meta = {"name": "bench", "task": "what is 17 times 23?", "seed": "1", "entry": {"kind": "agent"}}

        async def one(number: int) -> None:
            name = f"20260101-{number:06}-bench"
            first = seal(name, 0, number, None, None, "SessionStarted", meta, "")
            last = seal(name, 1, number + 9, None, None, "SessionEnded", {"status": "done"}, first.hash)
            await store.append([first, last])

        for begin in range(0, count, 500):
            await asyncio.gather(*(one(number) for number in range(begin, min(begin + 500, count))))

    with open_store(kind, folder) as store:
        asyncio.run(fill(store))
    if kind == "memory":
        return 0.0, 0.0
    with open_store(kind, folder) as store:
        store.sessions(1)
        few: list[float] = []
        everything: list[float] = []
        for _ in range(3):
            for limit, times in ((20, few), (None, everything)):
                before = time.process_time()
                found = store.sessions(limit)
                times.append(time.process_time() - before)
                assert len(found) == (limit or count)
    return min(few), min(everything)


def row(what: str, kind: str, figure: str, goal: str, met: bool | None) -> None:
    verdict = {True: "met", False: "MISSED", None: ""}[met]
    print(f"{what:<44}{kind:<11}{figure:>26}   {goal:<14}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats, shorter sessions")
    parser.add_argument("--store", action="append", choices=STORES)
    options = parser.parse_args()
    repeats, turns, many = (3, 200, 10_000) if options.quick else (7, 1000, 100_000)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(f"{'':<44}{'store':<11}{'figure':>26}   goal")
    work: list[Callable[[str, Path], None]] = []

    def costs(kind: str, folder: Path) -> None:
        for sessions, length in ((1, 100), (64, 5)):
            found = per_event(kind, folder, sessions, length, repeats)
            row(
                f"CPU per event, {sessions} at once",
                kind,
                f"{found:.0f} us",
                "<= 100 us",
                found <= GOALS["event"],
            )

    def turned(kind: str, folder: Path) -> None:
        short, long = per_turn(kind, folder, turns, repeats)
        row(
            f"logging a turn, of 10 and of {turns}", kind, f"{short:.0f} us, {long:.0f} us", "ratio <= 1.2",
            long <= short * GOALS["turn"],
        )  # fmt: skip

    def sized(kind: str, folder: Path) -> None:
        ours, naive = size(kind, folder / "size", 50)
        row(
            "bytes, 50 turns with tools, naive", kind, f"{ours / 1e3:.0f} of {naive / 1e3:.0f} kB", "<= 1/10",
            ours <= naive * GOALS["size"],
        )  # fmt: skip

    def looked(kind: str, folder: Path) -> None:
        events, seconds = look(kind, folder / "look", turns)
        row(
            f"open, prove, fold {turns} turns ({events} events)",
            kind,
            f"{seconds:.2f} s",
            "<= 1 s",
            seconds <= 1,
        )

    def listed(kind: str, folder: Path) -> None:
        if kind == "memory":
            return
        count = many if kind == "sqlite" else many // 10
        few, everything = listing(kind, folder / "list", count)
        goal = GOALS["list"]
        row(f"list 20 of {count:,} sessions", kind, f"{few * 1e3:.1f} ms", "<= 200 ms", few <= goal)
        row(
            f"list all {count:,} sessions", kind, f"{everything * 1e3:.0f} ms", "<= 200 ms",
            everything <= goal if kind == "sqlite" else None,
        )  # fmt: skip

    work = [costs, turned, sized, looked, listed]
    for kind in options.store or STORES:
        with tempfile.TemporaryDirectory(prefix="lllm-log-") as place:
            for act in work:
                act(kind, Path(place))
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
