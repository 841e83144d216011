"""An agent goes to a file with its conversation, and goes on from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.agents import BasicAgent
from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, ExportError, ExportVersionError, LLMError, OtherAgentError
from lllm.llm.agent import Agent
from lllm.llm.exported import FORMAT
from lllm.llm.sessions import record
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.parts import Image
from lllm.models.prompt import Prompt
from lllm.registry import registry
from lllm.replay import replay_session
from lllm.replay.resume import resume_session
from tests.llm.test_memory import agent_of, echo, sent
from tests.replay.test_resume import cut

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
KEY = "sk-proj-0123456789abcdefghij"


@tool(effect="pure", approval=False)
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="pure")
def draw(what: str) -> Image:
    """Draw."""
    return Image(PNG, "image/png")


def used(**more: Any) -> Agent:
    """An agent that has used its tools."""
    replies: list[Any] = [
        {"thinking": "hm", "tool_calls": [FunctionCall("t", "add", '{"a":1,"b":2}')]},
        "3 é \u2028",
        FunctionCall("t", "draw", '{"what":"it"}'),
        "There.",
    ]
    settings: dict[str, Any] = {
        "tools": [add, draw],
        "temperature": 0.5,
        "max_interrupt_times": 9,
        "deadline": 60,
        "timeouts": {"total": 20},
        "window": {"policy": "summarise", "tokens": 100_000},
        "description": "Adds.",
        "approval": ["draw"],
        "approve": lambda call: True,
    }
    agent = agent_of(ScriptedBackend(replies), **{**settings, **more})
    agent("1 + 2?")
    agent("Draw it.")
    return agent


def test_a_round_trip_is_equal(tmp_path: Path) -> None:
    agent = used()
    text = agent.export(tmp_path / "ada.json")
    assert (tmp_path / "ada.json").read_text() == text == agent.export()
    twin = Agent.import_(tmp_path / "ada.json", echo(), tools=[add, draw])
    assert twin.history == agent.history
    assert (twin.name, twin.description, twin.memory) == ("ada", "Adds.", "agent")
    assert (twin.limits, twin.system_prompt) == (agent.limits, agent.system_prompt)
    for name in ("sampling", "timeouts", "approval", "tools", "window"):
        assert getattr(twin._settings, name) == getattr(agent._settings, name), name
    again = json.loads(twin.with_(model=agent._settings.backend).export())
    assert again == json.loads(text)


@pytest.mark.parametrize("source", [lambda text: text, json.loads], ids=["text", "mapping"])
def test_the_next_request_holds_the_old_turns(source: Any) -> None:
    agent = used()
    twin = Agent.import_(source(agent.export()), echo(), tools=[add, draw], store=MemoryLog())
    twin("And now?")
    (request,) = twin._settings.backend.requests  # type: ignore[attr-defined]
    roles = "system user assistant tool assistant user assistant tool assistant user"
    assert [message.role for message in request.messages] == roles.split()
    assert request.messages[2].tool_calls[0].arguments == '{"a":1,"b":2}'
    assert request.messages[2].thinking == "hm"
    assert request.messages[3].text == "3"
    assert request.sampling["temperature"] == 0.5
    assert "iVBORw0KGgo" in str([message.content for message in request.messages]), "the image's bytes"


def test_it_is_imported_into_the_agent_itself() -> None:
    agent = used()
    other = agent_of(tools=[add, draw])
    other("something else")
    assert other.import_(agent.export()) is other
    assert other.history == agent.history
    other("And now?")
    assert sent(other)[1] == "1 + 2?"
    assert "something else" not in sent(other)


def test_an_export_begins_a_conversation_where_there_was_none() -> None:
    agent = agent_of(memory=None, temperature=0)
    twin = Agent.import_(agent.export(), echo(), store=MemoryLog())
    assert (twin.memory, twin.history) == (None, ())
    twin("one")
    assert sent(twin) == ["You are Ada.", "one"]
    dialog = agent.init_dialog()
    agent(dialog.append("in a dialog"))
    twin = Agent.import_(agent.export(dialog=dialog), echo(), store=MemoryLog())
    twin("go on")
    assert sent(twin) == ["You are Ada.", "in a dialog", "2: in a dialog", "go on"]


def test_settings_can_be_replaced() -> None:
    twin = Agent.import_(
        used().export(), echo(), tools=[], temperature=0, deadline=None, system_prompt="Eve."
    )
    assert (twin.tools, twin._settings.sampling, twin.limits.deadline) == ((), {"temperature": 0}, None)


def test_tools_are_found_by_their_names() -> None:
    text = used().export()
    with pytest.raises(ExportError, match=r"(?s)add, draw.*not registered.*tools=\[add, draw\]"):
        Agent.import_(text, echo())
    with registry.scope():
        registry.add("tool", "add", add)
        registry.add("tool", "draw", draw)
        assert [one.name for one in Agent.import_(text, echo()).tools] == ["add", "draw"]


def test_prompts_and_forms() -> None:
    @dataclass
    class City:
        name: str

    system = Prompt("export/system", "You serve {who}.")
    ask = Prompt("export/ask", "Where is {it}?")
    backend = ScriptedBackend(['{"name": "Oslo"}'] * 2)
    agent = Agent("a", backend, system, prompt=ask, format=City, memory=True, store=MemoryLog())
    agent(None, {"who": "Bob", "it": "he"})
    with pytest.raises(LLMError, match="export/ask"):
        Agent.import_(agent.export(), backend)
    twin = Agent.import_(agent.export(), backend, prompt=ask, store=MemoryLog())
    assert twin.system_prompt == system
    assert twin(None, {"it": "she"}).parsed == {"name": "Oslo"}


def test_no_key_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    agent = Agent(
        "a", "openai/gpt-4o-mini", f"It is {KEY}.", memory=True, options={"base_url": f"http://x/{KEY}"}
    )
    for format in ("json", "markdown"):
        assert KEY not in agent.export(tmp_path / format, format)
        assert KEY not in (tmp_path / format).read_text()
    twin = Agent.import_(tmp_path / "json")
    assert twin.model == "openai/gpt-4o-mini"


def test_markdown_is_for_people(tmp_path: Path) -> None:
    agent = used()
    page = agent.export(tmp_path / "ada.md")
    assert page == agent.export(format="markdown") == (tmp_path / "ada.md").read_text()
    for words in ("# ada", '"temperature": 0.5', "**user**", "1 + 2?", 'add({"a":1,"b":2})', "There."):
        assert words in page
    with pytest.raises(ExportError, match="Markdown, which is for people"):
        agent.import_(tmp_path / "ada.md")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="json, markdown"):
        agent_of().export(format="html")


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(used().export()), **changes}


def talk(*messages: dict[str, Any]) -> dict[str, Any]:
    return changed(messages=[{"content": "x", **message} for message in messages])


CALL = {"id": "t", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("no such file.json", ExportError, "No such file"),
        ("{", ExportError, "cannot be read"),
        ("[]", ExportError, "cannot be read"),
        ("{}", ExportError, "it has no 'lllm'"),
        ("[" * 100_000, ExportError, "cannot be read"),
        (3, ExportError, "is a file, got 3"),
        ({"lllm": "dialog"}, ExportError, r"Dialog\.load"),
        ({"lllm": "session"}, ExportError, "no exported agent"),
        (
            lambda: changed(format=99),
            ExportVersionError,
            r"(?s)format 99; this lllm reads formats up to 1.*Update",
        ),
        (lambda: changed(format="1"), ExportVersionError, "which is none"),
        (lambda: changed(format=0), ExportVersionError, "which is none"),
        (lambda: changed(agent={}), ExportError, "it has no 'name'"),
        (lambda: changed(agent=[]), ExportError, "cannot be read"),
        (lambda: changed(messages=None), ExportError, "must be a list"),
        (lambda: changed(messages=[3]), ExportError, "cannot be 3"),
        (lambda: changed(blobs={"sha256:x": "!"}), ExportError, "cannot be read"),
        (lambda: talk({"role": "bot"}), ExportError, "role is 'bot'"),
        (lambda: talk({"role": "assistant", "tool_calls": [CALL]}), ExportError, "'t' has no result"),
        (
            lambda: talk({"role": "assistant", "tool_calls": [CALL]}, {"role": "user"}),
            ExportError,
            "has no result",
        ),
        (lambda: talk({"role": "tool", "tool_call_id": "t"}), ExportError, "message 1 is the result of no"),
    ],
)
def test_what_cannot_be_imported(source: Any, error: type[Exception], words: str) -> None:
    source = source() if callable(source) else source
    agent = agent_of()
    agent("one")
    before = agent.history
    with pytest.raises(error, match=words) as first:
        agent.import_(source)
    assert type(first.value) is error
    with pytest.raises(error, match=words):
        Agent.import_(source, echo())
    assert agent.history == before


def test_another_agents_file() -> None:
    text = used().export()
    bob = Agent("bob", echo(), memory=True)
    with pytest.raises(OtherAgentError, match=r"of the agent 'ada', and this one is 'bob'"):
        bob.import_(text)
    bob.with_(name="ada").import_(text)
    with pytest.raises(ExportError, match="memory=True"):
        bob.with_(name="ada", memory=False).import_(text)


def test_a_model_that_is_not_here() -> None:
    with pytest.raises(ExportError, match=r"(?s)on 'ScriptedBackend' cannot be made.*model='provider/model'"):
        Agent.import_(agent_of().export())


def test_other_agents_are_not_in_it() -> None:
    other = Agent("other", echo())
    text = agent_of(handoffs=[other]).export()
    with pytest.raises(ExportError, match=r"handoffs=\["):
        Agent.import_(text, echo())
    assert Agent.import_(text, echo(), handoffs=[other]).handoffs[0].agent == "other"


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_text_comes_back(turns: list[tuple[str, str]]) -> None:
    answers = iter([answer for _, answer in turns])
    agent = Agent("a", ScriptedBackend(lambda request: next(answers)), memory=True, store=MemoryLog())
    for question, _ in turns:
        agent(Prompt("t", "{it}"), {"it": question})
    assert Agent.import_(agent.export(), echo()).history == agent.history


# --- in sessions


def program(store: MemoryLog, path: Path, sink: list[Agent]) -> Any:
    def main() -> str:
        with record("imports", store=store):
            agent = Agent.import_(path, echo(), tools=[add, draw])
            sink.append(agent)
            first = agent("And now?").content
            agent.clear()
            agent.import_(path)
            with pytest.raises(ExportError):
                agent.import_(path.with_name("none.json"))
            return first + agent("Once more.").content

    return main


def test_an_import_is_replayed_without_the_file(tmp_path: Path) -> None:
    store, path = MemoryLog(), tmp_path / "ada.json"
    used().export(path)
    text = path.read_text()
    result = program(store, path, [])()
    (session,) = [info.id for info in store.sessions()]
    path.unlink()
    report = replay_session(session, store=store, entry=program(store, path, []))
    assert report.verified, report.divergence
    path.write_text(text)
    for at in range(1, len(list(store.read(session)))):
        there = cut(store, session, at)
        assert resume_session(session, store=there, entry=program(there, path, [])).result == result
    started = [e for e in store.read(session) if b"CallStarted" in bytes(e)]
    assert len(started) == 2


def test_a_replay_writes_no_file(tmp_path: Path) -> None:
    store, path = MemoryLog(), tmp_path / "out.json"

    def main() -> str:
        with record("exports", store=store):
            agent = Agent("a", echo(), memory=True)
            agent("one")
            return agent.export(path)

    text = main()
    assert path.read_text() == text
    path.write_text("mine")
    (session,) = [info.id for info in store.sessions()]
    assert replay_session(session, store=store, entry=main).verified
    assert path.read_text() == "mine"


def test_a_subclass_is_imported_as_one() -> None:
    agent = BasicAgent("a", echo(), memory=True, store=MemoryLog())
    agent("one")
    twin = BasicAgent.import_(agent.export(), echo())
    assert (type(twin), twin.history) == (BasicAgent, agent.history)


def test_the_format_is_written_down() -> None:
    assert (json.loads(agent_of().export())["format"], FORMAT) == (1, 1)


# --- files from anywhere


def with_settings(**settings: Any) -> dict[str, Any]:
    value = json.loads(agent_of().export())
    return {**value, "agent": {**value["agent"], **settings}}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "must be an object, got list"),
        (lambda: {**with_settings(), "extra": 1}, "extra is not exported"),
        (lambda: with_settings(temperature="hot"), "agent.temperature is not exported"),
        (
            lambda: with_settings(sampeling={}),
            "agent.sampeling is not exported. Did you mean agent.sampling?",
        ),
        (lambda: with_settings(name=["a"]), "agent.name cannot be list here"),
        (lambda: with_settings(model=3), "agent.model cannot be int here"),
        (lambda: with_settings(system_prompt=["a"]), "agent.system_prompt must be an object, got list"),
        (lambda: with_settings(system_prompt={"path": "a"}), "agent.system_prompt.text is missing"),
        (lambda: with_settings(limits=["a"]), "agent.limits must be an object, got list"),
        (lambda: with_settings(tools=[{}]), "a tool has no name"),
        (lambda: with_settings(tools={"a": 1}), "agent.tools must be a list, got dict"),
        (lambda: with_settings(approval={"nevr": []}), "agent.approval.nevr"),
        (lambda: with_settings(retry={"on": "os:system"}), "agent.retry.on is code"),
    ],
)
def test_a_file_that_was_edited_says_what_is_wrong(source: Any, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        Agent.import_(source() if callable(source) else source, echo())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "smuggled",
    [
        {"options": {"base_url": "http://127.0.0.1:9"}},
        {"sandbox": "jupyter"},
        {"activate_proxies": ["sql"]},
        {"store": None},
        {"approve": None},
        {"tools": ["add"]},
        {"model_args": {"temperature": 1}},
        {"debug": True},
    ],
    ids=str,
)
def test_a_file_cannot_say_more_than_is_exported(smuggled: dict[str, Any]) -> None:
    """An address would be sent the key of whoever imports the file."""
    for keys in ({"limits": smuggled}, smuggled):
        if keys != {"tools": ["add"]}:
            with pytest.raises(ExportError, match="is not exported"):
                Agent.import_(with_settings(**keys), "openai/some-model")


@pytest.mark.parametrize(
    "sampling", [{"base_url": "http://x"}, {"api_key": "x"}, {"sandbox": "jupyter"}], ids=str
)
def test_sampling_values_are_no_settings(sampling: dict[str, Any]) -> None:
    with pytest.raises(LLMError):
        Agent.import_(with_settings(sampling=sampling), echo())


def test_a_file_does_not_lift_an_approval() -> None:
    @tool(approval=True)
    def pay(to: str) -> str:
        """Pay somebody."""
        raise AssertionError("nobody approved of it")

    text = agent_of(echo(), tools=[pay], approval={"never": ["pay"]}).export()
    with pytest.raises(ExportError, match="lets pay run without the approval"):
        Agent.import_(text, echo(), tools=[pay])
    assert Agent.import_(text, echo(), tools=[pay], approval={"never": ["pay"]}).tools == (pay,)
    model = ScriptedBackend([FunctionCall("t", "pay", '{"to": "Ann"}'), "no"])
    assert Agent.import_(text, model, tools=[pay], approval=["pay"])("go").content == "no"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    text = used().export()
    path = tmp_path / "ada.json"
    path.write_text(text, encoding="utf-8-sig")
    for source in (path, f"\ufeff{text}"):
        assert Agent.import_(source, echo(), tools=[add, draw]).history


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("a" * 300 + ".json")):
        with pytest.raises(ExportError, match="cannot be written"):
            agent_of().export(path)
