"""What importing costs: `python benchmarks/import_time.py`.

The first table is what `import lllm` takes beyond the interpreter, as `python -X importtime` counts it (median of several
processes). The second is wall time of whole processes: `lllm --version` beside `python -c pass`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def own_cost(module: str) -> tuple[float, int]:
    """Milliseconds, and how many modules were loaded, of one import in a fresh process."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.stderr.write('BEGIN\\n'); import {module}"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True
    )
    lines = done.stderr.partition("BEGIN\n")[2].splitlines()
    taken = [int(line.partition(":")[2].split("|")[0]) for line in lines if line.startswith("import time:")]
    return sum(taken) / 1000, len(taken)


def wall(command: Sequence[str]) -> float:
    """Milliseconds of a whole process."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three runs")
    options = parser.parse_args()
    runs = 3 if options.quick else options.runs
    print(f"{'import':<24}{'ms':>8}{'modules':>10}    goal")
    for module, goal in (("lllm", "30 ms"), ("lllm.cli", ""), ("lllm.llm.agent", ""), ("lllm.cli.app", "")):
        own_cost(module)  # the first one may have to compile
        costs = [own_cost(module) for _ in range(runs)]
        print(f"{module:<24}{statistics.median(c for c, _ in costs):>8.1f}{costs[0][1]:>10}    {goal}")
    print()
    script = Path(sys.executable).with_name("lllm")
    installed = [str(script)] if script.exists() else [sys.executable, "-m", "lllm"]
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "lllm --version": [*installed, "--version"]}
    commands["lllm --help"] = [*installed, "--help"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        wall(command)
    for _ in range(runs):  # taken in turns, so that a busy moment hits all alike
        for name, command in commands.items():
            times[name].append(wall(command))
    base = statistics.median(times["python -c pass"])
    print(f"{'process':<24}{'ms':>8}{'ratio':>10}    goal")
    for name, taken in times.items():
        median = statistics.median(taken)
        goal = "7.5 times python -c pass" if name == "lllm --version" else ""
        print(f"{name:<24}{median:>8.1f}{median / base:>10.1f}    {goal}")


if __name__ == "__main__":
    main()
