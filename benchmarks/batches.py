"""Batches: how close to the ideal time, what a kill costs, and how much memory they take.

    python -m benchmarks.batches            # a few minutes
    python -m benchmarks.batches --quick
    python -m benchmarks.batches --part kill

time: 1,000 items through three agents, 20 at a time, at a loopback server that answers after 50 ms: beside the ideal, which
is 7.5 s. kill: the same batch is killed with SIGKILL at random moments, also while it is resumed, and gone on with until it
has ended; the server counts what it is asked. memory: the peak of a process that runs a batch of agents on the scripted
backend, of 1,000 items and of many.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._batch import STAGES, batches_in, ended_items, program, question
from benchmarks._server import counting_server, counts
from lllm.log import open_store
from lllm.replay import replay_session

ITEMS, LIMIT, DELAY = 1000, 20, 0.05
STORES = ("sqlite", "localfile")


def life(folder: Path, kind: str, url: str, items: int, limit: int) -> subprocess.Popen[str]:
    """A process that begins the batch, or goes on with it."""
    command = [sys.executable, "-m", "benchmarks._batch", str(folder), kind, url, str(items), str(limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finished(child: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """The outcome of a process that is not killed."""
    _, errors = child.communicate()
    if child.returncode:
        raise SystemExit(f"the batch failed:\n{errors}")
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def asked(item: int) -> list[str]:
    """Returns the requests about an item, as the server has them."""
    return [question(item) + "+" * stage for stage in range(STAGES)]


class Killed(NamedTuple):
    """The outcome of a batch that was killed some times. `problems` are sentences: there should be none."""

    kills: int
    ended: int
    """Items that had ended before a kill."""
    again: int
    """Requests beyond one for each stage of each item."""
    problems: list[str]


def killed(kind: str, *, items: int, limit: int, kills: int, delay: float, seed: int) -> Killed:
    """Kills a batch so many times, and lets it end. Every second kill counts from the beginning of a process instead of by
    what was asked: it may hit the first part of a resumption, in which nothing is asked."""
    draw = random.Random(seed)
    total, done = items * STAGES, 0
    fixed: dict[str, int] = {}  # what was asked about items that had ended, and how often
    with tempfile.TemporaryDirectory() as name, counting_server(delay) as url:
        folder = Path(name)
        for number in range(kills):
            child = life(folder, kind, url, items, limit)
            before = counts(url).total()
            goal = before + draw.randint(1, max(1, (total - before) // 2))
            if number % 2:
                left = (total - before) * delay / limit  # seconds of it, at the least
                time.sleep(draw.uniform(0.3, min(2.0, 0.3 + left / 2)))
            while not number % 2 and child.poll() is None and counts(url).total() < goal:
                time.sleep(0.005)
            if child.poll() is not None:
                finished(child, folder)
                break  # it was done before
            child.kill()
            child.communicate()
            done += 1
            with closing(open_store(kind, folder)) as store:
                ended = ended_items(store)
            now = counts(url)
            fixed = {words: now[words] for item in ended for words in asked(item)} | fixed
        child = life(folder, kind, url, items, limit)
        found = finished(child, folder)["results"]
        after = counts(url)
        with closing(open_store(kind, folder)) as store:
            sessions, ended = len(store.sessions(100_000)), ended_items(store)
            report = replay_session(
                batches_in(store)[0], store=store, entry=program(store, url, items, limit)
            )
    problems = [
        f"{words!r} of an item that had ended was asked {after[words]} times, and {count} times before"
        for words, count in fixed.items()
        if after[words] != count or count == 0
    ]
    problems += [
        f"item {item} has the result {result!r}"
        for item, result in enumerate(found)
        if result != question(item) + "+" * STAGES
    ]
    if len(found) != items or ended != set(range(items)):
        problems.append(f"{len(found)} results and {len(ended)} sessions of {items} items")
    if sessions != items + 1:
        problems.append(f"{sessions} sessions instead of one for the batch and {items} for its items")
    if not report.verified:
        problems.append(f"does not replay: {report.divergence}")
    if after.total() - total > done * limit:
        problems.append(f"{after.total() - total} requests again after {done} kills")
    return Killed(done, len(fixed) // STAGES, after.total() - total, problems)


def timed(kind: str, *, items: int, limit: int, delay: float) -> tuple[float, float]:
    """Seconds that a batch takes, and the ideal."""
    with tempfile.TemporaryDirectory() as name, counting_server(delay) as url:
        folder = Path(name)
        return finished(life(folder, kind, url, items, limit), folder)["seconds"], (
            items * STAGES * delay / limit
        )


def report_time(quick: bool) -> bool:
    items = 200 if quick else ITEMS
    good = True
    print(f"{'':<14}{'seconds':>10}{'ideal':>8}{'ratio':>8}")
    for kind in (*STORES, "none"):
        seconds, ideal = timed(kind, items=items, limit=LIMIT, delay=DELAY)
        print(f"{kind:<14}{seconds:>10.2f}{ideal:>8.2f}{seconds / ideal:>8.2f}", flush=True)
        good &= seconds <= 1.1 * ideal
    return good


def report_kills(quick: bool) -> bool:
    good = True
    print(f"{'':<14}{'kills':>10}{'ended':>8}{'again':>8}   at most")
    for kind in STORES:
        for seed in range(1 if quick else 3):
            one = killed(
                kind, items=200 if quick else ITEMS, limit=LIMIT, kills=1 + 2 * seed, delay=DELAY, seed=seed
            )
            print(f"{kind:<14}{one.kills:>10}{one.ended:>8}{one.again:>8}{one.kills * LIMIT:>10}", flush=True)
            for problem in one.problems[:10]:
                print(f"    {problem}")
            good &= not one.problems
    return good


def peak(kind: str, items: int) -> tuple[float, float]:
    """MB that a process had at most which ran a batch, and the batch's seconds."""
    command = [sys.executable, "-m", "benchmarks._batch_memory", kind, str(items)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["mb"], found["seconds"]


def report_memory(quick: bool) -> bool:
    print(f"{'':<14}{'items':>10}{'MB':>8}{'items/s':>9}")
    good = True
    for kind in STORES:
        base = None
        for items in (1000, 10_000) if quick else (1000, 10_000, 100_000):
            mb, seconds = peak(kind, items)
            print(f"{kind:<14}{items:>10}{mb:>8.0f}{items / seconds:>9.0f}", flush=True)
            base = mb if base is None else base
            good &= mb <= base + 50
    return good


PARTS = {"time": report_time, "kill": report_kills, "memory": report_memory}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=tuple(PARTS))
    parser.add_argument("--quick", action="store_true", help="200 items instead of 1,000, and fewer kills")
    options = parser.parse_args()
    good = [PARTS[part](options.quick) for part in options.part or PARTS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
