"""What-if and comparison: many sessions on another model, with the tool results that they had."""

from __future__ import annotations

from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.log.memory import MemoryLog
from lllm.log.views import load
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import Request
from lllm.replay.cases import whatif
from lllm.replay.compare import compare, html

RAN: list[str] = []


@tool(effect="ask")
def weather(town: str) -> str:
    """Weather."""
    RAN.append(town)
    return f"sun in {town}"


def say(before: str) -> Any:
    def model(request: Request) -> Any:
        if request.messages[-1].role != "tool":
            return FunctionCall("w", "weather", f'{{"town":"{request.messages[-1].text}"}}')
        return {"content": before + request.messages[-1].text, "usage": {"prompt": 10, "completion": 5}}

    return model


class Other(ScriptedBackend):
    name = "other"


def agent(model: Any) -> Agent:
    return Agent("guide", Other(model), tools=[weather])


@pytest.fixture
def old() -> tuple[MemoryLog, list[str]]:
    store, ids = MemoryLog(), []
    for town in ("Rome", "Oslo", "Lima"):
        reply = Agent("guide", ScriptedBackend(say("")), tools=[weather], store=store).call(town)
        assert reply.session is not None
        ids.append(reply.session)
    RAN.clear()
    return store, ids


def ask(new: Agent, store: MemoryLog, id: str) -> dict[str, Any]:
    words = load(store, id)[1]["data"]["add"][-1]["content"]
    return {"config": None, "entry": lambda: new.call(words)}


def test_many_sessions_on_another_model(old: tuple[MemoryLog, list[str]]) -> None:
    store, ids = old
    new = agent(lambda request: say("It says: " if "Oslo" in str(request.messages) else "")(request))
    seen: list[str] = []
    found = whatif(
        ids, store=store, program=lambda id: ask(new, store, id), done=lambda case: seen.append(case.session)
    )
    assert [case.session for case in found.cases] == ids
    assert sorted(seen) == sorted(ids)
    assert RAN == []  # the recorded results still apply
    assert found.failed == 0
    verdicts = [case.comparison.same for case in found.cases if case.comparison]
    assert verdicts == [True, False, True]
    changed = found.cases[1].comparison
    assert changed is not None
    assert changed.first is not None
    assert changed.first.verdict == "changed"
    assert changed.first.left is not None
    assert changed.first.right is not None
    assert (changed.first.left.text, changed.first.right.text) == ("sun in Oslo", "It says: sun in Oslo")
    told = found.as_dict()
    assert told["sessions"] == 3
    assert told["cases"][1]["first_difference"]["right"]["text"] == "It says: sun in Oslo"


def test_a_tool_that_was_not_called_before_is_refused(old: tuple[MemoryLog, list[str]]) -> None:
    store, ids = old
    other = agent(
        lambda r: (
            FunctionCall("w", "weather", '{"town":"Bonn"}')
            if r.messages[-1].role != "tool"
            else r.messages[-1].text
        )
    )
    found = whatif(ids[0], store=store, program=lambda id: ask(other, store, id))
    assert RAN == []
    assert found.cases[0].fork is not None
    assert "no recorded call of it had these arguments" in found.cases[0].fork.result.content


def test_one_bad_case_leaves_the_others(old: tuple[MemoryLog, list[str]]) -> None:
    store, ids = old

    def model(request: Request) -> Any:
        if "Oslo" in str(request.messages):
            raise ValueError("no Oslo")
        return say("")(request)

    found = whatif(ids, store=store, program=lambda id: ask(agent(model), store, id))
    assert found.failed == 1
    assert found.cases[1].fork is not None
    assert "no Oslo" in str(found.cases[1].fork.error)
    assert [case.comparison.same for case in found.cases if case.comparison] == [True, False, True]


def test_wrong_wishes(old: tuple[MemoryLog, list[str]]) -> None:
    store, _ = old
    with pytest.raises(ConfigError, match="there is no session to run"):
        whatif([], store=store)
    with pytest.raises((UnknownNameError, ExceptionGroup)):
        whatif(["nosuch"], store=store)


def test_a_page_shows_hostile_text_as_text(old: tuple[MemoryLog, list[str]]) -> None:
    store, ids = old
    evil = "<script>alert(1)</script>"
    reply = agent(say(evil)).with_(name="guide")
    found = whatif(ids[0], store=store, program=lambda id: ask(reply, store, id))
    assert found.cases[0].comparison is not None
    page = html([found.cases[0].comparison])
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page
    assert evil not in page
    assert "&lt;script&gt;" in page
    assert "http:" not in page
    assert "https:" not in page


def test_lines_that_only_one_side_has(old: tuple[MemoryLog, list[str]]) -> None:
    store, ids = old
    one = load(store, ids[0])
    short = Agent("guide", ScriptedBackend(["sun in Rome"]), store=store).call("Rome").session
    assert short is not None
    both = compare(one, load(store, short))
    assert [pair.verdict for pair in both.pairs if pair.verdict != "same"] == ["left", "left", "left"]
    assert not both.same
    assert compare(one, one).same
