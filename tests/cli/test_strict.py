"""`lllm replay --strict`: what the project's code learns beside the record, by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ANSWERS, Terminal

AGENT = """
import asyncio, os, random, time, uuid
from pathlib import Path

import lllm


@lllm.activity(effect="pure")
def notes() -> str:
    Path("ran.txt").write_text(Path("ran.txt").read_text() + "x")
    return "notes"


class Vanilla(lllm.{base}):
    agent_type = "vanilla"
    agent_group = ["vanilla"]

    {prefix}def call(self, task, **more):
        learned = [{sources}]
        reply = {wait}self.agents["vanilla"].{call}("Say it.")
        return f"{{reply.content}} {{len(learned)}}"
"""
BARE = """
            time.time(),
            random.random(),
            uuid.uuid4(),
            Path("ran.txt").read_text(),
        """
RECORDED = "lllm.now(), lllm.random().random(), lllm.uuid(), notes()"


def install(demo: Path, sources: str, kind: str) -> None:
    words = {
        "plain": {"base": "AgentBase", "prefix": "", "wait": "", "call": "call"},
        "async": {"base": "AsyncAgentBase", "prefix": "async ", "wait": "await ", "call": "acall"},
    }[kind]
    (demo / "system/agent/agent.py").write_text(AGENT.format(sources=sources, **words))
    (demo / "ran.txt").write_text("")


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_unrecorded_sources(lllm: Terminal, demo: Path, kind: str) -> None:
    install(demo, BARE, kind)
    lllm.scripts["good"] = lambda: [ANSWERS]
    assert lllm("run", "it").code == 0
    told = lllm("replay", "--last")
    assert told.code == 0, told.err
    assert "verified" in told.out
    line = (demo / "system/agent/agent.py").read_text().splitlines().index("            time.time(),") + 1
    for number, name in enumerate(("time.time", "random.random", "uuid.uuid4", "open")):
        assert f"  system/agent/agent.py:{line + number}: {name}\n" in told.err
    assert "lllm.now()" in told.err
    assert lllm("replay", "--last", "--strict").code == 3
    found = lllm("replay", "--last", "--strict", "--json")
    assert found.code == 3
    assert found.json["verified"] is True
    assert found.json["unrecorded"][0] == {
        "file": "system/agent/agent.py",
        "line": line,
        "name": "time.time",
        "count": 1,
    }


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_recorded_sources(lllm: Terminal, demo: Path, kind: str) -> None:
    install(demo, RECORDED, kind)
    lllm.scripts["good"] = lambda: [ANSWERS]
    assert lllm("run", "it").code == 0
    told = lllm("replay", "--last", "--strict", "--json")
    assert told.code == 0, told.out + told.err
    assert told.json["unrecorded"] == []
    assert (demo / "ran.txt").read_text() == "x"
    shown = lllm("show", "--last").out
    assert "effect notes  notes()" in shown
    assert "learned uuid" in shown
    lllm("run", "it")
    ids = [one["session"] for one in lllm("sessions", "--json").json]
    assert lllm("compare", *ids[:2]).code == 0, "the time is learned, not said or done"
