"""Messages and tool calls: what they take, what they refuse, and the keys that others put into them."""

from __future__ import annotations

import copy
import json
import pickle
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.core.dialog import Node
from lllm.errors import ConfigError
from lllm.llm import LLM
from lllm.llm.dialog import Dialog
from lllm.models.checks import DEEPEST, deeper, not_json
from lllm.models.message import FunctionCall, Message, sendable_name
from lllm.models.reply import Reply

IMAGE = {"type": "image_url", "image_url": {"url": "http://x/y.png"}}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


WRONG_CONTENT = {
    "number": 5,
    "true": True,
    "object": {"type": "text", "text": "x"},
    "bytes": b"x",
    "set": {"x"},
    "generator": (part for part in ()),
    "texts": ["x", "y"],
    "list in a list": [[]],
    "null in a list": [None],
    "no type": [{"text": "x"}],
    "type is a number": [{"type": 1}],
    "text is a number": [{"type": "text", "text": 5}],
    "no text": [{"type": "text"}],
    "no url": [{"type": "image_url"}],
    "url is bytes": [{"type": "image_url", "image_url": {"url": b"x"}}],
    "bytes within": [IMAGE, {"type": "file", "file": {"file_data": b"x"}}],
    "not finite": [{"type": "input_audio", "gain": float("nan")}],
    "key is a number": [{"type": "file", "file": {1: 2}}],
    "too deep": [{"type": "file", "file": nested(5000)}],
}


@pytest.mark.parametrize("name", WRONG_CONTENT)
def test_content_in_a_wrong_shape_is_a_config_error(name: str) -> None:
    content = WRONG_CONTENT[name]
    with pytest.raises(ConfigError, match="content"):
        Message("user", content)
    with pytest.raises(ConfigError, match="content"):
        Message.from_dict({"role": "user", "content": content})
    with pytest.raises(ConfigError, match="content"):
        LLM("scripted/x").stream([{"role": "user", "content": content}])
    with pytest.raises(ConfigError, match="content"):
        Dialog([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    "message",
    [
        5,
        "text",
        [],
        {},
        {"role": "robot", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"role": "user", "content": "x", "name": 5},
        {"role": "tool", "content": "x", "tool_call_id": 5},
        {"role": "assistant", "content": "x", "thinking": {"a": 1}},
        {"role": "assistant", "content": "x", "tool_calls": 5},
        {"role": "assistant", "content": "x", "tool_calls": {"id": "a"}},
        {"role": "assistant", "content": "x", "tool_calls": [5]},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": [1], "function": {"name": "f"}}]},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": "a", "function": 5}]},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": "a", "function": {"name": 5}}]},
        {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": {1: 2}}}]},
        {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "x": float("nan")}}]},
        {"role": "user", "content": "x", "cache_control": b"x"},
        {"role": "user", "content": "x", "more": nested(5000)},
    ],
)  # fmt: skip
def test_a_message_that_is_none_is_a_config_error(message: Any) -> None:
    with pytest.raises(ConfigError):
        Message.from_dict(message)


@pytest.mark.parametrize(
    "fields",
    [{"id": 5}, {"name": None}, {"arguments": {"a": 1}}, {"arguments": None}, {"extra": [1]}, {"extra": "x"}],
)
def test_a_call_holds_text(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="FunctionCall"):
        FunctionCall(**({"id": "a", "name": "f"} | fields))
    with pytest.raises(ConfigError, match="'extra' of a message"):
        Message("user", "x", extra=[1])  # type: ignore[arg-type]


def test_content_that_is_right() -> None:
    parts = [
        {"type": "text", "text": "x"},
        IMAGE,
        {"type": "image_url", "image_url": "http://x"},
        {"type": "new"},
    ]
    message = Message("user", parts)
    assert message.content == tuple(parts)
    assert message == Message.from_dict({"role": "user", "content": parts})
    assert Message("user", None).content == ""
    assert Message("assistant", "", tool_calls=[FunctionCall("a", "f")]).tool_calls == (
        FunctionCall("a", "f"),
    )


def test_an_old_log_may_hold_other_parts() -> None:
    old = {"role": "user", "content": [{"text": "no type"}]}
    assert Message.from_record(old).record() == old
    with pytest.raises(ConfigError):
        Message.from_record({"role": "user", "content": [5]})


# --- keys of others

GEMINI = {
    "id": "function-call-1",
    "type": "function",
    "extra_content": {"google": {"thought_signature": "c2ln"}},
    "function": {"name": "f", "arguments": "{}", "cache_control": {"type": "ephemeral"}},
}


