"""A `StateGraph` of three nodes, each of which calls a chat model; `abatch` with `max_concurrency`. Its log is the
checkpointer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.contenders.measure import STAGES, Batch, answer, instructions, main


class Scripted(BaseChatModel):
    """A chat model with an async method of its own: without one, each call would go to a thread."""

    stage: str

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:
        message = AIMessage(content=answer(self.stage, messages[-1].content))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any
    ) -> ChatResult:
        return self._generate(messages)


class State(TypedDict):
    text: str


def node(stage: str) -> Any:
    model = Scripted(stage=stage)

    async def call(state: State) -> State:
        reply = await model.ainvoke([SystemMessage(instructions(stage)), HumanMessage(state["text"])])
        return {"text": str(reply.content)}

    return call


def graph(saver: Any) -> Any:
    built = StateGraph(State)
    for stage in STAGES:
        built.add_node(stage, node(stage))
    for before, after in zip((START, *STAGES), (*STAGES, END), strict=True):
        built.add_edge(before, after)
    return built.compile(checkpointer=saver)


@asynccontextmanager
async def opened(log: str, folder: Path) -> AsyncIterator[Any]:
    """The checkpointer of a log."""
    if log.startswith("sqlite"):
        async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
            yield saver
    else:
        yield InMemorySaver() if log == "memory" else None


@asynccontextmanager
async def contender(log: str, at_once: int, folder: Path) -> AsyncIterator[Batch]:
    # by default a checkpoint is written after each node; with `exit` one is, when the graph has ended
    more = {"durability": "exit"} if log == "sqlite at exit" else {}
    async with opened(log, folder) as saver:
        pipeline = graph(saver)
        threads = 0

        async def batch(texts: list[str]) -> Sequence[str]:
            nonlocal threads
            threads += 1
            configs = [
                {"configurable": {"thread_id": f"{threads}-{number}"}, "max_concurrency": at_once}
                for number in range(len(texts))
            ]
            states = await pipeline.abatch([{"text": text} for text in texts], configs, **more)
            return [state["text"] for state in states]

        yield batch


if __name__ == "__main__":
    main(contender, ["langgraph", "langchain-core", "langgraph-checkpoint-sqlite"])
