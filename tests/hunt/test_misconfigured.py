"""What is wrong with a project is told with its place, and a session that failed for it replays."""

from __future__ import annotations

from pathlib import Path

import pytest

from lllm import Agent, ScriptedBackend, record, replay_session
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from tests.cli.conftest import Terminal, demo, lllm  # noqa: F401  the fixtures of the command line

FAULT = ConfigError("the header Authorization is not one", hint="It comes from OPENAI_API_KEY.")


def test_a_backend_that_is_misconfigured_replays() -> None:
    store = MemoryLog()

    def program() -> None:
        with record("x", store=store):
            Agent("a", ScriptedBackend([FAULT]))("y")

    with pytest.raises(ConfigError):
        program()
    report = replay_session(store.sessions()[0].id, store=store, entry=program)
    assert report.verified, report.divergence


def test_a_tool_that_is_missing_has_its_line(demo: Path, lllm: Terminal) -> None:  # noqa: F811
    file = demo / "config" / "demo" / "default.yaml"
    file.write_text(file.read_text().replace("tools: [calculate]", "tools: [calculat]"))
    line = 1 + file.read_text().split("tools: [calculat]")[0].count("\n")
    for command in (("run", "x"), ("check",)):
        result = lllm(*command)
        assert result.code == 2
        assert f"config/demo/default.yaml:{line}: no tool named 'calculat'" in result.err


def test_a_module_that_raises_something_mute_is_reported(demo: Path, lllm: Terminal) -> None:  # noqa: F811
    file = demo / "system" / "agent" / "prompts" / "task.py"
    file.write_text(
        file.read_text() + "class E(Exception):\n    def __str__(self):\n        return 1 / 0\nraise E\n"
    )
    result = lllm("check")
    assert result.code == 2
    assert "does not import: E: E" in result.err
