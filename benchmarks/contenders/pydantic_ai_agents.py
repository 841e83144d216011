"""Three agents one after another on a `FunctionModel`, items by `asyncio.gather` under a semaphore, as its docs have it.

It has no store of its own on disk: its logs are OpenTelemetry spans, conversations in memory, and the steps of DBOS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from benchmarks.contenders.measure import STAGES, Batch, answer, instructions, main

Pipeline = Callable[[str], Awaitable[str]]


def model(stage: str) -> FunctionModel:
    async def reply(messages: Any, info: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart(answer(stage, messages[-1].parts[-1].content))])

    return FunctionModel(reply)


def agents(**more: Any) -> list[Agent]:
    return [Agent(model(stage), name=stage, instructions=instructions(stage), **more) for stage in STAGES]


async def no_log(folder: Path) -> AsyncIterator[Pipeline]:
    stages = agents()

    async def pipeline(text: str) -> str:
        for agent in stages:
            text = (await agent.run(text)).output
        return text

    yield pipeline


async def direct(folder: Path) -> AsyncIterator[Pipeline]:
    """Without agents: a request to each model, and its reply."""
    stages = [(model(stage), instructions(stage)) for stage in STAGES]

    async def pipeline(text: str) -> str:
        for one, system in stages:
            reply = await model_request(one, [ModelRequest.user_text_prompt(text, instructions=system)])
            text = reply.text or ""
        return text

    yield pipeline


async def memory(folder: Path) -> AsyncIterator[Pipeline]:
    """Each agent run is saved as a conversation."""
    from pydantic_ai.conversation_store import InMemoryConversationStore

    store, stages = InMemoryConversationStore(), agents()

    async def pipeline(text: str) -> str:
        for agent in stages:
            result = await agent.run(text)
            await store.save(result)
            text = result.output
        return text

    yield pipeline


async def spans(folder: Path) -> AsyncIterator[Pipeline]:
    """Spans in a file, written by a thread; a queue that is long enough, or spans would be lost."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    from pydantic_ai.models.instrumented import InstrumentationSettings

    provider = TracerProvider()
    with open(folder / "spans.jsonl", "w") as file:  # noqa: ASYNC230  opened before anything is measured
        exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1_000_000))
        Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
        async for pipeline in no_log(folder):
            pipeline.done = provider.force_flush  # type: ignore[attr-defined]
            yield pipeline
        provider.shutdown()


async def dbos(folder: Path) -> AsyncIterator[Pipeline]:
    """Each item a workflow, each model request a step, in SQLite."""
    from dbos import DBOS
    from pydantic_ai.durable_exec.dbos import DBOSDurability

    database = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": database,
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )
    stages = agents(capabilities=[DBOSDurability()])

    @DBOS.workflow()
    async def pipeline(text: str) -> str:
        for agent in stages:
            text = (await agent.run(text)).output
        return text

    DBOS.launch()
    yield pipeline
    DBOS.destroy()


LOGS: dict[str, Callable[[Path], AsyncIterator[Pipeline]]] = {
    "none": no_log, "direct": direct, "memory": memory, "spans": spans, "dbos": dbos
}  # fmt: skip


@asynccontextmanager
async def contender(log: str, at_once: int, folder: Path) -> AsyncIterator[Batch]:
    async with asynccontextmanager(LOGS[log])(folder) as pipeline:  # type: ignore[arg-type]
        turn = asyncio.Semaphore(at_once)

        async def one(text: str) -> str:
            async with turn:
                return await pipeline(text)

        async def batch(texts: list[str]) -> Sequence[str]:
            results = await asyncio.gather(*map(one, texts))
            getattr(pipeline, "done", lambda: None)()
            return results

        yield batch


if __name__ == "__main__":
    main(contender, ["pydantic-ai-slim", "pydantic", "dbos", "opentelemetry-sdk"])
