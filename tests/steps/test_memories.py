"""Agents that remember one conversation are not asked side by side."""

from __future__ import annotations

from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, build_agent, parallel, step
from lllm.errors import ConfigError


def ada(memory: Any) -> Agent:
    return Agent("ada", ScriptedBackend(lambda request: f"{len(request.messages)}"), memory=memory)


def test_items_do_not_go_on_with_the_conversation_of_the_agent() -> None:
    one = ada(True)
    nested = lllm.retry(step(str.strip) >> one, times=2)
    for made in (one, step(str.strip) >> one, nested, lllm.route(str, {"x": one}, default=str)):
        for limit in (1, 4):
            with pytest.raises(ConfigError, match="'ada' remembers one conversation") as refused:
                made.batch(["x", "y"], limit=limit, store=MemoryLog())
            assert "memory='session'" in str(refused.value.hint)
    assert one.history == ()
    assert one.with_(memory=False).batch(["x"])[0].content == "1"


def test_items_have_conversations_of_their_own() -> None:
    one = ada("session")
    made = step(str.strip) >> one >> (lambda text: text) >> one
    assert [str(reply) for reply in made.batch(["x", "y", "z"], store=MemoryLog())] == ["3"] * 3


def test_items_within_a_session_are_asked_one_after_the_other() -> None:
    one, store = ada("session"), MemoryLog()
    with lllm.record("x", store=store):
        with pytest.raises(ConfigError, match="limit=1"):
            one.batch(["x", "y"])
        assert [str(reply) for reply in one.batch(["x", "y"], limit=1)] == ["1", "3"]


@pytest.mark.parametrize("memory", [True, "session"])
def test_map_and_parallel_say_so_when_they_are_made(memory: Any) -> None:
    one = ada(memory)
    with pytest.raises(ConfigError, match="map would ask it 16 things at once"):
        lllm.map(step(str.strip) >> one)
    assert [str(reply) for reply in lllm.map(one, limit=1).run(["x", "y"], store=MemoryLog()).value] == [
        "1",
        "3",
    ]
    with pytest.raises(ConfigError, match="two branches of parallel"):
        parallel(one, step(str.strip) >> one)
    other = ada(memory)
    twice = parallel(other, other.with_()).run("x", store=MemoryLog()).value
    assert [str(reply) for reply in twice] == ["1", "1"]


def test_a_system_in_yaml_says_so() -> None:
    with pytest.raises(ConfigError, match="remembers one conversation"):
        build_agent(
            {
                "steps": ["builtins:str.split", {"map": "writer"}],
                "agent_configs": {"writer": {"memory": "session"}},
            },
            model=ScriptedBackend(["x"]),
        )
