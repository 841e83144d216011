"""Three agents in a chain, `abatch`. Each item is a session of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.contenders.measure import STAGES, Batch, answer, instructions, main
from lllm import Agent, ScriptedBackend, chain
from lllm.log import open_store


@asynccontextmanager
async def contender(log: str, at_once: int, folder: Path) -> AsyncIterator[Batch]:
    def agent(stage: str) -> Agent:
        backend = ScriptedBackend(lambda request: answer(stage, request.messages[-1].text))
        return Agent(stage, backend, instructions(stage))

    pipeline = chain(*map(agent, STAGES), name="pipeline")
    store = open_store(log, folder)

    async def batch(texts: list[str]) -> Sequence[str]:
        replies = await pipeline.abatch(texts, limit=at_once, store=store, errors="raise")
        return [reply.text for reply in replies]

    try:
        yield batch
    finally:
        store.close()


if __name__ == "__main__":
    main(contender, ["lllm"])
