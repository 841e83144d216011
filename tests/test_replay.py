"""Replay: a session of a configured system re-executes byte for byte, and every change of the project is found at the right
event, with its cause."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.config import load_config
from lllm.errors import LogCorrupt, UnknownNameError
from lllm.llm import connect
from lllm.llm.build import build_agent
from lllm.log import SQLiteLog
from lllm.models.message import FunctionCall
from lllm.registry import registry
from lllm.replay import Report, replay_session

TOML = """
[discovery]
prompts = ["prompts"]
tools = ["tools"]
agents = ["agents"]

[log]
type = "sqlite"
dir = "log"
"""
YAML = """
name: demo
agent_type: demo_system
agent_configs:
  solver:
    model_name: scripted/any
    system_prompt: You solve sums.
    tools: [add]
    temperature: 0.25
  writer:
    model_name: scripted/any
    system_prompt: You write.
"""
PROMPTS = """
from lllm import Prompt

def strict(content):
    from lllm.errors import ParseError
    if "=" not in content:
        raise ParseError("no equals sign")
    return content.split("=")[1].strip()

task = Prompt("demo/task", "Please solve {task} now.", parser=strict)
write = Prompt("demo/write", "Write about {value}.")
"""
TOOLS = '''
from lllm import tool

@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b
'''
AGENTS = """
from lllm import AgentBase

class Demo(AgentBase):
    agent_type = "demo_system"
    agent_group = ["solver", "writer"]

    def call(self, task):
        self.stream.write("working on", task)
        value = self.agents["solver"].call("demo/task", {"task": task}).parsed
        return self.agents["writer"].call("demo/write", {"value": value}).content
"""
REPLIES = [
    [FunctionCall("a", "add", '{"a":1,"b":2}'), FunctionCall("b", "add", '{"a":3,"b":4}')],
    "it is three",
    "1 + 2 = 3",
    "A text about three.",
]


class Project:
    """A project folder whose modules are forgotten when `changed`, as a new process would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {
            "lllm.toml": TOML,
            "demo.yaml": YAML,
            "prompts/prompts_demo.py": PROMPTS,
            "tools/tools_demo.py": TOOLS,
            "agents/agents_demo.py": AGENTS,
        }
        self.write()
        self.store = SQLiteLog(root / "log" / "sessions.db")

    def write(self) -> None:
        for name, text in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        assert old in self.files[name]
        self.files[name] = self.files[name].replace(old, new)
        self.write()

    def fresh(self, action: Callable[[], Any]) -> Any:
        """Runs something as a new process would: nothing imported, nothing registered."""
        for name in list(sys.modules):
            if name.rpartition(".")[2] in ("prompts_demo", "tools_demo", "agents_demo"):
                del sys.modules[name]
        with registry.scope():
            from lllm.discovery import auto_discover

            auto_discover(self.root)
            return action()

    def run(self, replies: list[Any] | None = None) -> str:
        backend = ScriptedBackend(replies or REPLIES, model="any")
        backend.name = "scripted/any"  # type: ignore[attr-defined]

        def go() -> str:
            system = build_agent(load_config(self.root / "demo.yaml"), model=backend, log_base=self.store)
            system("1+2")
            return str(system.session.id)

        result: str = self.fresh(go)
        return result

    def replay(self, session: str) -> Report:
        def go() -> Report:
            return replay_session(session, store=self.store, config=load_config(self.root / "demo.yaml"))

        found: Report = self.fresh(go)
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(connect, "_open", {})
    # a module that is changed within a second, to the same length, would be taken from its stale byte code
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(tmp_path)
    yield made
    made.store.close()


def test_a_whole_session_is_re_executed_and_verified(project: Project) -> None:
    session = project.run()
    report = project.replay(session)
    assert report.divergence is None
    assert report.verified
    assert report.whole
    assert report.finished
    assert (report.reexecuted, report.folded) == (2, 0)
    assert report.notes == []


