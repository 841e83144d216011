"""A batch that can be killed: items through three agents, each of which asks a loopback server.

    python -m benchmarks._batch FOLDER STORE URL ITEMS LIMIT

Goes on with the batch that FOLDER has, if one is there. Writes the results to FOLDER/results.json.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401  # the time that its import takes is not the batch's

from lllm import Agent, VLLMModel, step
from lllm.atomic_files import write_text_atomic
from lllm.log import open_store
from lllm.ports import LogStore

NAME = "batch"
STAGES = 3


def question(number: int) -> str:
    """Returns the question about an item, for the first agent."""
    return f"item {number} "


def same(text: str) -> str:
    return text


def chain_of(url: str) -> Any:
    """The stages: each answers with what it was asked and a `+`."""
    model = VLLMModel("mock", url, "none")
    first, second, third = (Agent(f"agent{n}", model) for n in range(STAGES))
    return step(same) >> first >> second >> third


def batches_in(store: LogStore) -> list[str]:
    """The sessions of batches in a store, newest first."""
    infos = store.sessions(100_000)
    return [info.id for info in infos if info.meta.get("entry", {}).get("kind") == "batch"]


def ended_items(store: LogStore) -> set[int]:
    """The numbers of the items whose sessions have ended."""
    own = [info for batch in batches_in(store) for info in store.sessions(100_000, prefix=f"{batch}-")]
    return {int(info.id.rpartition("-")[2]) for info in own if info.status == "done"}


def program(store: LogStore, url: str, items: int, limit: int) -> Any:
    """Returns the program that makes the batch."""
    values = [question(n) for n in range(items)]
    return partial(chain_of(url).batch, values, limit=limit, store=store, name=NAME)


def main() -> None:
    folder, kind, url, items, limit = Path(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:6])
    import lllm

    store = open_store(kind, folder)
    run = program(store, url, items, limit)
    batch = next(iter(batches_in(store)), None)
    began = time.perf_counter()
    if batch is None:
        found = run()
    elif next(info.status for info in store.sessions(100_000) if info.id == batch) == "running":
        found = lllm.resume_session(batch, store=store, entry=run).result
    else:  # the kill came after its end, before the results were written
        made: list[Any] = []
        lllm.replay_session(batch, store=store, entry=lambda: made.extend(run()), raises=True)
        found = made
    seconds = time.perf_counter() - began
    text = json.dumps({"seconds": seconds, "results": [str(one) for one in found]})
    write_text_atomic(folder / "results.json", text)


if __name__ == "__main__":
    main()
