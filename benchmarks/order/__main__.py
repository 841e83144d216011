"""The command: a table of the shapes, and what of it does not hold."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks import order
from benchmarks.order import forks, generated, slow
from benchmarks.order.kills import Life, killed, usual
from benchmarks.order.runs import LOOPS, required, run
from benchmarks.order.shape import SHAPES

STORES: Final = ("memory", "sqlite", "localfile")
_DISK: Final = ("sqlite", "localfile")


def _runs(name: str, given: argparse.Namespace) -> tuple[list[str], dict[str, int]]:
    """Runs and replays a shape in a process of its own: what went wrong, and the figures."""
    work: Callable[[], Any] = lambda: run(name, given.runs, given.loop, store=given.store)  # noqa: E731
    try:
        counts, wrong = Life(work, 60 + 10 * given.runs).result()
    except RuntimeError as error:
        return [str(error).strip().splitlines()[-1]], {}
    if counts["asked"]:
        wrong = [f"{counts['asked']} model requests in replays", *wrong]
    return wrong, counts


def _kills(name: str, given: argparse.Namespace, chance: random.Random) -> tuple[list[str], int, int]:
    """Kills a shape and resumes it: what went wrong, how many runs ended well, and how many lives were killed."""
    wrong, good, lives = list[str](), 0, 0
    seconds = usual(name, given.loop, "sqlite")
    for n in range(given.kills):
        kills, bad = killed(name, given.loop, _DISK[n % 2], seconds, chance)
        lives += kills
        good += not bad
        wrong += bad[:1]
    return wrong, good, lives


def _shapes(given: argparse.Namespace) -> int:
    bad, seconds = 0, {"live": 0, "replay": 0}
    verified = resumed = lives = 0
    names = given.shape or list(SHAPES)
    counted = [name for name in names if required(name, given.loop)]
    chance = random.Random(given.seed)
    heads = f"verified of {given.runs}", f"resumed of {given.kills} (killed)"
    print(f"{'shape':28} {heads[0]:>16} {'asked':>6} {'live ms':>8} {'replay ms':>10} {heads[1]:>24}")
    for name in names:
        wrong, counts = _runs(name, given) if given.runs else ([], {})
        more, good, killed_lives = _kills(name, given, chance) if given.kills else ([], 0, 0)
        times = [counts.get(key, 0) / max(1, given.runs) / 1000 for key in ("live", "replay")]
        mark = "" if name in counted else "  not required"
        if rare := SHAPES[name].rare:
            mark += f"  rarely: {rare}"
        row = f"{name:28} {counts.get('verified', 0):16} {counts.get('asked', 0):6} {times[0]:8.1f} {times[1]:10.1f}"
        print(f"{row} {good:>18} ({killed_lives}){mark}", flush=True)
        for line in [*wrong[:3], *more[:3]]:
            print(f"    {line[:300]}", flush=True)
        for key in seconds:
            seconds[key] += counts.get(key, 0)
        if name in counted:
            verified += counts.get("verified", 0)
            resumed, lives = resumed + good, lives + killed_lives
            bad += bool(wrong or more)
        bad += bool(counts.get("asked"))
    ratio = seconds["replay"] / seconds["live"] if seconds["live"] else 0
    print(
        f"{len(counted)} shapes required: {verified} of {len(counted) * given.runs} verified, "
        f"{resumed} of {len(counted) * given.kills} resumed ({lives} lives killed), "
        f"a replay takes {ratio:.2f} of the time of its live run"
    )
    return bad


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.order",
        description=order.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=0, help="runs of each shape that are killed and resumed")
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append")
    parser.add_argument("--loop", choices=sorted(LOOPS), default="lllm", help="the loop of the live run")
    parser.add_argument("--store", choices=STORES, default="memory", help="of the runs that are not killed")
    parser.add_argument("--generated", type=int, default=0, metavar="N", help="N random programs instead")
    parser.add_argument("--uncut", action="store_true", help="replay random programs, and do not resume them")
    parser.add_argument("--streams", action="store_true", help="random programs read streams too")
    parser.add_argument("--slow", action="store_true", help="a session of a minute instead")
    parser.add_argument("--forks", type=int, default=0, metavar="N", help="fork each shape N times instead")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args(argv)
    if given.seed is None:
        given.seed = int(time.time())
    if given.slow:
        return slow.main()
    if given.forks:
        return forks.main(
            given.shape or [n for n in SHAPES if required(n, given.loop)], given.forks, given.loop
        )
    if given.generated:
        return generated.main(given.generated, given.seed, given.loop, not given.uncut, given.streams)
    return 1 if _shapes(given) else 0


if __name__ == "__main__":
    sys.exit(main())
