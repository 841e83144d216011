"""`lllm check` shows a system, and warns of agents that can read private data, hear strangers and send things out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import BaseProxy, load_config, tool
from lllm.config import Config
from lllm.errors import ConfigError
from lllm.llm.build import check, examine
from lllm.llm.diagram import mermaid
from lllm.llm.overview import overview, short_schema, tree
from lllm.models.function import Function
from lllm.registry import registry
from tests.cli.conftest import Terminal


@tool(effect="pure", data=["private"])
def ledger() -> str:
    """Our accounts."""
    return ""


@tool(data="outward")
def send_mail(to: str) -> str:
    """Sends."""
    return ""


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registry.scope():
        registry.add("tool", "ledger", ledger)
        registry.add("tool", "send_mail", send_mail)

        class Wiki(BaseProxy):
            """Pages."""

            base_url = "http://127.0.0.1:1"
            source = "https://example.org/openapi.json"

            @BaseProxy.endpoint(endpoint="pages/{name}")
            def page(self, name: str) -> str:  # type: ignore[empty-body]
                """A page."""

            @BaseProxy.endpoint(endpoint="pages", method="POST")
            def write(self, text: str) -> str:  # type: ignore[empty-body]
                """Writes one."""

        class Own(BaseProxy):
            """Ours."""

            data = ("private",)

            @BaseProxy.endpoint(effect="pure")
            def notes(self) -> str:
                """Notes."""
                return ""

            @BaseProxy.endpoint(effect="pure", data=())
            def clock(self) -> str:
                """The time."""
                return ""

        yield


DESK = """\
name: desk
start: front
model: scripted
agent_configs:
  front:
    system_prompt: You help.
    tools: [helper, ledger, Wiki.page]
    handoffs: [billing]
    output_schema: {type: object, properties: {total: {type: number}, note: {type: string}}, required: [total]}
    max_model_calls: 8
  helper: {}
  billing:
    tools: [send_mail]
    handoffs: [front]
    approval: [send_mail]
"""


KIT = """\
from lllm import BaseProxy, tool

@tool(effect="pure", data=["private"])
def ledger() -> str: "Our accounts."

@tool(data="outward")
def send_mail(to: str) -> str: "Sends."

class Wiki(BaseProxy):
    base_url = "http://127.0.0.1:1"

    @BaseProxy.endpoint(endpoint="pages/{name}")
    def page(self, name: str): "A page."
