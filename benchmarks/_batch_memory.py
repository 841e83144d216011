"""The peak memory of a batch of agents on the scripted backend, in a process of its own.

python -m benchmarks._batch_memory STORE ITEMS
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from lllm import Agent, ScriptedBackend, step
from lllm.log import open_store


def same(text: str) -> str:
    return text


def main() -> None:
    kind, items = sys.argv[1], int(sys.argv[2])
    model = ScriptedBackend(lambda request: f"{request.messages[-1].text}+")
    first, second = Agent("first", model), Agent("second", model)
    with tempfile.TemporaryDirectory() as folder, open_store(kind, Path(folder)) as store:  # type: ignore[attr-defined]
        chain = step(same) >> first >> second >> str
        began = time.perf_counter()
        found = chain.batch((f"item {n}" for n in range(items)), limit=20, store=store)
        seconds = time.perf_counter() - began
        assert found[-1] == f"item {items - 1}++"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"mb": peak, "seconds": seconds}))


if __name__ == "__main__":
    main()
