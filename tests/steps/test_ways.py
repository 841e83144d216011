"""Every component, called in each of the ways that there are: the same result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import lllm.agents
import lllm.systems
from lllm import ScriptedBackend, step
from lllm.agents import BaseAgent
from lllm.llm.system import AsyncAgentBase
from lllm.ports import Request
from lllm.steps import Step
from lllm.systems import System
from tests.steps.components import COMPONENTS, value

ITEMS = ["ab c", "b "]
MANY = ("chain", "parallel", "join", "map", "loop", "Discussion", "MultiCallSystem")
"""Kinds whose result is not the text of one stream."""


def answer(request: Request) -> str:
    if request.format is not None:
        return '{"route": "a"}'
    return f"<{request.messages[-1].text}>"


@pytest.mark.parametrize("kind", COMPONENTS)
def test_the_ways_to_call_a_component_are_equal(kind: str) -> None:
    made = COMPONENTS[kind](ScriptedBackend(answer, chunk=2))
    stage = step(made)

    async def one_by_one(called: Any) -> list[Any]:
        return [value(await called.acall(item)) for item in ITEMS]

    async def run(stage: Step) -> list[Any]:
        return [value((await stage.arun(item)).value) for item in ITEMS]

    async def streamed(stage: Step) -> list[Any]:
        return [value(await stage.astream(item).acollect()) for item in ITEMS]

    found = asyncio.run(run(stage))
    for called in (made, stage):
        assert [value(called(item)) for item in ITEMS] == found, called
        assert asyncio.run(one_by_one(called)) == found, called
        assert value(called.batch(ITEMS)) == found, called
        assert value(asyncio.run(called.abatch(ITEMS))) == found, called
    assert [value(stage.stream(item).collect()) for item in ITEMS] == found
    assert asyncio.run(streamed(stage)) == found
    if stage.streams and kind not in MANY:
        assert ["".join(stage.stream(item).text()) for item in ITEMS] == found


def classes(base: type) -> Iterator[Any]:
    one: type
    for one in base.__subclasses__():
        yield one
        yield from classes(one)


def is_public(one: Any) -> bool:
    return one.__module__.startswith("lllm.") and not one.__name__.startswith("_")


def test_every_kind_of_component_is_in_the_table() -> None:
    """A new kind of step, a new ready system or agent, a new `agent_type` fails here until it is in the table."""
    made = [make(ScriptedBackend(answer)) for make in COMPONENTS.values()]
    kinds = {step(one).kind for one in made} | {part.kind for one in made for part in parts(one)}
    here = ("lllm.steps.", "lllm.systems.")  # steps of other packages are parts of what these have
    assert {one.kind for one in classes(Step) if is_public(one) and one.__module__.startswith(here)} <= kinds
    ready = {vars(lllm.systems)[name] for name in lllm.systems.__all__}
    ready |= {vars(lllm.agents)[name] for name in lllm.agents.__all__}
    steps = {one for one in ready if isinstance(one, type) and issubclass(one, Step | BaseAgent)} - {System}
    assert {one for one in steps if not any(isinstance(item, one) for item in made)} == set()
    declared = {one for one in classes(AsyncAgentBase) if is_public(one) and vars(one).get("agent_type")}
    assert len(declared) >= 3
    assert {one for one in declared if not any(isinstance(item, one) for item in made)} == set()


def parts(made: Any) -> Iterator[Step]:
    if isinstance(made, lllm.Chain):
        yield from made


def test_a_kind_that_is_missing_is_found() -> None:
    odd: Any = type("Odd", (Step,), {"kind": "odd", "__module__": "lllm.steps.odd"})
    with pytest.raises(AssertionError):
        test_every_kind_of_component_is_in_the_table()
    odd.kind = "function"  # it stays known to Python
