"""Requests that are given up in their middle, beside those that are compared: rows that leave a batch early."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks.exactness.situations import INTERRUPTED, TOKENS
from lllm import LLM
from lllm.log.none import NoLog


@contextlib.contextmanager
def interrupting(backend: Any, seconds: float = 0.03) -> Iterator[list[int]]:
    """Asks again and again, and never waits for the end. The list has a number per request that was given up."""
    given_up: list[int] = []
    over = threading.Event()

    async def ask() -> None:
        llm = LLM(backend, store=NoLog(), temperature=1.2, max_tokens=TOKENS)
        while not over.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await llm.acall(INTERRUPTED)
            except TimeoutError:
                given_up.append(len(given_up))
            await asyncio.sleep(seconds)

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    try:
        yield given_up
    finally:
        over.set()
        thread.join()
