"""F15: the same tool calls, as OpenAI, Ollama, Gemini, vLLM and text tags write them, are the same objects."""

import json
from typing import Any

import pytest

from lllm.backends.openai.reply import Assembly
from lllm.deltas import aggregate
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from tests.backends.helpers import ADD, ask

ARGUMENTS = {"a": 1, "b": "two </tool_call> é"}
TEXT = json.dumps(ARGUMENTS, ensure_ascii=False, separators=(",", ":"))
OTHER = '{"a":2}'
WANTED = [("add", TEXT), ("add", OTHER)]


def entry(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "add", "arguments": arguments}} | more


def flat(arguments: Any) -> str:
    return json.dumps({"name": "add", "arguments": arguments}, ensure_ascii=False)


# whole messages
MESSAGES: dict[str, dict[str, Any]] = {
    "OpenAI": {"content": None, "tool_calls": [entry(TEXT, id="call_a"), entry(OTHER, id="call_b")]},
    "Ollama": {
        "content": "",
        "tool_calls": [entry(TEXT, id="call_a", index=0), entry(OTHER, id="call_b", index=1)],
    },
    "Ollama, arguments as objects and no ids": {
        "content": "",
        "tool_calls": [
            {"function": {"index": 0, "name": "add", "arguments": ARGUMENTS}},
            {"function": {"index": 1, "name": "add", "arguments": {"a": 2}}},
        ],
    },
    "Gemini": {
        "tool_calls": [
            entry(TEXT, id="function-call-1", extra_content={"google": {"thought_signature": "x"}}),
            entry(OTHER, id="function-call-2"),
        ]
    },
    "Gemini, ids empty": {"tool_calls": [entry(TEXT, id=""), entry(OTHER, id="")]},
    "flat": {"tool_calls": [{"name": "add", "arguments": ARGUMENTS}, {"name": "add", "arguments": OTHER}]},
    "text tags": {
        "content": f"<tool_call>\n{flat(ARGUMENTS)}\n</tool_call>\n<tool_call>\n{flat({'a': 2})}\n</tool_call>"
    },
    "text tags, arguments as text": {
        "content": f"<tool_call>{flat(TEXT)}</tool_call><tool_call>{flat(OTHER)}</tool_call>"
    },
    "text tags, a list": {"content": f"<tool_call>[{flat(ARGUMENTS)}, {flat({'a': 2})}]</tool_call>"},
    "text tags after thinking": {
        "content": f"<think>add</think><tool_call>{flat(ARGUMENTS)}</tool_call><tool_call>{flat({'a': 2})}"
    },
    "both": {
        "content": f"<tool_call>{flat(ARGUMENTS)}</tool_call>",
        "tool_calls": [entry(TEXT, id="call_a"), entry(OTHER, id="call_b")],
    },
}

# pieces of a stream, each the `tool_calls` or the content of one chunk
STREAMS: dict[str, list[Any]] = {
    "OpenAI": [
        [entry("", index=0, id="call_a")],
        *[[{"index": 0, "function": {"arguments": char}}] for char in TEXT],
        [entry("", index=1, id="call_b")],
        *[[{"index": 1, "function": {"arguments": char}}] for char in OTHER],
    ],
    "interleaved": [
        [entry("", index=0, id="call_a"), entry("", index=1, id="call_b")],
        [{"index": 1, "function": {"arguments": OTHER[:3]}}],
        [{"index": 0, "function": {"arguments": TEXT[:5]}}],
        [
            {"index": 1, "function": {"arguments": OTHER[3:]}},
            {"index": 0, "function": {"arguments": TEXT[5:]}},
        ],
    ],
    "Ollama": [[entry(TEXT, index=0, id="call_a")], [entry(OTHER, index=1, id="call_b")]],
    "Ollama, every call is number 0": [[entry(TEXT, index=0, id="a")], [entry(OTHER, index=0, id="b")]],
    "Gemini": [[entry(TEXT, id="function-call-1"), entry(OTHER, id="function-call-2")]],
    "Gemini, one chunk each": [[entry(TEXT, id="", index=0)], [entry(OTHER, id="", index=1)]],
    "objects": [[entry(ARGUMENTS, index=0, id="call_a"), entry({"a": 2}, index=1, id="call_b")]],
    "text tags": list(str(MESSAGES["text tags"]["content"])),
}


def same(reply: Reply) -> None:
    assert [(call.name, call.arguments) for call in reply.tool_calls] == WANTED
    assert [call.parsed() for call in reply.tool_calls] == [ARGUMENTS, {"a": 2}]
    assert all(type(call) is FunctionCall for call in reply.tool_calls)
    assert len({call.id for call in reply.tool_calls} - {""}) == 2
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_message(name: str) -> None:
    assembly = Assembly(ask(tools=(ADD,)))
    assembly.body({"choices": [{"message": MESSAGES[name], "finish_reason": "stop"}]})
    assembly.close()
    same(assembly.reply())
    if name != "both":
        assert assembly.reply().content == ""


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(name: str) -> None:
    assembly = Assembly(ask(tools=(ADD,), stream=True))
    deltas: list[Any] = []
    for piece in STREAMS[name]:
        delta = {"content": piece} if isinstance(piece, str) else {"tool_calls": piece}
        deltas += assembly.chunk({"choices": [{"delta": delta}]})
    assembly.chunk({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    deltas += assembly.close()
    same(assembly.reply())
    said = aggregate(deltas)
    assert [(call.name, call.arguments) for call in said.tool_calls] == WANTED
    assert (said.content, assembly.reply().content) == ("", "")
