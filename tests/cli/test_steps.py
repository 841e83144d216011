"""Systems of `steps:` from the command line: checked, drawn, run, killed, resumed, replayed, forked."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

KIT = '''\
import os
import signal
from pathlib import Path

from lllm import ScriptedBackend, step
from lllm.registry import registry


def model(request):
    words = request.messages[-1].text
    with open("asked", "a") as file:
        file.write(f"{words}\\n")
    return words.upper()


registry.add("backend", "desk", lambda **options: ScriptedBackend(model))


def lines(text: str) -> list:
    return text.split(",")


def dies(text: str) -> str:
    """Dies once, at the last item."""
    if "C" in text and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return text + "!"


def together(found: list) -> str:
    return "".join(found)


@step
def softly(text: str) -> str:
    """Says it softly."""
    return text.lower()
'''
DESK = """\
name: desk
description: Shouts.
model: desk/m
agent_configs:
  first: {system_prompt: You shout.}
  second: {prompt: "and {task}"}
steps:
  - kit.step_kit:lines
  - map: {step: [first, kit.step_kit:dies, second], limit: 1}
  - join: kit.step_kit:together
  - softly
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kit").mkdir()
    Path("kit/step_kit.py").write_text(KIT)
    Path("desk.yaml").write_text(DESK)
    Path("lllm.toml").write_text('[discovery]\ntools = ["kit"]\n[run]\ndefault = "desk.yaml"\n')


def lllm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lllm", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.usefixtures("desk")
def test_a_chain_that_is_killed_goes_on_where_it_was() -> None:
    done = lllm("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lllm("run", "a,b,c").returncode == -signal.SIGKILL
    assert Path("asked").read_text() == "a\nand A!\nb\nand B!\nc\n"
    done = lllm("resume", "--last", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == "and a!and b!and c!"
    assert Path("asked").read_text() == "a\nand A!\nb\nand B!\nc\nand C!\n"  # nothing is asked twice
    replay = lllm("replay", "--last", "--json")
    assert json.loads(replay.stdout)["verified"], replay.stdout
    fork = lllm("fork", "--last", "--at", "1", "--json")
    assert json.loads(fork.stdout)["result"] == "and a!and b!and c!", fork.stdout + fork.stderr
    whatif = lllm("whatif", "--last", "--json", "--set", "agent_configs.second.prompt=or {task}")
    assert whatif.returncode == 0, whatif.stdout + whatif.stderr


@pytest.mark.usefixtures("desk")
def test_names_are_listed_and_the_doctor_knows_the_stages() -> None:
    rows = json.loads(lllm("list", "steps", "--json").stdout)
    assert {"softly": "Says it softly."}.items() <= {row["name"]: row["summary"] for row in rows}.items()
    rows = json.loads(lllm("list", "agents", "--json").stdout)
    words = "lines >> map(first >> dies >> second) >> together >> softly"
    assert {"desk": f"{words}. Shouts."}.items() <= {row["name"]: row["summary"] for row in rows}.items()
    checks = json.loads(lllm("doctor", "--json").stdout)["checks"]
    assert [one["detail"] for one in checks if one["name"] == "steps"] == [words]


@pytest.mark.usefixtures("desk")
def test_the_schema_knows_the_keys() -> None:
    schema = json.loads(lllm("schema").stdout)
    jsonschema.validate(yaml.safe_load(DESK), schema)
    for wrong in ({"map": {"step": "a", "limt": 2}}, {"loop": {"step": "a"}}, {"paralel": ["a"]}, 5, [], {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"steps": [wrong]}, schema)


def test_the_diagram_of_functions_alone_escapes_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        "steps:\n- {step: 'builtins:len', name: 'a\"]; end'}\n- step: {parallel: {'<b>x|y': 'builtins:str'}}\n  name: '`c`'\n"
    )
    done = lllm("check", "a.yaml", "--mermaid")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "flowchart TD",
        '  s1["a#34;#93;#59; end"]',
        '  subgraph s2["#96;c#96;"]',
        "    direction TB",
        '    s3["#60;b#62;x#124;y: str"]',
        "  end",
        "  s1 --> s2",
        '  task(("task")) --> s1',
    ]
    assert lllm("run", "abc", "--config", "a.yaml", "--json").returncode == 0


def test_the_diagram_has_stages_agents_and_their_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        "model: scripted\nagent_configs:\n  a: {tools: [b]}\n  b: {}\n  c: {}\nsteps:\n"
        "- a\n- fallback: [c, a]\n- route: {choose: c, routes: {yes: a}}\n- loop: {step: a, until: c, times: 3}\n"
    )
    drawn = lllm("check", "a.yaml", "--mermaid").stdout
    for line in (
        '  s1["a<br/>scripted"]',
        "    s3 -.->|fails| s4",
        '    s6 -->|"yes"| s7',
        "    s10 -->|no| s9",
        "  s1 -.- a0",
        "  a0 -->|asks| a1",
        '  a1["b<br/>scripted"]',
    ):
        assert line in drawn.splitlines(), line + "\n" + drawn
    assert not re.search(r"^ +a2\b", drawn, re.M)  # it is a stage, and reaches nothing


def test_problems_have_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("model: scripted\nagent_configs:\n  a: {}\nsteps:\n- b\n- paralel: [a]\n- a\n")
    found = json.loads(lllm("check", "a.yaml", "--json").stdout)["problems"]
    assert [(one["severity"], one["line"]) for one in found] == [("error", 5), ("error", 6)]
    assert lllm("run", "x", "--config", "a.yaml").returncode == 2


def test_a_chat_with_stages_alone_has_nobody_to_talk_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("steps: ['builtins:len']\n")
    done = lllm("chat", "--config", "a.yaml")
    assert done.returncode == 2
    assert "no agent is declared" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "agent_configs: {a: {tools: ['mine:now']}}\n",
        "agent_configs: {a: {format: 'mine:Form'}}\n",
        "steps: ['mine:clean']\n",
    ],
)
def test_modules_of_the_project_are_found_by_the_installed_command(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from typing import TypedDict\n\nfrom lllm import tool\n\n@tool(effect='pure')\ndef now() -> str:\n    'The time.'\n"
        "    return ''\n\nclass Form(TypedDict):\n    total: int\n\ndef clean(text: str) -> str:\n    return text.strip()\n"
    )
    Path("a.yaml").write_text(f"model: scripted\n{text}")
    safe = [
        sys.executable,
        "-P",
        "-m",
        "lllm",
        "check",
        "a.yaml",
    ]  # as a script: without the working folder in sys.path
    done = subprocess.run(safe, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
