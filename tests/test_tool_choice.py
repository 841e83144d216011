"""A `tool_choice` that forces a call is followed once: then the model may answer."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, record
from lllm.core.choice import forces, freed
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import Request
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from tests.replay.test_backend import Played

NAMED = {"type": "function", "function": {"name": "look"}}
SOME = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
FORCED: list[Any] = [
    "required", "any", "look", NAMED, {"type": "function", "name": "look"}, {"type": "any"},
    {"type": "tool", "name": "look"}, SOME, {"type": "allowed_tools", "mode": "required", "tools": [NAMED]},
]  # fmt: skip
FREE: list[Any] = [
    None, "auto", "none", {"type": "auto"}, {"type": "none"}, {"type": "auto", "disable_parallel_tool_use": True},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
]  # fmt: skip


@tool
def look(n: int) -> str:
    """Looks."""
    return f"seen {n}"


def obedient(request: Request) -> Any:
    """Calls a tool as long as it is told to, and once by itself."""
    rounds = sum(message.role == "tool" for message in request.messages)
    extra = request.sampling.get("extra_body", {})
    told = forces(request.sampling.get("tool_choice")) or forces(extra.get("tool_choice"))
    if request.tools and (told or not rounds):
        return FunctionCall(f"c{rounds}", "look", f'{{"n":{rounds}}}')
    return "seen"


@pytest.mark.parametrize("choice", FORCED, ids=str)
def test_a_forced_call_is_made_once(choice: Any) -> None:
    store, backend = MemoryLog(), ScriptedBackend(obedient)

    def program() -> str:
        with record("look", store=store, seed=1) as session:
            for _ in range(2):  # each call begins anew
                assert Agent("a", backend, tools=[look], tool_choice=choice)("go").content == "seen"
        return session.id

    id = program()
    assert len(backend.requests) == 4
    chosen = [request.sampling.get("tool_choice") for request in backend.requests]
    assert chosen[0] == chosen[2] == choice
    assert not any(map(forces, chosen[1::2]))
    assert replay_session(id, store=store, entry=program, raises=True).verified
    fork = fork_session(id, at=1, store=store, entry=program)
    assert len(backend.requests) == 8, fork
    with record("again", store=store):
        again = Agent("a", Played(store, id), tools=[look], tool_choice=choice)
        assert again("go").content == "seen"


def test_what_a_provider_is_sent_besides_is_freed_too() -> None:
    backend = ScriptedBackend(obedient)
    agent = Agent("a", backend, tools=[look], extra_body={"tool_choice": "required", "top_k": 3})
    assert agent("go").content == "seen"
    assert [request.sampling["extra_body"] for request in backend.requests] == [
        {"tool_choice": "required", "top_k": 3},
        {"top_k": 3},
    ]


def test_it_is_sent_again_with_a_repaired_reply() -> None:
    """A reply that was rejected has run nothing."""
    replies: list[Any] = [FunctionCall("x", "nosuch", "{}"), FunctionCall("y", "look", '{"n":1}'), "seen"]
    backend = ScriptedBackend(replies)
    Agent("a", backend, tools=[look], tool_choice="required")("go")
    assert [request.sampling.get("tool_choice") for request in backend.requests] == [
        "required",
        "required",
        None,
    ]


@pytest.mark.parametrize("choice", FREE, ids=str)
def test_what_forces_nothing_stays(choice: Any) -> None:
    sampling = {"tool_choice": choice, "temperature": 0}
    assert not forces(choice)
    assert freed(sampling) is sampling


def test_a_list_of_allowed_tools_stays() -> None:
    assert freed({"tool_choice": SOME, "seed": 1}) == {
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
        "seed": 1,
    }
    assert SOME["allowed_tools"]["mode"] == "required"
