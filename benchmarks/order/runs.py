"""Records a shape and replays it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import lllm
from benchmarks.order import shapes
from benchmarks.order.shape import SHAPES, Program, Shape
from lllm import LLMError, MemoryLog, arecord, replay_session
from lllm.log import open_store
from lllm.ports import LogStore

assert shapes


def _uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    import uvloop  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return uvloop.run(main)


LOOPS: Final[dict[str, Callable[[Any], Any]]] = {"lllm": lllm.run, "asyncio": asyncio.run, "uvloop": _uvloop}


class Made(NamedTuple):
    """A program: all of its sessions side by side, and each of them alone, by its name."""

    live: Callable[[], Any]
    entries: dict[str, Callable[[], Any]]
    asked: list[int]


def make(
    program: Program, store: LogStore, loop: str = "lllm", *, sessions: int = 1, effects: bool = False
) -> Made:
    """A program in a loop (one of LOOPS) that it starts itself."""
    asked = [0]
    start = LOOPS[loop]

    async def main(name: str) -> None:
        shape = Shape(effects, name)
        try:
            async with arecord(name, store=store):
                if effects:
                    await shape.act("begin")
                await program(shape)
                if effects:
                    await shape.act("end")
                await shape.other.acall("all: " + " ".join(shape.got))
        finally:
            asked[0] += shape.asked

    async def together(names: list[str]) -> None:
        await asyncio.gather(*(main(name) for name in names))

    names = [f"x{n}" for n in range(sessions)]
    entries = {name: (lambda name=name: start(main(name))) for name in names}
    return Made(entries["x0"] if sessions == 1 else lambda: start(together(names)), entries, asked)


def made(name: str, store: LogStore, loop: str = "lllm", *, effects: bool = False) -> Made:
    """The program of a shape."""
    entry = SHAPES[name]
    return make(entry.program, store, loop, sessions=entry.sessions, effects=effects)


class _Noise(logging.Handler):
    """Counts what asyncio complains about: tasks whose errors nobody took."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage().split("\n")[0])


@contextmanager
def noise() -> Iterator[list[str]]:
    """What asyncio complains about meanwhile."""
    handler, logger = _Noise(), logging.getLogger("asyncio")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def names_of(store: LogStore) -> dict[str, str]:
    """The ids of the sessions of a store, by their names."""
    return {str(info.meta.get("name")): info.id for info in store.sessions()}


def required(name: str, loop: str) -> bool:
    """True if every replay of the shape must be verified."""
    entry = SHAPES[name]
    return entry.required and not (entry.silent and loop != "lllm")


@contextmanager
def kept_in(kind: str) -> Iterator[LogStore]:
    """A new store of a kind: `memory`, or a temporary one on the disk."""
    if kind == "memory":
        yield MemoryLog()
        return
    with tempfile.TemporaryDirectory(prefix="order-") as folder, open_store(kind, Path(folder)) as store:
        yield store


def run(
    name: str, runs: int, loop: str = "lllm", *, store: str = "memory", effects: bool = False
) -> tuple[Counter[str], list[str]]:
    """Records and replays a shape so many times: counts of what came of it, and what went wrong."""
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for _ in range(runs):
        with kept_in(store) as log:
            _once(made(name, log, loop, effects=effects), log, found, wrong)
    return found, wrong


def _once(program: Made, store: LogStore, found: Counter[str], wrong: list[str]) -> None:
    begun = time.monotonic()
    program.live()
    found["live"] += int(1e6 * (time.monotonic() - begun))
    before = program.asked[0]
    begun = time.monotonic()
    bad = replays(program, store)
    found["replay"] += int(1e6 * (time.monotonic() - begun))
    found["asked"] += program.asked[0] - before
    found["wrong" if bad else "verified"] += 1
    wrong += bad


def replays(program: Made, store: LogStore) -> list[str]:
    """Replays all sessions of a program: what went wrong."""
    wrong = []
    for session_name, session in names_of(store).items():
        try:
            with noise() as complaints:
                report = replay_session(session, store=store, entry=program.entries[session_name])
        except LLMError as error:
            wrong.append(f"{type(error).__name__}: {error}")
            continue
        if not report.verified or not report.whole:
            wrong.append(str(report.divergence or "not whole"))
        elif complaints:
            wrong.append(f"noise: {complaints[0]}")
    return wrong