def test_unknown_keys_are_kept_and_recorded() -> None:
    value = {
        "role": "assistant",
        "content": "x",
        "tool_calls": [GEMINI],
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        "audio": None,
        "annotations": [],
        "refusal": "",
        "prefix": False,
    }
    message = Message.from_dict(value)
    assert message.extra == {"reasoning_details": value["reasoning_details"], "prefix": False}
    assert message.tool_calls[0].extra == {
        "extra_content": GEMINI["extra_content"], "function": {"cache_control": {"type": "ephemeral"}}
    }  # fmt: skip
    kept = {key: item for key, item in value.items() if item not in (None, [], "")}
    assert message.record() == kept
    assert Message.from_record(json.loads(json.dumps(message.record()))) == message
    assert message.to_dict() == {
        "role": "assistant",
        "content": "x",
        "tool_calls": [
            {"id": GEMINI["id"], "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    assert hash(message) == hash(Message.from_record(message.record()))
    assert pickle.loads(pickle.dumps(message)) == copy.deepcopy(message) == message


def test_a_message_without_other_keys_is_recorded_as_before() -> None:
    message = Message("assistant", "", tool_calls=(FunctionCall("a", "f"),), thinking="hm")
    assert set(message.record()) == {"role", "content", "tool_calls", "thinking"}
    assert message.plain


def test_a_dialog_is_another_one_with_other_keys() -> None:
    plain, other = Message("user", "x"), Message("user", "x", extra={"cache_control": {"type": "ephemeral"}})
    elsewhere = Message("user", "x", extra={"cache_control": {"type": "ephemeral"}}, extra_from="http://a")
    assert len({Node(message).id for message in (plain, other, elsewhere)}) == 3
    assert Node(Message.from_record(other.record())).id == Node(other).id


def test_own_keys_cannot_be_replaced() -> None:
    message = Message("user", "x", extra={"role": "system", "content": "y", "note": 1})
    assert message.to_dict(extra=True) == {"role": "user", "content": "x", "note": 1}
    call = FunctionCall("a", "f", extra={"id": "b", "function": {"name": "g", "note": 1}})
    assert call.to_dict(extra=True)["function"] == {"name": "f", "arguments": "{}", "note": 1}


def test_a_call_keeps_its_keys_when_it_is_changed() -> None:
    call = FunctionCall("a", "f", "oops", {"extra_content": {"x": 1}})
    for changed in (call.with_arguments("{}"), call.with_id("b"), call.with_name("g")):
        assert changed.extra == call.extra
    reply = Reply(tool_calls=(call,), extra={"note": 1}, extra_from="http://a")
    assert Reply.from_record(reply.record()) == reply
    assert reply.message().to_dict(extra=True)["tool_calls"][0]["extra_content"] == {"x": 1}
    assert reply.to_openai()["choices"][0]["message"]["note"] == 1


# --- arguments and names


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (" \n", {}),
        ("null", {}),
        (" null ", {}),
        ('""', {}),
        ('"{}"', {}),
        ('"null"', {}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        (json.dumps(json.dumps({"a": [1, 2]})), {"a": [1, 2]}),
        ('{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
    ],
)
def test_arguments_that_are_an_object(text: str, value: Any) -> None:
    assert FunctionCall("a", "f", text).parsed() == value


@pytest.mark.parametrize(
    "text", ["[]", "[1]", "5", "true", '"x"', '"[1]"', "{'a': 1}", '{"a": NaN}', '{"a"', "nil", '"\\"5\\""', "[" * 99999]
)  # fmt: skip
def test_arguments_that_are_no_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        FunctionCall("a", "f", text).parsed()


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("add", "add"),
        ("functions.add", "functions_add"),
        ("my tool", "my_tool"),
        ("", "unnamed"),
        ("größe", "gr__e"),
        ("a" * 80, "a" * 64),
        ("a/b:c\n", "a_b_c_"),
    ],
)
def test_names_that_every_provider_takes(name: str, sent: str) -> None:
    assert sendable_name(name) == sent


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_name_becomes_one_that_is_taken(name: str) -> None:
    sent = sendable_name(name)
    assert 1 <= len(sent) <= 64
    assert all(char.isascii() and (char.isalnum() or char in "_-") for char in sent)


def test_depth_is_counted_without_the_stack() -> None:
    assert not deeper(nested(DEEPEST))
    assert deeper(nested(DEEPEST + 1))
    assert deeper({"a": {"b": nested(100_000)}})
    assert not_json(nested(DEEPEST)) is None
    assert "too deeply" in str(not_json(nested(100_000)))


def test_a_short_message_takes_little_room() -> None:
    import tracemalloc

    messages = [Message("user", f"item {number}") for number in range(1000)]
    tracemalloc.start()
    try:
        for message in messages:
            message.wire()
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, {"b": b"x"}]}, "'a.2.b' is bytes"),
        ([0.5, float("nan")], "'2' is nan, which is not a JSON number"),
        (float("inf"), "it is inf, which is not a JSON number"),
        ({"a": {1: 2}}, "a key of 'a' is int"),
        ({"k" * 60: {2}}, f"'{'k' * 40}' is set"),
        (MappingProxyType({"a": (None, True, 10**30, {"b": ("x", 2.5)})}), None),
    ],
)
def test_what_is_not_json_is_named_by_its_place(value: object, said: str | None) -> None:
    assert not_json(value) == said
