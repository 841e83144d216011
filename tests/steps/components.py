"""Every kind of component, made with a given model: what the tables of ways to call them go over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import lllm
from lllm import (
    LLM,
    Agent,
    AgentBase,
    AsyncAgentBase,
    build_agent,
    fallback,
    join,
    loop,
    parallel,
    retry,
    route,
    sink,
    step,
)
from lllm.agents import BaseAgent, BasicAgent, ContextAgent
from lllm.models.function import tool
from lllm.systems import ChainOfAgents, Discussion, MultiCallSystem, router, vote


def clean(text: str) -> str:
    return text.strip()


async def shout(text: str) -> str:
    return f"{text}!"


def pieces(text: str) -> Any:
    yield from text


def keep(value: Any) -> None:
    """Does nothing with what passes."""


@tool
def count(text: str) -> int:
    """Count the characters of a text."""
    return len(text)


class Derived(BaseAgent):
    async def run(self, prompt: str, **kwargs: Any) -> Any:
        return await self._stream_and_aggregate(f"Say it: {prompt}", **kwargs)


def agent(model: Any, name: str = "writer", **settings: Any) -> Agent:
    return Agent(name, model, **settings)


def system(model: Any) -> AgentBase:
    writer = agent(model)

    class Twice(AgentBase, register=False):
        def call(self, task: str, **more: Any) -> str:
            return f"{writer(task)} / {writer(task)}"

    return Twice()


def async_system(model: Any) -> AsyncAgentBase:
    writer = agent(model)

    class Once(AsyncAgentBase, register=False):
        async def call(self, task: str, **more: Any) -> str:
            return str(await writer.acall(task))

    return Once()


def declared(model: Any, **keys: Any) -> Any:
    return build_agent({"agent_configs": {"writer": {}}, **keys}, model=model)


COMPONENTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "function": lambda model: step(clean),
    "async function": lambda model: step(shout),
    "generator": lambda model: step(pieces),
    "LLM": lambda model: model if isinstance(model, LLM) else LLM(model),
    "agent": agent,
    "agent with a tool": lambda model: agent(model, tools=[count]),
    "BaseAgent": lambda model: Derived("derived", model),
    "BasicAgent": lambda model: BasicAgent("basic", model),
    "ContextAgent": lambda model: ContextAgent("context", model, "Be short."),
    "system": system,
    "async system": async_system,
    "chain": lambda model: step(clean) >> agent(model) >> shout,
    "parallel": lambda model: parallel(clean, agent(model)),
    "join": lambda model: parallel(clean, agent(model)) >> join(lambda found: "|".join(map(str, found))),
    "map": lambda model: step(str.split) >> lllm.map(agent(model)),
    "route": lambda model: route(lambda text: text[:1], {"a": agent(model)}, default=clean),
    "loop": lambda model: loop(agent(model), times=2),
    "retry": lambda model: retry(agent(model), times=2),
    "fallback": lambda model: fallback(agent(model), clean),
    "sink": lambda model: sink(keep),
    "ChainOfAgents": lambda model: ChainOfAgents(
        "reader", model, prompt="Say it.", budget=400, max_tokens=20
    ),
    "MultiCallSystem": lambda model: MultiCallSystem("drafts", model, num_calls=2, pick=vote()),
    "Discussion": lambda model: Discussion(
        "debate", [agent(model, "left"), agent(model, "right")], rounds=1, judge=agent(model, "judge")
    ),
    "router": lambda model: router(
        "desk", model, {"a": ("questions", agent(model)), "b": ("all else", step(clean))}
    ),
    "YAML steps": lambda model: declared(model, steps=["builtins:str.strip", "writer"]),
    "YAML chain_of_agents": lambda model: declared(
        model, agent_type="chain_of_agents", settings={"prompt": "Say it.", "budget": 400}
    ),
    "YAML multi_call": lambda model: declared(
        model, agent_type="multi_call", settings={"num_calls": 2, "pick": "vote"}
    ),
}
"""Name -> what makes it of a model."""


def value(result: Any) -> Any:
    """A result without the sessions that it names."""
    if isinstance(result, list):
        return [value(one) for one in result]
    return str(result)
