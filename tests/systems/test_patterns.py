"""Discussions, and routers whose choice is a model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, record, replay_session, step
from lllm.errors import ConfigError, RepairExhausted
from lllm.ports import Request
from lllm.systems import ChainOfAgents, Discussion, MultiCallSystem, Turn, router, vote
from tests.systems.test_chain_of_agents import TEXT


def speaker(name: str) -> Agent:
    seen: list[str] = []

    def reply(request: Request) -> str:
        seen.append(request.messages[-1].text)
        return f"{name} says {len(seen)}"

    agent = Agent(name, ScriptedBackend(reply))
    agent.description = ""
    vars(agent)["seen"] = seen
    return agent


def test_each_speaks_in_turn_and_hears_all_before() -> None:
    a, b, judge, store = speaker("a"), speaker("b"), speaker("judge"), MemoryLog()
    debate = Discussion("debate", [a, b], rounds=2, judge=judge)
    result = debate.run("Rain?", store=store)
    assert result.value == "judge says 1"
    assert result.value.turns == (
        Turn(1, "a", "a says 1"), Turn(1, "b", "b says 1"), Turn(2, "a", "a says 2"), Turn(2, "b", "b says 2"),
    )  # fmt: skip
    assert vars(a)["seen"][0] == "Rain?"
    assert "a: a says 1" in vars(b)["seen"][0]
    assert all(words in vars(a)["seen"][1] for words in ("a: a says 1", "b: b says 1", "Rain?"))
    assert all(turn.text in vars(judge)["seen"][0] for turn in result.value.turns)
    assert result.use.model_calls == 5
    assert replay_session(
        result.session, store=store, entry=lambda: debate.run("Rain?", store=store)
    ).verified


def test_at_once_nobody_hears_the_others_of_the_round() -> None:
    a, b = speaker("a"), speaker("b")
    found = Discussion("debate", {"x": a, "y": b}, at_once=True, store=MemoryLog())("Rain?")
    assert found == "b says 2"
    assert vars(b)["seen"][0] == "Rain?"
    assert all(words in vars(b)["seen"][1] for words in ("x: a says 1", "y: b says 1"))
    assert [turn.name for turn in found.turns] == ["x", "y", "x", "y"]


def test_it_ends_when_it_is_enough() -> None:
    def agreed(turns: tuple[Turn, ...]) -> bool:
        return turns[-1].round == 2

    found = Discussion("d", [speaker("a"), speaker("b")], rounds=9, until=agreed, store=MemoryLog())("Rain?")
    assert len(found.turns) == 4


def test_it_stands_in_chains() -> None:
    chain = step(str.strip) >> Discussion("d", [speaker("a"), str.upper], rounds=1) >> speaker("end")
    assert str(chain.run(" rain? ", store=MemoryLog()).value) == "end says 1"


@pytest.mark.parametrize(
    "agents", [[], [speaker("a"), speaker("a")], {"a/b": speaker("a")}, {"": speaker("a")}]
)
def test_agents_that_cannot_discuss(agents: Any) -> None:
    with pytest.raises(ConfigError):
        Discussion("d", agents)


@pytest.mark.parametrize("more", [{"rounds": 0}, {"rounds": True}])
def test_settings_that_cannot_be(more: Any) -> None:
    with pytest.raises(ConfigError):
        Discussion("d", [speaker("a")], **more)


def choosing(*replies: str) -> tuple[ScriptedBackend, Any]:
    backend = ScriptedBackend(list(replies))
    routes = {"bills": ("invoices and refunds", step(str.upper)), "rest": ("all else", step(str.lower))}
    return backend, router("desk", backend, routes, step(str.title))


def test_a_model_chooses_by_what_routes_are_for() -> None:
    backend, desk = choosing('{"route": "bills"}', '{"route": "rest"}', '{"route": "other"}')
    store = MemoryLog()
    assert [str(desk.run("My Bill", store=store).value) for _ in range(3)] == [
        "MY BILL",
        "my bill",
        "My Bill",
    ]
    assert "- bills: invoices and refunds" in backend.requests[0].messages[0].text
    assert backend.requests[0].format["schema"]["properties"]["route"]["enum"] == ["bills", "rest", "other"]


def test_a_choice_that_there_is_not_is_asked_again() -> None:
    _, desk = choosing('{"route": "nowhere"}', '{"route": "bills"}')
    assert str(desk.run("My Bill", store=MemoryLog()).value) == "MY BILL"
    _, desk = choosing(*['{"route": "nowhere"}'] * 9)
    with pytest.raises(RepairExhausted):
        desk.run("My Bill", store=MemoryLog())


@pytest.mark.parametrize("routes", [{}, {"a": str.upper}, {"a": (str.upper, "about")}])
def test_routes_without_what_they_are_for(routes: Any) -> None:
    with pytest.raises(ConfigError, match="what it is for"):
        router("desk", ScriptedBackend(["x"]), routes)


def test_systems_within_one_session_are_told_apart_in_a_replay(tmp_path: Path) -> None:
    store, asked = MemoryLog(), 0

    def reply(request: Request) -> str:
        nonlocal asked
        asked += 1
        return f"reply {asked}"

    def program() -> tuple[str, list[Any]]:
        model = ScriptedBackend(reply)
        reader = ChainOfAgents("reader", model, budget=400, mode="tree")
        drafts = MultiCallSystem("drafts", model, pick=vote())
        debate = Discussion("debate", {"a": Agent("a", model), "b": Agent("b", model)}, at_once=True)
        with record(store=store) as session:
            runs = [reader("Who?", TEXT) for _ in range(2)]
            runs += [drafts("Write.", 3, output_dir=tmp_path) for _ in range(2)]
            return session.id, [*runs, debate("Who?"), reader.batch([TEXT, TEXT])]

    session, results = program()
    before, again = asked, list[Any]()
    report = replay_session(session, store=store, entry=lambda: again.append(program()))
    assert report.verified, report.divergence
    assert asked == before
    assert again[0][1] == results
    assert len(list(tmp_path.iterdir())) == 6
