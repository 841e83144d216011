"""A three-stage pipeline over many items, 256 at once, beside pydantic-ai and LangGraph: items per second and CPU per item.

    python -m benchmarks.pipelines            # the whole table, about five minutes
    python -m benchmarks.pipelines --quick

Each stage is a call of a scripted model that answers at once, so what is measured is the runtime. Every contender is a
fresh process in each round, and they take turns; the figures are medians. pydantic-ai and LangGraph are in environments of
their own, `.venv-pydantic-ai` and `.venv-langgraph`, made the first time, and are written as their documents say. CPU per
item is that of all threads: other work on the machine disturbs it least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks._venvs import ROOT, NoEnvironment, python_of

ENVIRONMENTS: Final = {
    "lllm_steps": None,
    "langgraph_graph": (
        "langgraph",
        ("langgraph==1.2.24", "langchain-core==1.8.3", "langgraph-checkpoint-sqlite==3.1.2"),
    ),
    "pydantic_ai_agents": (
        "pydantic-ai",
        ("pydantic-ai-slim[dbos]==2.68.0", "dbos==3.4.0", "opentelemetry-sdk==1.45.2"),
    ),
}
GOAL: Final = 5.0
PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")
"""Variables that a contender sees: others turn tracing on, or lead to other packages."""


@dataclass(frozen=True)
class Line:
    """A contender with one of its logs, and the log of ours that it is compared with."""

    name: str
    program: str
    log: str
    beside: str
    holds: str
    samples: list[dict[str, Any]] = field(default_factory=list)

    def median(self, figure: str) -> float:
        return statistics.median(sample[figure] for sample in self.samples)


LINES: Final = (
    Line("lllm, SQLite", "lllm_steps", "sqlite", "",
         "every request, reply and stage, before it is acted on, hashed in a chain, redacted; replays and resumes"),
    Line("lllm, files", "lllm_steps", "localfile", "", "the same, a file per session"),
    Line("lllm, in memory", "lllm_steps", "memory", "", "the same, for as long as the process lives"),
    Line("lllm, log off", "lllm_steps", "none", "", "nothing"),
    Line("LangGraph, SQLite", "langgraph_graph", "sqlite", "sqlite",
         "the graph's state, here a text, after each node; no request, no reply"),
    Line("LangGraph, SQLite at exit", "langgraph_graph", "sqlite at exit", "sqlite",
         "the last state alone, written when an item has ended"),
    Line("LangGraph, in memory", "langgraph_graph", "memory", "memory", "the state after each node"),
    Line("LangGraph, log off", "langgraph_graph", "none", "none", "nothing"),
    Line("pydantic-ai, DBOS on SQLite", "pydantic_ai_agents", "dbos", "sqlite",
         "each item's arguments and result, each model's reply, pickled; resumes"),
    Line("pydantic-ai, spans in a file", "pydantic_ai_agents", "spans", "localfile",
         "a span per agent run and per request with its messages, written later; does not resume"),
    Line("pydantic-ai, in memory", "pydantic_ai_agents", "memory", "memory",
         "the messages of each agent run, once it has ended"),
    Line("pydantic-ai, log off", "pydantic_ai_agents", "none", "none", "nothing"),
    Line("pydantic-ai, no agents", "pydantic_ai_agents", "direct", "none",
         "nothing; requests to models alone, without parsing, tools, retries or limits"),
)  # fmt: skip


def pythons() -> dict[str, str]:
    """The Python of each program. One whose environment cannot be made is left out, with a word."""
    found = {}
    for program, environment in ENVIRONMENTS.items():
        try:
            found[program] = sys.executable if environment is None else python_of(*environment)
        except NoEnvironment as error:
            print(f"{program} is left out: {error}", file=sys.stderr)
    return found


def sample(python: str, line: Line, items: int, at_once: int) -> dict[str, Any]:
    """The figures of one fresh process."""
    command = [python, "-m", f"benchmarks.contenders.{line.program}", line.log, str(items), str(at_once)]
    plain = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{line.name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def versions(lines: Sequence[Line]) -> str:
    known: dict[str, str] = {}
    for line in lines:
        known |= line.samples[0]["versions"]
    return ", ".join(f"{name} {version}" for name, version in sorted(known.items()))


def ahead(line: Line, mine: Line | None) -> str:
    """Returns the ratios of a line to ours, where there is one to compare it with."""
    if mine is None:
        return ""
    cpu, rate = line.median("cpu") / mine.median("cpu"), mine.median("rate") / line.median("rate")
    verdict = "reached" if min(cpu, rate) >= GOAL else "missed"
    return f"   {cpu:5.1f} {rate:6.1f}  {verdict:<8} beside {mine.name.partition(', ')[2]}"


def report(lines: Sequence[Line]) -> None:
    ours = {line.log: line for line in lines if not line.beside}
    heads = (f"{head:>9}" for head in ("items/s", "CPU ms", "peak MB", "kB/item"))
    print(f"{'':<30}{''.join(heads)}   ours is ahead: CPU, items/s (goal: {GOAL:.0f} times)")
    for line in lines:
        cells = (
            f"{line.median(figure):9.{digits}f}"
            for figure, digits in (("rate", 0), ("cpu", 2), ("peak", 0), ("written", 1))
        )
        print(f"{line.name:<30}{''.join(cells)}{ahead(line, ours.get(line.beside))}")
    print("\nThe logs hold:")
    for line in lines:
        print(f"{line.name:<30}{line.holds}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of fewer items")
    parser.add_argument("--rounds", type=int, help="how often each takes its turn")
    parser.add_argument("--items", type=int, help="items of a round")
    parser.add_argument("--at-once", type=int, default=256, help="items under way at a time")
    parser.add_argument("--only", action="append", help="lines whose names begin so; can be given again")
    options = parser.parse_args()
    rounds, items = (
        options.rounds or (2 if options.quick else 5),
        options.items or (256 if options.quick else 1024),
    )
    found = pythons()
    lines = [
        line for line in LINES if line.program in found and line.name.startswith(tuple(options.only or ("",)))
    ]
    print(
        f"{items} items, {options.at_once} at once, median of {rounds}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    for turn in range(rounds):
        for line in lines[:: -1 if turn % 2 else 1]:
            line.samples.append(sample(found[line.program], line, items, options.at_once))
    print(versions(lines) + f", Python {sys.version.split()[0]}\n")
    report(lines)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
