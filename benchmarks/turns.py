"""How long sessions scale: the time of a turn, live and in a replay, of 500 to 4,000 turns.

    python -m benchmarks.turns            # about a minute
    python -m benchmarks.turns --quick

Two programs on the scripted backend, every step durable in SQLite: one agent call of so many tool rounds, and one dialog of
so many calls. Times are CPU of this process, the least of some runs. A replay proves the log and executes the whole program
again; it is to be verified, to take at most 1.5 times its live run, and a turn is to take as long in a long session as in a
short one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lllm.backends.scripted import ScriptedBackend
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import SQLiteLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import LogStore, Request
from lllm.replay import areplay_session

TURNS: Final = (500, 1000, 2000, 4000)
Program = Callable[[], Awaitable[None]]


def rounds(turns: int, effect: str, store: LogStore) -> Program:
    """One call whose model asks for a tool so many times."""

    @tool(effect=effect)  # type: ignore[arg-type]
    async def look(page: int) -> str:
        """Looks at a page."""
        return f"{page} is a page of some words, and the next one is longer"

    def answer(request: Request) -> Any:
        last = request.messages[-1]
        page = int(str(last.content).split()[0]) + 1 if last.role == "tool" else 0
        return (
            FunctionCall(f"call_{page}", "look", f'{{"page": {page}}}') if page < turns else "All was read."
        )

    async def program() -> None:
        agent = Agent("reader", ScriptedBackend(answer), "You read.", tools=[look], max_interrupt_times=None)
        async with arecord("turns", store=store):
            await agent.acall("Read all of it.")

    return program


def talk(turns: int, effect: str, store: LogStore) -> Program:
    """One dialog of so many calls."""

    async def program() -> None:
        agent = Agent("talker", ScriptedBackend(lambda request: "An answer of some words."), "You talk.")
        async with arecord("turns", store=store):
            dialog = agent.init_dialog()
            for number in range(turns):
                dialog.append(f"Question {number}, and what it is about.")
                await agent.acall(dialog)

    return program


async def measure(
    make: Callable[[int, str, LogStore], Program], turns: int, effect: str
) -> tuple[float, float]:
    """CPU seconds of the live run and of its replay."""
    with tempfile.TemporaryDirectory() as folder, SQLiteLog(Path(folder) / "sessions.db") as store:
        program = make(turns, effect, store)
        gc.collect()
        before = time.process_time()
        await program()
        live = time.process_time() - before
        (info,) = store.sessions()
        gc.collect()
        before = time.process_time()
        report = await areplay_session(info.id, store=store, entry=program)
        replay = time.process_time() - before
        assert report.verified, report.divergence
    return live, replay


PROGRAMS: Final = {
    "a call of N rounds, `pure` tool": (rounds, "pure"),
    "a call of N rounds, `never` tool": (rounds, "never"),
    "a dialog of N calls": (talk, ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--turns", type=int, nargs="+", default=TURNS, metavar="N")
    options = parser.parse_args()
    asyncio.run(measure(rounds, 50, "pure"))  # everything is imported
    print("microseconds of CPU per turn: live, replay (ratio of both)")
    for name, (make, effect) in PROGRAMS.items():
        print(f"\n{name}")
        first: tuple[float, float] | None = None
        for turns in options.turns:
            runs = [asyncio.run(measure(make, turns, effect)) for _ in range(1 if options.quick else 3)]
            live, replay = (min(times) / turns * 1e6 for times in zip(*runs, strict=True))
            first = first or (live, replay)
            print(
                f"{turns:6} turns {live:7.0f} {replay:7.0f}  ({replay / live:4.2f}),"
                f"  a turn beside one of {options.turns[0]}: {live / first[0]:4.2f}, {replay / first[1]:4.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
