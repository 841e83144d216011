"""`agent_type: coder`: one line of YAML is a whole system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lllm import FunctionCall, MemoryLog, ScriptedBackend, build_agent, load_config
from lllm.config.presets import CODER
from lllm.errors import ConfigError, DeadlineExceeded
from lllm.llm.coder import Coder
from lllm.log.views import load


def python(code: str) -> FunctionCall:
    return FunctionCall("", "python", json.dumps({"code": code}))


def built(model: Any, **config: Any) -> Coder:
    system = build_agent({"agent_type": "coder", **config}, model=model, log_base=MemoryLog())
    assert isinstance(system, Coder)
    return system


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_line_is_a_system() -> None:
    Path("coder.yaml").write_text("agent_type: coder\n")
    system = build_agent("coder.yaml", model=ScriptedBackend(["done"]), log_base=MemoryLog())
    agent = system.agents["coder"]
    assert [tool.name for tool in agent.tools] == ["python", "shell", "files"]
    assert agent.system_prompt is not None
    assert agent.system_prompt.prompt == CODER
    assert (agent.limits.max_interrupt_times, agent.limits.deadline) == (40, 1800)
    assert system("go") == "done"


def test_what_files_and_runs_say_is_stronger() -> None:
    Path("lllm.toml").write_text("[profiles.quick]\nmax_interrupt_times = 3\n")
    given = {
        "agent_type": "coder",
        "deadline": 7,
        "agent_configs": {"coder": {"system_prompt": "Be brief.", "max_model_calls": 5}},
    }
    declared = load_config(given, profile="quick", overrides=["max_tokens=9"]).agents["coder"]
    assert declared.system_prompt == "Be brief."
    assert declared.sandbox == "jupyter"
    assert declared.sampling == {"max_tokens": 9}
    limits = declared.limits
    assert (limits.max_interrupt_times, limits.deadline, limits.max_model_calls) == (3, 7, 5)


def test_a_registered_prompt_takes_the_place_of_its_own() -> None:
    declared = load_config(
        {"agent_type": "coder", "agent_configs": {"coder": {"system_prompt_path": "my/own"}}}
    ).agents["coder"]
    assert (declared.system_prompt, declared.system_prompt_path) == (None, "my/own")


def test_other_systems_are_not_touched() -> None:
    config = load_config({"agent_type": "simple", "agent_configs": {"a": {}}})
    assert list(config.agents) == ["a"]
    assert config.agents["a"].sandbox is None


def test_without_a_sandbox_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="the agent 'coder' has no tool 'python'"):
        built(ScriptedBackend([]), agent_configs={"coder": {"sandbox": None}})


def test_cells_are_bounded() -> None:
    model = ScriptedBackend([python("1"), python("2"), "It is not done yet."])
    system = built(model, max_interrupt_times=2)
    assert system("go") == "It is not done yet."
    assert model.requests[-1].tools == ()
    assert "No more tool calls" in model.requests[-1].messages[-1].text


def test_time_is_bounded_and_the_notebook_is_left() -> None:
    system = built(ScriptedBackend([python("x = 1"), python("import time; time.sleep(600)")]), deadline=4)
    with pytest.raises(DeadlineExceeded):
        system("go")
    events = load(system.store, system.session.id)
    if any(event["kind"] == "ToolReturned" for event in events):  # the first kernel may be slow to start
        first, *_ = json.loads(system.notebook.read_text())["cells"]
        assert (first["source"], first["execution_count"]) == ("x = 1", 1)


def test_a_cell_is_bounded_and_the_next_one_runs() -> None:
    model = ScriptedBackend([python("x = 1\nwhile True: pass"), python("x"), "done"])
    built(model, sandbox={"timeout": 1})("go")
    first, second = [one.text for one in model.requests[-1].messages if one.role == "tool"]
    assert "The kernel and its variables are still there" in first
    assert second == "1"


def test_it_says_where_the_notebook_is() -> None:
    system = built(ScriptedBackend([python("6 * 7"), "42"]))
    system("go")
    shown = [event["data"] for event in load(system.store, system.session.id) if event["kind"] == "Frontend"]
    assert f"Notebook: {system.notebook}" in str(shown)
    assert system.notebook.is_file()


def test_its_prompt_takes_the_task() -> None:
    model = ScriptedBackend(["done"])
    system = built(model, agent_configs={"coder": {"prompt": "Do this: {task}"}})
    system("count")
    assert model.requests[0].messages[-1].text == "Do this: count"
