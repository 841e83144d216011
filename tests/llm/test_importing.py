"""Dialogs that others wrote become sessions that can be shown, forked and exported as our own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ConfigError
from lllm.llm.importing import Imported, import_dialog, read_dialogs
from lllm.log.export import export
from lllm.log.memory import MemoryLog
from lllm.log.views import load, summary
from lllm.models.message import FunctionCall, Message
from lllm.registry import registry
from lllm.replay import replay_session
from lllm.replay.fork import fork_session

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def asks(
    *ids: str, name: str = "add", arguments: str = '{"a":1}', content: str | None = None
) -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}} for id in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def gives(id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": id}


def says(content: str, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": content}


TALK = [
    says("You add.", "system"),
    says("1 + 1?", "user"),
    asks("a", "b"),
    gives("a", "2"),
    gives("b", "two"),
    says("2"),
    says("thanks", "user"),
    says("bye"),
]


def imported(text: str) -> tuple[MemoryLog, list[str]]:
    store = MemoryLog()
    return store, [asyncio.run(import_dialog(store, dialog, name="file")) for dialog in read_dialogs(text)]


def back(store: MemoryLog, session: str) -> dict[str, Any]:
    (line,) = export(store, session, "openai").splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TALK),
        json.dumps(TALK, indent=2),
        json.dumps({"messages": TALK}, indent=1),
        json.dumps({"messages": TALK}) + "\n\n",
        json.dumps([{"messages": TALK}]),
        json.dumps([TALK]),
    ],
)
def test_a_file_becomes_a_session(text: str) -> None:
    store, (session,) = imported(text)
    assert back(store, session) == {"messages": TALK}
    events = load(store, session)
    told = summary(events)
    assert (told.status, told.result, told.calls, told.model_calls, told.tool_calls) == (
        "done",
        "bye",
        2,
        3,
        2,
    )
    assert (told.usage, told.cost, told.name) == ({}, None, "file")
    assert events[0]["data"]["task"] == "1 + 1?"
    assert [event["kind"] for event in events if event["kind"].startswith("Tool")] == [
        ev.TOOL_REQUESTED, ev.TOOL_REQUESTED, ev.TOOL_RETURNED, ev.TOOL_RETURNED,
    ]  # fmt: skip
    assert replay_session(session, store=store).divergence is None


def test_json_lines_are_a_session_each() -> None:
    lines = [{"messages": TALK, "tools": [ADD]}, TALK[:2] + TALK[-1:]]
    store, sessions = imported("\n".join(map(json.dumps, lines)))
    assert [back(store, session) for session in sessions] == [lines[0], {"messages": lines[1]}]


@pytest.mark.parametrize(
    "parameters", [{"type": "object", "properties": 3}, {"properties": {"a": {"type": "any"}}}]
)
def test_a_tool_with_a_wrong_schema_is_imported_as_it_is(parameters: dict[str, Any]) -> None:
    odd = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    line = {"messages": [TALK[0], TALK[-1]], "tools": [odd]}
    store, (session,) = imported(json.dumps(line))
    assert back(store, session) == line


def test_what_the_file_does_not_name_is_written_with_the_model_that_is_given() -> None:
    store = MemoryLog()
    session = asyncio.run(
        import_dialog(store, Imported((Message("user", "hi"), Message("assistant", "ho"))), model="a/b")
    )
    (call,) = (event["data"] for event in load(store, session) if event["kind"] == ev.CALL_STARTED)
    assert call["model"] == "a/b"


def test_a_fork_asks_only_what_has_changed() -> None:
    store = MemoryLog()
    (dialog,) = read_dialogs(json.dumps({"messages": TALK, "tools": [ADD]}))
    session = asyncio.run(import_dialog(store, dialog, model="french/one"))
    seq = [event["seq"] for event in load(store, session) if event["kind"] == ev.CALL_STARTED][1]
    backend = ScriptedBackend(["Au revoir."])
    with registry.scope():
        registry.add("backend", "french", lambda **options: backend)
        done = fork_session(session, at=seq, edit="in French?", store=store)
    assert done.result.content == "Au revoir."
    assert (done.reused, done.tools_reused, done.changed, done.new) == (2, 2, 1, 0)
    assert [message.text for message in backend.requests[-1].messages][-2:] == ["2", "in French?"]
    assert back(store, done.session)["messages"] == [
        *TALK[:-2],
        says("in French?", "user"),
        says("Au revoir."),
    ]


ODD = {
    "no answer at the end": [says("hi", "user")],
    "tool calls at the end": [says("hi", "user"), asks("a")],
    "results in another order": [says("hi", "user"), asks("a", "b"), gives("b", "2"), gives("a", "1"), says("x")],
    "a result is missing": [says("hi", "user"), asks("a", "b"), gives("b", "2"), says("x")],
    "somebody speaks between": [says("hi", "user"), asks("a"), gives("a", "1"), says("so?", "user"), says("x")],
    "several rounds, then none": [says("hi", "user"), asks("a"), gives("a", "1"), asks("b"), gives("b", "1"), asks("c")],
    "arguments that are no JSON": [says("hi", "user"), asks("a", arguments="{"), gives("a", "bad"), says("x")],
    "a name that no tool has": [says("hi", "user"), asks("a", name="my tool!"), gives("a", "1"), says("x")],
    "assistants in a row": [says("hi", "user"), says("a"), says("b")],
    "an assistant begins": [says("a"), says("hi", "user"), says("b")],
    "an assistant alone": [says("a")],
    "a system message later": [says("hi", "user"), says("a"), says("rule", "developer"), says("b")],
    "an assistant with a name": [says("hi", "user"), {**says("a"), "name": "bob"}, says("why", "user"), says("b")],
    "ids used again": [says("hi", "user"), asks("a"), gives("a", "1"), asks("a"), gives("a", "2"), says("x")],
    "equal calls, other results": [says("hi", "user"), asks("a", "b"), gives("a", "1"), gives("b", "2"), says("x")],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_dialogs_keep_every_message(name: str) -> None:
    store, (session,) = imported(json.dumps(ODD[name]))
    assert back(store, session)["messages"] == ODD[name]
    told = summary(load(store, session))
    unanswered = name in ("no answer at the end", "an assistant alone")
    assert told.status == ("failed" if unanswered else "done")
    assert (told.error == "the dialog ends without a reply") == unanswered


IDS = st.sampled_from("abc")
USER = st.builds(
    lambda text, role: says(text, role), st.text(max_size=5), st.sampled_from(["user", "system"])
)
SAID = st.builds(says, st.text(max_size=5))
ASKED = st.builds(
    lambda ids, arguments, content: asks(*ids, arguments=arguments, content=content or None),
    st.lists(IDS, min_size=1, max_size=3, unique=True),
    st.sampled_from(['{"a":1}', "{}", "nonsense", "[]"]),
    st.text(max_size=5),
)
GIVEN = st.builds(gives, IDS, st.text(max_size=5))
ALL = [asks("a", "b", "c"), gives("a", "1"), gives("b", "2"), gives("c", "3")]


@settings(max_examples=150, deadline=None)
@given(st.lists(USER | SAID | ASKED | GIVEN | GIVEN, min_size=1, max_size=14), st.booleans())
def test_any_dialog_comes_back(messages: list[dict[str, Any]], asked: bool) -> None:
    messages = (
        [says("hi", "user"), *ALL, *messages] if asked else [one for one in messages if one["role"] != "tool"]
    )
    if not messages:
        return
    store, (session,) = imported(json.dumps(messages))
    assert back(store, session)["messages"] == messages
    assert summary(load(store, session)).name == "file"


def test_thinking_and_parts_are_kept() -> None:
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
    said = {"role": "assistant", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]}
    messages = [{"role": "user", "content": parts}, {**said, "reasoning_content": "hmm"}]
    store, (session,) = imported(json.dumps(messages))
    assert back(store, session)["messages"] == [messages[0], says("a cat")]
    assert '"thinking":"hmm"' in export(store, session, "trl")


def test_unknown_keys_are_kept() -> None:
    call = {
        "id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "sig"}},
    }  # fmt: skip
    dialog = [
        {**says("hi", "user"), "weight": 1},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {**says("x"), "audio": {"id": "a"}, "annotations": [{"type": "url_citation"}]},
    ]
    empty = {"refusal": None, "annotations": []}
    store, (session,) = imported(json.dumps([dialog[0], {**dialog[1], **empty}, *dialog[2:]]))
    assert back(store, session)["messages"] == dialog


def test_secrets_do_not_reach_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghij")
    store, (session,) = imported(json.dumps([says("sk-proj-0123456789abcdefghij", "user"), says("ok")]))
    assert not any(b"0123456789abcdefghij" in body for body in store.read(session))


def test_a_thousand_turns_take_no_longer_each() -> None:
    messages = [says("x", "user"), says("y")] * 1000
    store, (session,) = imported(json.dumps(messages))
    assert len(load(store, session)) == 2 + 1000 * 5
    assert back(store, session)["messages"] == messages


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("{", "the file:1: not JSON: Expecting property name"),
        ("[" * 100_000, "the file:1: not JSON: it is nested too deeply"),
        ('[{"role":"user","content":' + "[" * 100_000, "the file:1: not JSON: it is nested too deeply"),
        ('[\n {"role": "user",\n  "content": x}]', "the file:3: not JSON: Expecting value"),
        ('{"messages": []}\n{"messages": [}', "the file:1: there is no message"),
        ('[{"role":"user","content":"a"}]\n[{"role":"user"', "the file:2: not JSON"),
        ('{"role": "user", "content": "x"}', "the file: a message, not a dialog"),
        ('{"a": 1}', 'the file: an object without "messages"'),
        ("3", "the file: the messages are a number, not a list"),
        ('{"messages": {}}', "the messages are an object, not a list"),
        ("[]", "there is no message"),
        (
            '[\n{"role": "user", "content": "a"},\n{"role": "bot", "content": "b"}]',
            "the file:3: message 2: the role is 'bot'",
        ),
        ('{"x": 1,\n"messages": [\n7]}', "the file:3: message 1: a number, not an object"),
        (
            '[[{"role":"user","content":"a"}],[{"role":"x"}]]',
            "the file: dialog 2: message 1: the role is 'x'",
        ),
        (
            json.dumps([says("a", "user"), {"role": "assistant", "function_call": {"name": "f"}}]),
            "the old form",
        ),
        (
            json.dumps([{"role": "user", "content": 3}]),
            "message content must be text or a list of parts, got a number",
        ),
        (json.dumps([{"role": "user", "content": ["x"]}]), "part 1 of a message's content: it is text"),
        (json.dumps([{"role": "user", "content": "x", "name": 3}]), "'name' of a message is a number"),
        (json.dumps([gives("a", "x")]), "an answer to 'a', which no message before it asked for"),
        (json.dumps([{"role": "tool", "content": "x"}]), "an answer without a tool_call_id"),
        (json.dumps([{**asks("a"), "role": "user"}]), "a message of the user has tool_calls"),
        (json.dumps([{**asks("a"), "tool_calls": {"a": 1}}]), "tool_calls is an object, not a list"),
        (json.dumps([asks("a", "a")]), "tool call 2: the id 'a' is taken"),
        (json.dumps([asks("")]), "tool call 1: it has no id"),
        (json.dumps([asks("a", name="")]), 'tool call 1: it has no function with a "name"'),
        (json.dumps([{**asks("a"), "tool_calls": [3]}]), "tool call 1: a number, not an object"),
        (json.dumps({"messages": [says("x", "user")], "tools": [3]}), "tools is not a list of objects"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dialogs(text)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_tool_that_is_none() -> None:
    with pytest.raises(ConfigError, match="the file: tool 2: a tool's schema has no name"):
        read_dialogs(json.dumps({"messages": TALK, "tools": [ADD, {"type": "function"}]}))


def test_flat_arguments_are_read() -> None:
    message = asks("a")
    message["tool_calls"][0]["function"]["arguments"] = {"b": 1, "a": 2}
    (dialog,) = read_dialogs(json.dumps([says("x", "user"), message]))
    assert dialog.messages[1].tool_calls == (FunctionCall("a", "add", '{"a":2,"b":1}'),)
