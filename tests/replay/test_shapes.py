"""A sample of `benchmarks.order`: every shape, some of them killed, and some generated programs. Each run is a process of its
own with a time limit: nothing may hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.order import shapes
from benchmarks.order.shape import SHAPES

ROOT = Path(__file__).parents[2]
LIMIT = 300.0
KILLED = ("gather", "effects_side_by_side", "timeouts_around_tools", "threads_and_tasks", "two_sessions")


def order(*arguments: str) -> str:
    """What the command prints; it must find everything right."""
    command = [sys.executable, "-m", "benchmarks.order", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr[-3000:]}"
    return found.stdout


def of(module: str) -> list[str]:
    """The shapes of a module that must be exact, as arguments."""
    names = [
        name
        for name, entry in SHAPES.items()
        if entry.program.__module__.endswith(f".{module}") and entry.required
    ]
    return [word for name in names for word in ("--shape", name)]


@pytest.mark.parametrize("module", shapes.__all__)
def test_shapes_are_replayed_exactly(module: str) -> None:
    order("--runs", "2", "--store", "sqlite", *of(module))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_shapes_without_silent_timers_in_asyncios_loop(loop: str) -> None:
    names = ("gather", "as_completed", "race", "timeout_of_a_group", "hedged", "a_word_stops_all")
    order("--runs", "2", "--loop", loop, *(word for name in names for word in ("--shape", name)))


def test_killed_programs_are_resumed() -> None:
    chosen = [word for name in KILLED for word in ("--shape", name)]
    assert f"{2 * len(KILLED)} of {2 * len(KILLED)} resumed" in order("--runs", "0", "--kills", "2", *chosen)


def test_generated_programs() -> None:
    order("--generated", "12", "--uncut", "--seed", "7")
