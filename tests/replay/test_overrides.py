"""Sampling values and limits that were given for one call: a replay of calls alone gives them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, MemoryLog, record, replay_session
from lllm.backends.scripted import ScriptedBackend
from lllm.config import load_config
from lllm.core import events as ev
from lllm.errors import ReplayDivergence
from lllm.llm.bind import Binding
from lllm.llm.build import agent_of
from lllm.llm.project import default_store
from lllm.log.views import load
from lllm.registry import registry
from lllm.replay.fork import fork_session

SYSTEM = """agent_configs:
  asked:
    model_name: told/m
    temperature: {temperature}
    max_model_calls: 3
"""
GIVEN: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 0.7, "seed": 3, "max_tokens": 9},
    {"max_model_calls": 2, "deadline": 30.0},
    {"max_model_calls": None},
    {"temperature": None},
    {"top_p": 0.5, "tools": []},
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "lllm.toml").write_text('[run]\ndefault = "system.yaml"\n')
    (tmp_path / "system.yaml").write_text(SYSTEM.format(temperature=0.1))
    monkeypatch.chdir(tmp_path)
    with registry.scope():
        registry.add("backend", "told", lambda **_: ScriptedBackend(lambda request: "Yes."))
        yield tmp_path


def ask(**given: Any) -> str:
    config = load_config(Path("system.yaml"))
    agent = agent_of(config.agents["asked"], config)
    with record() as session:
        agent("Is it?", **given)
        agent("And now?")
    return session.id


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_they_are_given_again(project: Path, given: dict[str, Any]) -> None:
    session = ask(**given)
    first, second = (
        event["data"] for event in load(default_store(), session) if event["kind"] == ev.CALL_STARTED
    )
    assert first["overrides"] == sorted(name for name in given if name != "tools")
    assert "overrides" not in second
    found = replay_session(session)
    assert found.verified
    assert found.reexecuted == 2


def test_what_the_agent_sets_itself_is_compared_all_the_same(project: Path) -> None:
    session = ask(seed=3)
    (project / "system.yaml").write_text(SYSTEM.format(temperature=0.2))
    with pytest.raises(ReplayDivergence, match="sampling: temperature changed"):
        replay_session(session, raises=True)


def test_a_fork_has_them_too(project: Path) -> None:
    session = ask(temperature=0.7, seed=3)
    made = fork_session(session, at=1, edit="Was it?")
    (first, _) = (
        event["data"] for event in load(default_store(), made.session) if event["kind"] == ev.CALL_STARTED
    )
    assert first["sampling"] == {"seed": 3, "temperature": 0.7}


def test_a_session_of_before_they_were_noted_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryLog()
    agent = Agent("asked", ScriptedBackend(lambda request: "Yes."))

    def program() -> str:
        with record(store=store) as session:
            agent("Is it?", temperature=0.7)
        return session.id

    with monkeypatch.context() as old:
        old.setattr(Binding, "with_overrides", lambda binding, names: binding)
        session = program()
    started = next(event["data"] for event in load(store, session) if event["kind"] == ev.CALL_STARTED)
    assert "overrides" not in started
    assert replay_session(session, store=store, entry=program).verified