"""


def project() -> None:
    """The same tools, as a process of its own finds them."""
    Path("kit").mkdir()
    Path("kit", "kit.py").write_text(KIT)
    Path("lllm.toml").write_text('[discovery]\ntools = ["kit"]\n')
    loaded(DESK)


def loaded(text: str) -> Config:
    Path("desk.yaml").write_text(text)
    return load_config("desk.yaml")


def shown(text: str = DESK) -> dict[str, Any]:
    problems, team = examine(loaded(text))
    assert team is not None, problems
    return overview(team)


def test_the_tree() -> None:
    assert tree(shown()) == (
        "front on scripted\n"
        "├─ system: in this file\n"
        "├─ tool ledger: pure, private\n"
        "├─ proxy Wiki\n"
        "│  └─ page: pure, untrusted, described by https://example.org/openapi.json (trusted: false)\n"
        "├─ asks helper on scripted\n"
        "├─ hands over to billing on scripted\n"
        "│  ├─ tool send_mail: ask, approval, outward\n"
        "│  └─ hands over to front (see above)\n"
        "├─ output {total: number, note?: string}\n"
        "└─ limits max_model_calls 8"
    )


def test_the_diagram_names_everything_and_escapes_what_means_something() -> None:
    found = mermaid(shown())
    for line in (
        'task(("task")) --> a0',
        "a0 -->|asks| a1",
        "a0 -.->|hands over| a2",
        'a2 ==>|approval| a2t0(["send_mail<br/>ask, outward"])',
        'a0 --> a0t1(["Wiki.page<br/>pure, untrusted"])',
    ):
        assert f"  {line}" in found.split("\n")
    odd = {"name": 'a"]; end %%', "model": "x<b>", "tools": [], "asks": [], "hands_over_to": []}
    assert '"]' not in mermaid({"start": None, "agents": [odd]}).replace('<br/>x#60;b#62;"]', "")


def test_the_command_prints_it(lllm: Terminal) -> None:
    project()
    done = lllm("check", "desk.yaml")
    assert done.code == 0, done
    assert done.out.startswith("ok: lllm.toml, desk.yaml\nfront on scripted\n├─ system: in this file\n")
    assert done.out.endswith("refused where there is neither\n")
    assert lllm("check", "desk.yaml", "--mermaid").out.startswith("flowchart TD\n")
    system = json.loads(lllm("check", "desk.yaml", "--json").out)["system"]
    assert [agent["name"] for agent in system["agents"]] == ["front", "helper", "billing"]
    assert system["agents"][0]["tools"][1]["endpoint"] == "Wiki.page"
    assert lllm("check", "desk.yaml", "--json", "--mermaid").code == 2


def test_an_error_hides_the_tree(lllm: Terminal) -> None:
    project()
    loaded(DESK.replace("[helper, ledger", "[helper, ledgr"))
    done = lllm("check", "desk.yaml")
    assert (done.code, "front on" in done.out) == (2, False)
    done = lllm("check", "desk.yaml", "--mermaid")
    assert (done.code, done.out) == (2, "")


def test_a_large_api_is_cut() -> None:
    tool = {"name": "x", "endpoint": "Big.x", "effect": "pure", "approval": False, "data": []}
    agent = {
        "name": "a", "model": "m", "prompts": [], "tools": [tool] * 1223, "asks": [], "hands_over_to": [],
        "approved": [], "output": None, "limits": {},
    }  # fmt: skip
    system = {"start": "a", "agents": [agent]}
    assert tree(system).endswith("and 1,193 more")
    assert len(tree(system).splitlines()) == 33
    assert len(mermaid(system).splitlines()) < 40


@pytest.mark.parametrize(
    ("schema", "short"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string|null"),
        ({"type": "array", "items": {"type": "integer"}}, "[integer]"),
        ({"enum": ["a", 1]}, '"a"|1'),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Node"}]}, "null|Node"),
        ({"type": "object"}, "object"),
        (True, "any"),
        ({}, "any"),
    ],
)
def test_a_schema_in_few_words(schema: Any, short: str) -> None:
    assert short_schema(schema) == short


# --- private data, untrusted text and a way out ---------------------------------------------------------------------------


def warned(text: str) -> list[str]:
    return [problem.message for problem in check(loaded(text)) if "private data" in problem.message]


def test_approval_of_the_way_out_is_enough() -> None:
    assert warned(DESK) == []
    (found,) = warned(DESK.replace("    approval: [send_mail]\n", ""))
    assert found.startswith("desk.yaml:12: billing, front, helper together have private data (ledger); ")
    assert "untrusted text (Wiki.page); a way out (send_mail)" in found


@pytest.mark.parametrize(
    ("tools", "is_exposed"),
    [
        (["ledger", "Wiki.page", "send_mail"], True),
        (["Own.notes", "Wiki.*"], True),
        (["Own.clock", "Wiki.*"], False),
        (["Own.*", "Wiki.page"], False),
        (["ledger", "send_mail"], False),
    ],
)
def test_one_agent_alone(tools: list[str], is_exposed: bool) -> None:
    text = f"model: scripted\nagent_configs:\n  a: {{tools: {json.dumps(tools)}}}\n"
    assert [found.split(" have ")[0].split(" has ")[0] for found in warned(text)] == (
        ["desk.yaml:3: the agent 'a'"] if is_exposed else []
    )


def test_agents_that_do_not_reach_one_another_are_apart() -> None:
    text = (
        "model: scripted\nagent_type: other\nagent_configs:\n"
        "  a: {tools: [ledger]}\n  b: {tools: [Wiki.page]}\n  c: {tools: [send_mail]}\n"
    )
    from lllm import AgentBase

    class Other(AgentBase):
        agent_type = "other"

    assert warned(text) == []
    assert (
        len(warned(text.replace("[ledger]", "[ledger, b]").replace("[send_mail]}", "[send_mail, b]}"))) == 1
    )


def test_an_agent_that_nothing_reaches_is_a_warning() -> None:
    text = "start: a\nmodel: scripted\nagent_configs:\n  a: {}\n  b: {}\n"
    (problem,) = check(loaded(text))
    assert (problem.severity, problem.message) == (
        "warning",
        "desk.yaml:5: nothing reaches the agent 'b' (agent_configs.b)",
    )


@pytest.mark.parametrize("given", ["privat", ["private", "x"], 3, [3], {"private"} | {"no"}])
def test_other_words_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="data must be of private, untrusted, outward"):
        Function("x", data=given)
