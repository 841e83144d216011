"""The shipped GGUF in process, through xllamacpp."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONTEXT = 1024
SLOTS = 4


class Engine:
    """A model file that answers OpenAI chat requests; several threads may ask at once."""

    def __init__(self, path: Path, slots: int = SLOTS) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = CONTEXT * slots
        parameters.n_parallel = slots
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        parameters.warmup = False
        parameters.verbosity = -1
        self.path = path
        self.slots = slots
        self.server = xllamacpp.Server(parameters)
        self._lock = threading.Lock()

    def chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, **options: Any
    ) -> dict[str, Any]:
        """One greedy completion; the `choices[0]` of the OpenAI reply."""
        request: dict[str, Any] = {"messages": messages, "temperature": 0.0, "max_tokens": 200} | options
        if tools:
            request["tools"] = tools
        reply = self.server.handle_chat_completions(request)
        if "choices" not in reply:
            raise RuntimeError(f"the engine refused the request: {reply}")
        choice: dict[str, Any] = reply["choices"][0]
        return choice

    def map(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """`work` on every item, as many at a time as there are slots, in order."""
        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(work, items))
