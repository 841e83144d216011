"""Dialogs carry turns, and go to files and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.dialog import FORMAT, Dialog
from lllm.llm.sessions import record
from lllm.log.memory import MemoryLog
from lllm.log.views import load
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message
from lllm.models.prompt import Prompt
from lllm.registry import registry


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def texts(backend: ScriptedBackend, request: int = -1) -> list[str]:
    return [message.text for message in backend.requests[request].messages]


def test_the_second_call_contains_the_first() -> None:
    backend = ScriptedBackend(["one", "two"])
    agent = Agent("a", backend, "You count.")
    dialog = agent.init_dialog()
    agent(dialog.append("first"))
    agent(dialog.append("second"))
    assert texts(backend) == ["You count.", "first", "one", "second"]


def test_a_call_without_a_dialog_has_no_past() -> None:
    backend = ScriptedBackend(["one", "two"])
    agent = Agent("a", backend, "You count.")
    with record("stateless", store=MemoryLog()):
        agent("first")
        agent("second")
    assert texts(backend) == ["You count.", "second"]


def test_a_session_carries_turns_in_its_log() -> None:
    store, backend = MemoryLog(), ScriptedBackend(["one", "two"])
    agent = Agent("a", backend, "You count.")
    with record("turns", store=store) as session:
        dialog = agent.init_dialog()
        agent(dialog.append("first"))
        agent(dialog.append("second"))
    first, second = (event["data"] for event in load(store, session.id) if event["kind"] == "CallStarted")
    assert [message["content"] for message in first["add"]] == ["You count.", "first"]
    assert [message["content"] for message in second["add"]] == ["second"], "what was said is written once"
    assert "base" in second


def talked(tmp_path: Path) -> tuple[Dialog, Path]:
    backend = ScriptedBackend(
        [{"thinking": "hm", "tool_calls": [FunctionCall("t", "add", '{"a":1,"b":2}')]}, "3 é \u2028"]
    )
    agent = Agent("adder", backend, "You add.", tools=[add], temperature=0.5, max_exception_retry=1)
    dialog = agent.init_dialog()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    agent(dialog.append(Message("user", ({"type": "text", "text": "1 + 2?"}, image))))
    dialog.append("And 3 + 4?")
    dialog.save(tmp_path / "talk.json")
    return dialog, tmp_path / "talk.json"


def test_a_dialog_comes_back_as_it_was(tmp_path: Path) -> None:
    dialog, path = talked(tmp_path)
    loaded = Dialog.load(path)
    assert loaded.messages == dialog.messages
    assert loaded.head == dialog.head, "the same dialog, to the hash"
    assert loaded.unsent == dialog.unsent
    assert (loaded.name, loaded.id) == ("adder", None)
    assert loaded.settings == dialog.settings == {
        "agent": "adder",
        "model": "ScriptedBackend",
        "sampling": {"temperature": 0.5},
        "tools": ["add"],
        "limits": {"max_exception_retry": 1},
    }  # fmt: skip
    written = json.loads(path.read_text())
    assert (written["lllm"], written["format"]) == ("dialog", FORMAT)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["again.json", "talk.json"]


def test_a_loaded_dialog_goes_on(tmp_path: Path) -> None:
    dialog, path = talked(tmp_path)
    store, backend = MemoryLog(), ScriptedBackend(["7", "You are welcome."])
    agent = Agent("adder", backend, "You add.", tools=[add])
    with record("later", store=store) as session:
        loaded = Dialog.load(path)
        assert agent.call(loaded).content == "7"
        agent(loaded.append("Thanks!"))
    assert backend.requests[0].messages == dialog.messages, "the next request holds the old turns"
    assert texts(backend)[-3:] == ["And 3 + 4?", "7", "Thanks!"]
    first, second = (event["data"] for event in load(store, session.id) if event["kind"] == "CallStarted")
    assert len(first["add"]) == len(dialog.messages), "the session has all of it"
    assert len(second["add"]) == 1


def test_a_dialog_without_a_call_is_saved_too(tmp_path: Path) -> None:
    Dialog(name="new").save(tmp_path / "a.json")
    loaded = Dialog.load(tmp_path / "a.json")
    assert (loaded.messages, loaded.head, loaded.settings, loaded.name) == ((), None, {}, "new")


def test_a_prompt_that_parses_the_next_reply_is_found_again(tmp_path: Path) -> None:
    prompt = Prompt("sum", "What is {a} + {b}?", required_xml_tags=["answer"])
    agent = Agent("a", ScriptedBackend(["<answer>3</answer>"]))
    dialog = agent.send_message(agent.init_dialog(), prompt, {"a": 1, "b": 2})
    dialog.save(tmp_path / "a.json")
    with registry.scope():
        with pytest.raises(UnknownNameError, match="sum"):
            Dialog.load(tmp_path / "a.json")
        registry.add("prompt", "sum", prompt)
        loaded = Dialog.load(tmp_path / "a.json")
    assert loaded.args == {"a": 1, "b": 2}
    assert "3" in str(agent(loaded).parsed)


def test_a_fork_keeps_the_settings(tmp_path: Path) -> None:
    dialog, _ = talked(tmp_path)
    assert dialog.fork().settings == dialog.settings


def test_no_key_reaches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghij")
    Dialog([Message("user", "it is sk-proj-0123456789abcdefghij")]).save(tmp_path / "a.json")
    assert "0123456789abcdefghij" not in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as a dialog"),
        ("[]", "cannot be read as a dialog"),
        ("[" * 100_000, "cannot be read as a dialog"),
        ("{}", "cannot be read as a dialog"),
        ('{"lllm": "session"}', "it is no dialog"),
        ('{"lllm": "dialog", "format": 1, "messages": [{"role": "bot"}]}', "message role is 'bot'"),
        ('{"lllm": "dialog", "format": 99, "messages": []}', "reads formats up to 1"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        Dialog.load(tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"b\.json cannot be read"):
        Dialog.load(tmp_path / "b.json")


def test_a_dialog_as_markdown(tmp_path: Path) -> None:
    dialog, _ = talked(tmp_path)
    page = dialog.markdown()
    assert page.startswith("# adder\n\n**system**\n\n```text\nYou add.\n```\n")
    assert '**assistant**\n\n```text\nadd({"a":1,"b":2})\n```' in page
    assert page.endswith("**user**\n\n```text\nAnd 3 + 4?\n```\n")
    assert Dialog.from_dict(dialog.to_dict()).markdown() == page


MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)), max_size=8
)


@settings(max_examples=50, deadline=None)
@given(MESSAGES, MESSAGES)
def test_any_dialog_comes_back(sent: list[Message], unsent: list[Message]) -> None:
    dialog = Dialog(sent)
    dialog.head, dialog.unsent = dialog.trunk(), unsent
    loaded = Dialog.from_dict(json.loads(json.dumps(dialog.to_dict())))
    assert (loaded.head, loaded.unsent) == (dialog.head, unsent)
    assert dialog.markdown() == loaded.markdown()