CHANGES = [
    ("prompts/prompts_demo.py", "solve {task}", "resolve {task}", "CallStarted", "prompt 'demo/task'"),
    ("prompts/prompts_demo.py", "Write about", "Sing about", "CallStarted", "prompt 'demo/write'"),
    ("demo.yaml", "You solve sums.", "You solve things.", "CallStarted", "system prompt"),
    ("tools/tools_demo.py", "Adds two numbers.", "Adds three numbers.", "CallStarted", "tool schema"),
    ("tools/tools_demo.py", "b: int)", "b: float)", "CallStarted", "tool schema"),
    ("demo.yaml", "temperature: 0.25", "temperature: 0.5", "CallStarted", "sampling"),
    (
        "demo.yaml",
        "agent_type: demo_system",
        "agent_type: demo_system\ndeadline: 9",
        "CallStarted",
        "limits: deadline",
    ),
    ("agents/agents_demo.py", '"working on"', '"toiling on"', "Frontend", "code"),
    ("agents/agents_demo.py", '{"value": value}', '{"value": value + "!"}', "CallStarted", "arguments"),
]


@pytest.mark.parametrize(("file", "old", "new", "kind", "cause"), CHANGES)
def test_a_change_is_found_and_named(
    project: Project, file: str, old: str, new: str, kind: str, cause: str
) -> None:
    session = project.run()
    project.change(file, old, new)
    report = project.replay(session)
    assert not report.verified
    assert report.divergence is not None
    assert report.divergence.kind == kind
    assert cause in report.divergence.cause
    assert report.divergence.recorded != report.divergence.present


def test_a_changed_tool_schema_is_shown(project: Project) -> None:
    session = project.run()
    project.change("tools/tools_demo.py", "Adds two numbers.", "Adds three numbers.")
    divergence = project.replay(session).divergence
    assert divergence is not None
    assert divergence.recorded["add"]["description"] == "Adds two numbers."
    assert divergence.present["add"]["description"] == "Adds three numbers."


def test_a_changed_parser_is_found_at_the_reply_that_it_reads_otherwise(project: Project) -> None:
    session = project.run()
    project.change("prompts/prompts_demo.py", 'if "=" not in content', 'if "+" in content')
    report = project.replay(session)
    assert report.divergence is not None
    # the change of the parser's source is seen first, at the call that uses it
    assert "parser" in report.divergence.cause


def test_a_system_that_stops_earlier_is_found(project: Project) -> None:
    session = project.run()
    project.change(
        "agents/agents_demo.py",
        'return self.agents["writer"].call("demo/write", {"value": value}).content',
        "return 'A text about three.'",
    )
    report = project.replay(session)
    assert report.divergence is not None
    assert report.divergence.seq is not None


def test_a_system_that_does_more_is_found(project: Project) -> None:
    session = project.run()
    project.change(
        "agents/agents_demo.py",
        "        return self.agents",
        '        self.agents["writer"].call("demo/write", {"value": "more"})\n        return self.agents',
    )
    report = project.replay(session)
    assert report.divergence is not None


def test_an_unknown_session_is_a_clear_error(project: Project) -> None:
    project.run()
    with pytest.raises(UnknownNameError):
        project.replay("nosuchsession")


def test_a_failed_session_replays_too(project: Project) -> None:
    backend = ScriptedBackend(["no"] * 4, model="any")
    backend.name = "scripted/any"  # type: ignore[attr-defined]

    def go() -> str:
        from lllm.errors import RepairExhausted

        system = build_agent(load_config(project.root / "demo.yaml"), model=backend, log_base=project.store)
        with pytest.raises(RepairExhausted):
            system("1+2")
        return str(system.session.id)

    session = project.fresh(go)
    report = project.replay(session)
    assert report.divergence is None
    assert report.verified
    assert report.finished


def test_every_changed_byte_of_the_store_is_noticed(project: Project) -> None:
    session = project.run()
    bodies = list(project.store.read(session))
    project.store.close()
    path = project.root / "log" / "sessions.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = path.read_bytes()
    at = data.find(b"it is three")
    assert at > 0
    assert b"it is three" in b"".join(bodies)
    path.write_bytes(data[:at] + b"it is tHree" + data[at + 11 :])
    project.store = SQLiteLog(path)
    with pytest.raises(LogCorrupt):
        project.replay(session)
