"""The ready systems in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, MemoryLog, ScriptedBackend, build_agent, replay_session
from lllm.config import load_config
from lllm.errors import ConfigError
from lllm.llm.build import check
from lllm.systems import ChainOfAgents
from tests.systems.test_chain_of_agents import TEXT, noting
from tests.systems.test_multi_call import Numbered

READER = {"reader": {"system_prompt": "You read."}}


def built(kind: str, model: Any, agents: Any = READER, **settings: Any) -> Any:
    config = {"agent_type": kind, "agent_configs": agents, "settings": settings}
    return build_agent(config, model=ScriptedBackend(model), log_base=MemoryLog())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(TEXT)
    return tmp_path


def test_a_task_over_the_text_of_a_file(folder: Path) -> None:
    system = built("chain_of_agents", noting, text="book.txt", budget=500, mode="tree")
    assert system("Who?") == "the answer"
    backend = system.agents["reader"]._settings.backend
    assert backend.requests[-1].messages[0].text == "You read."
    assert "Who?" in backend.requests[-1].messages[1].text
    assert len(backend.requests) > 5
    (folder / "book.txt").write_text("other")
    report = replay_session(system.session.id, store=system.store, entry=lambda: system("Who?"))
    assert report.verified, report.divergence


def test_a_task_that_is_the_text(folder: Path) -> None:
    system = built("chain_of_agents", noting, prompt="Summarise.", budget=500)
    assert system(TEXT) == "the answer"
    assert "Summarise." in system.agents["reader"]._settings.backend.requests[-1].messages[1].text


def test_drafts_and_what_was_picked(folder: Path) -> None:
    assert built("multi_call", Numbered(), num_calls=2, output_dir="out")("Write.") == {
        f"call_{n}": str(folder / "out" / f"output_{n}.txt") for n in (1, 2)
    }
    assert built("multi_call", ["a", "b", "b"], pick="vote")("Write.") == "b"
    assert built("multi_call", ["a 1", "b 2", "c 2"], pick="vote_by_number", limit=1)("Write.") == "b 2"
    assert built("multi_call", ["a", "c", "b"], pick="builtins:max")("Write.") == "c"


def test_a_call_that_failed_is_an_error_in_its_place() -> None:
    agents = {"reader": {"max_provider_retry": 0}}
    found = built("multi_call", Numbered(2), agents, num_calls=3, limit=1)("Write.")
    assert list(found) == ["call_1", "call_2", "call_3"]
    assert "item 1 failed" in found["call_2"]["error"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("chain_of_agents", {}),
        ("chain_of_agents", {"text": "a", "prompt": "b"}),
        ("chain_of_agents", {"text": 5}),
        ("chain_of_agents", {"prompt": "x", "mode": "spiral"}),
        ("chain_of_agents", {"prompt": "x", "chunks": 5}),
        ("multi_call", {"num_calls": 0}),
        ("multi_call", {"pick": "best"}),
        ("multi_call", {"pick": "builtins:nothing_there"}),
        ("multi_call", {"output_dir": 5}),
        ("multi_call", {"base_filename": "../x"}),
        ("multi_call", {"calls": 5}),
    ],
)
def test_settings_that_cannot_be_are_found_before_anything_runs(kind: str, settings: Any) -> None:
    with pytest.raises(ConfigError):
        built(kind, ["x"], **settings)
    assert check(load_config({"agent_type": kind, "agent_configs": READER, "settings": settings}))


@pytest.mark.parametrize(("line", "number"), [("  modes: tree", 6), ("  mode: spiral", 4)])
def test_what_is_wrong_is_shown_where_it_stands(folder: Path, line: str, number: int) -> None:
    (folder / "s.yaml").write_text(
        f"agent_type: chain_of_agents\nagent_configs:\n  reader: {{}}\nsettings:\n  prompt: x\n{line}\n"
    )
    with pytest.raises(ConfigError, match=rf"s\.yaml:{number}: .*mode"):
        build_agent("s.yaml", model=ScriptedBackend(["x"]))


@pytest.mark.parametrize("agents", [{}, {"a": {}, "b": {}}])
def test_it_works_with_one_agent(agents: Any) -> None:
    with pytest.raises(ConfigError, match="works with one agent"):
        built("multi_call", ["x"], agents)


def test_a_text_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"'gone\.txt' cannot be read"):
        built("chain_of_agents", ["x"], text="gone.txt")("Who?")


def test_an_agent_does_the_calls_and_remembers_none() -> None:
    backend = ScriptedBackend(noting)
    agent = Agent("own", LLM(backend, temperature=0.5), "You read.", memory=True)
    assert ChainOfAgents("reader", agent, budget=500, store=MemoryLog())("Who?", TEXT) == "the answer"
    assert {len(request.messages) for request in backend.requests} == {2}
    assert {request.sampling["temperature"] for request in backend.requests} == {0.5}
