"""The quick reader of plain answers: what it reads, it reads as the thorough one does."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.backends.openai.plain import plain_reply
from lllm.backends.openai.reading import Reading
from lllm.backends.openai.reply import Assembly
from lllm.backends.thinking_forms import FORMS, MODES
from lllm.errors import ProviderError
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import Request
from tests.backends.helpers import ADD, ask, schema

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "mock",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": [CALL]},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
MARKS = sorted({mark for form in FORMS for mark in (*form.open, *form.close, *form.answer) if mark})
PIECES = [
    *MARKS,
    "<tool_call>",
    "</tool_call>",
    "<|channel|>",
    "analysis",
    "<|message|>",
    "<",
    "<th",
    "`",
    " ",
    "\n",
    "yes",
    "é",
]


def thorough(data: bytes, request: Request, mode: str) -> Reply | None:
    reading = Reading(Assembly(request, mode, place="http://localhost/v1"), None, "m")  # type: ignore[arg-type]
    try:
        return reading.whole(data)
    except (ProviderError, AttributeError):  # there are no Faults here to word it
        return None


def same(body: Any, request: Request | None = None, mode: str = "auto") -> bool:
    """Whether the quick reader reads it; then both give the same."""
    request = request or ask(tools=(ADD,))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = plain_reply(data, request, mode, "provider")
    if found is not None:
        assert found == thorough(data, request, mode)
    return found is not None


def test_a_plain_answer_is_read() -> None:
    found = plain_reply(json.dumps(BODY).encode(), ask(), "auto", "provider")
    assert found == Reply(
        content="Hello.",
        tool_calls=(FunctionCall("call_1", "add", '{"a": 1}'),),
        finish_reason="tool_calls",
        usage=Usage(11, 7),
        model="mock",
        id="chatcmpl-1",
    )
    assert same(BODY)
    assert same(BODY, ask(format=schema()))
    assert same(BODY, ask(stream=True, sampling={"temperature": 0}))


@pytest.mark.parametrize("place", ["", "choices", "choices.0", "choices.0.message", "choices.0.message.tool_calls.0", "usage",
                                   "choices.0.message.tool_calls.0.function"])  # fmt: skip
@pytest.mark.parametrize(
    "value", [None, "", "x", 0, 1.5, True, [], {}, [1], {"x": 1}, "<think>x</think>y", 10**30, "\ud800", [[]]]
)
def test_anything_in_any_place(place: str, value: Any) -> None:
    steps = [int(step) if step.isdigit() else step for step in place.split(".") if step]
    whole = copy.deepcopy(BODY)
    at: Any = whole
    for step in steps:
        at = at[step]
    for key in (
        [*at, "x", "error", "n", "reasoning", "thinking", "token_ids", "annotations"]
        if isinstance(at, dict)
        else range(len(at))
    ):
        before = copy.deepcopy(at)
        at[key] = value
        same(whole)
        if isinstance(at, dict):
            at.pop(key)
            same(whole)
            at.clear()
            at.update(before)
        else:
            at[:] = before


def test_what_is_not_plain() -> None:
    assert not same(b"\xef\xbb\xbf" + json.dumps(BODY).encode()[:-1])
    assert not same(b"data: {}")
    assert not same(b"[]")
    assert not same(BODY, ask(sampling={"extra_body": {"n": 2}}))
    assert not same({**BODY, "choices": []})
    assert not same({**BODY, "usage": {"prompt_tokens": 10**20}})


@given(
    st.lists(st.sampled_from(PIECES), max_size=6),
    st.sampled_from(MODES),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_marks_of_thinking(
    parts: list[str], mode: str, tools: bool, literal: bool, structured: bool
) -> None:
    body = copy.deepcopy(BODY)
    body["choices"][0]["message"] = {"role": "assistant", "content": "".join(parts)}
    request = ask(
        tools=(ADD,) if tools else (),
        literal_tags=("think", "answer", "yes") if literal else (),
        format=schema() if structured else None,
    )
    same(body, request, mode)


def test_tags_of_the_answer_are_plain() -> None:
    body = copy.deepcopy(BODY)
    body["choices"][0]["message"]["content"] = "See `x`.\n<answer>391</answer> <b>[1]</b>"
    assert same(body)
    body["choices"][0]["message"]["content"] = "<think>no</think>391"
    assert not same(body)
