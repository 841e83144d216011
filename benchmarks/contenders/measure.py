"""The task, and how it is measured. Standard library only: the environments of other libraries have no lllm."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path

STAGES = ("extract", "draft", "review")
Batch = Callable[[list[str]], Awaitable[Sequence[str]]]
"""Gives the texts through all stages, as many at once as the contender was made for."""
Contender = Callable[[str, int, Path], AbstractAsyncContextManager[Batch]]
"""Of a log, how many at once, and a folder for what is written."""


def answer(stage: str, text: str) -> str:
    """The reply of the model of a stage."""
    return f"{stage}: {text}"


def instructions(stage: str) -> str:
    return f"You {stage} what you are given."


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def measure(contender: Contender, log: str, items: int, at_once: int) -> dict[str, float]:
    """Items per second, CPU milliseconds per item, peak resident MB of the process, and kB on disk per item."""
    texts = [f"item {number} and a few words about it" for number in range(items)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with contender(log, at_once, folder) as batch:
            await batch(texts[:16])  # what is opened and imported once is not counted, for nobody
            wall, cpu = time.perf_counter(), time.process_time()
            results = await batch(texts)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for text, result in zip(texts, results, strict=True):
            for stage in STAGES:
                text = answer(stage, text)
            assert result == text, result
        written = size(folder)
    megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)
    return {
        "rate": items / wall,
        "cpu": cpu / items * 1e3,
        "peak": megabytes,
        "written": written / (items + 16) / 1e3,
    }


def main(contender: Contender, packages: Sequence[str]) -> None:
    """Prints one line of JSON: what was measured, and the versions of the packages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("items", type=int)
    parser.add_argument("at_once", type=int)
    options = parser.parse_args()
    found = asyncio.run(measure(contender, options.log, options.items, options.at_once))
    print(json.dumps({**found, "versions": {name: version(name) for name in packages}}))
