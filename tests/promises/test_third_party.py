"""T6, R26: a package of somebody else brings a model, an agent, a system, a step, a tool, a prompt and a
store, and nothing of lllm is edited."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = '''
"""A package that knows lllm; lllm does not know it."""

from lllm import AgentBase, MemoryLog, Prompt, step, tool
from lllm.agents import BaseAgent
from lllm.model import BaseModel
from lllm.systems import System


class Parrot(BaseModel):
    """Says it again."""

    async def call_stream(self, messages, **kwargs):
        yield f"{messages[-1]['content']}!"


class Shelf(MemoryLog):
    """Keeps sessions nowhere."""


ASK = Prompt("acme/ask", "Repeat: {task}")


class Pair(AgentBase):
    """Two agents, one after the other."""

    agent_type = "acme_pair"

    def call(self, task, **more):
        first = self.agents["first"].call(task).content
        return self.agents["second"].call(first).content


class Twice(BaseAgent):
    async def run(self, prompt, **kwargs):
        return await self._stream_and_aggregate(await self._stream_and_aggregate(prompt))


class Echoes(System):
    async def run(self, prompt):
        return await self._result(prompt)

    async def _run(self, value, here):
        return str(await here.stage(step(self.agent), value, "echo"))


@step
def shorten(text: str) -> str:
    return text[:4]


@tool(effect="pure")
def count(text: str) -> int:
    """Count."""
    return len(text)
'''
ENTRY_POINTS = """\
[lllm.plugins]
backend.parrot = acme:Parrot
agent.acme_pair = acme:Pair
step.shorten = acme:shorten
tool.count = acme:count
store.shelf = acme:Shelf
prompt.acme/ask = acme:ASK
"""
PAIR = """\
name: pair
agent_type: acme_pair
model: parrot/grey
log: {type: shelf}
agent_configs: {first: {tools: [count]}, second: {}}
"""
CHAIN = """\
name: chain
model: parrot/grey
agent_configs: {asks: {prompt: acme/ask}}
steps: [shorten, asks]
"""
PROGRAM = """
import asyncio, json, sys
import lllm
from lllm import MemoryLog, build_agent, step
before = "acme" in sys.modules
from acme import Echoes, Twice
log = MemoryLog()
print(json.dumps({
    "early": before,
    "model": str(lllm.LLM("parrot/grey")("hello")),
    "pair": build_agent("pair.yaml", log_base=log)("hello"),
    "chain": str(build_agent("chain.yaml", log_base=log)("hello")),
    "agent": asyncio.run(Twice("twice", "parrot/grey").run("hello")),
    "system": str((Echoes("echoes", "parrot/grey") >> str.upper)("hello")),
    "tools": [one.name for one in build_agent("pair.yaml", log_base=log).agents["first"].tools],
    "store": type(build_agent("pair.yaml").store).__name__,
}))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as an installer leaves it, beside a project."""
    meta = tmp_path / "site" / "acme-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\nSummary: Parrots.\n")
    (meta / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "site" / "acme.py").write_text(MODULE)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pair.yaml").write_text(PAIR)
    (tmp_path / "project" / "chain.yaml").write_text(CHAIN)
    return tmp_path


def test_a_package_of_somebody_else(site: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    path = f"import sys; sys.path[:0] = [{str(root)!r}, {str(site / 'site')!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", path + PROGRAM],
        cwd=site / "project",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "early": False,
        "model": "hello!",
        "pair": "hello!!",
        "chain": "Repeat: hell!",
        "agent": "hello!!",
        "system": "HELLO!",
        "tools": ["count"],
        "store": "Shelf",
    }
