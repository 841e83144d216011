"""Names of steps: the rule of YAML holds in Python too, and two branches never have one place in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lllm
from lllm import (
    MemoryLog,
    ScriptedBackend,
    chain,
    fallback,
    join,
    loop,
    map,
    parallel,
    retry,
    route,
    sink,
    step,
    to_jsonl,
)
from lllm.errors import ConfigError
from lllm.log.views import load
from lllm.systems import ChainOfAgents, Discussion, MultiCallSystem, router


def up(text: str) -> str:
    return text.upper()


MAKERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda name: step(up, name=name),
    "decorator": lambda name: step(name=name)(up),
    "chain": lambda name: chain(up, up, name=name),
    "parallel": lambda name: parallel(up, name=name),
    "map": lambda name: map(up, name=name),
    "join": lambda name: join(len, name=name),
    "route": lambda name: route(up, {"A": up}, name=name),
    "loop": lambda name: loop(up, times=1, name=name),
    "retry": lambda name: retry(up, name=name),
    "fallback": lambda name: fallback(up, name=name),
    "to_jsonl": lambda name: to_jsonl("rows.jsonl", name=name),
    "sink": lambda name: sink(up, name=name),
}
SYSTEMS: dict[str, Callable[[Any], Any]] = {
    "ChainOfAgents": lambda name: ChainOfAgents(name, ScriptedBackend()),
    "MultiCallSystem": lambda name: MultiCallSystem(name, ScriptedBackend()),
    "Discussion": lambda name: Discussion(name, [lllm.Agent("a", ScriptedBackend())]),
    "router": lambda name: router(name, ScriptedBackend(), {"a": ("x", up)}),
}


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("name", ["", "  \n", 3, ["a"]])
def test_a_name_is_text_that_is_not_blank(made: str, name: Any) -> None:
    with pytest.raises(ConfigError, match=r"name of a .* is .*; it wants a text that is not blank"):
        MAKERS[made](name)


@pytest.mark.parametrize("made", SYSTEMS)
@pytest.mark.parametrize("name", ["", " ", 3, None])
def test_so_is_the_name_of_a_system(made: str, name: Any) -> None:
    with pytest.raises(ConfigError, match="it wants a text"):
        SYSTEMS[made](name)


@pytest.mark.parametrize("made", [*MAKERS, *SYSTEMS])
def test_any_other_text_is_a_name(made: str) -> None:
    assert (MAKERS | SYSTEMS)[made]("a/b: c \N{PILE OF POO}").name == "a/b: c \N{PILE OF POO}"


def test_stages_of_one_name_are_told_apart_by_their_places() -> None:
    store = MemoryLog()
    same = chain(step(up, name="a/b"), step(str.title, name="a/b"))
    result = same.run("x", store=store)
    assert [(stage.stage, stage.name, stage.value) for stage in result.stages] == [
        ("1/1", "a/b", "X"),
        ("1/2", "a/b", "X"),
    ]
    assert result.stages.named("a/b").stage == "1/2"
    assert lllm.replay_session(result.session, store=store, entry=lambda: same.run("x", store=store)).verified


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: parallel({1: up, "1": len}), "'1': another branch"),
        (lambda: parallel({" ": up}), "' '"),
        (lambda: parallel({"a/b": up}), "'a/b'"),
        (lambda: route(up, {1: up, "1": up}), "'1': another branch"),
        (lambda: route(up, {"choose": up}), "'choose': the choose step of route"),
        (lambda: route(up, {"default": up}, up), "'default': the default step of route"),
        (lambda: route(up, {"": up}), "''"),
    ],
)
def test_a_branch_has_a_place_of_its_own(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"a branch cannot be called {words}"):
        build()


def test_a_route_may_be_called_default_where_there_is_no_other() -> None:
    store = MemoryLog()
    result = route(lambda text: "default", {"default": up}).run("x", store=store)
    assert result.value == "X"
    places = [
        event["data"]["stage"]
        for event in load(store, result.session or "")
        if event["kind"] == "StageStarted"
    ]
    assert places == ["1/1", "1/1/choose", "1/1/default"]


@pytest.mark.parametrize("name", ["", " ", "a/b", 1])
def test_who_speaks_in_a_discussion_has_a_place_too(name: Any) -> None:
    with pytest.raises(ConfigError, match="an agent of 'd' cannot be called"):
        Discussion("d", {name: lllm.Agent("a", ScriptedBackend())})
