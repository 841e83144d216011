"""Replies held to a schema token by token, with real weights and real samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import torch
from transformers.cache_utils import DynamicCache

from lllm.backends.thinking import Splitter
from lllm.backends.transformers import template
from lllm.backends.transformers.constrained import Grammars, Matcher
from lllm.backends.transformers.library import cache_parameter
from lllm.backends.transformers.load import Loaded, LoadOptions, load
from lllm.errors import DependencyError, LLMInferenceError, UnknownNameError, UnsupportedError
from lllm.models.message import Message
from training.embedded.forms import Forms

QUESTION = (Message("user", "What is 17 times 23?"),)
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string", "maxLength": 20}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "maximum": 9, "minimum": 1}},
                "required": ["unit", "days"],
                "additionalProperties": False,
            },
        },
    },
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded(forms: Forms) -> Loaded:
    return load(str(forms.folder), LoadOptions(device="cpu"))


@pytest.fixture(scope="module")
def grammars(loaded: Loaded) -> Grammars:
    return Grammars(loaded)


def sample(
    loaded: Loaded, matcher: Matcher, *, seed: int, tools: Any = (), count: int = 200
) -> tuple[str, bool]:
    """What the model writes at a temperature of 1.5 within a grammar, and whether it came to an end."""
    random = torch.Generator().manual_seed(seed)
    step = torch.tensor([template.render(loaded, QUESTION, tools)])
    past: dict[str | None, Any] = {cache_parameter(loaded.model): DynamicCache(config=loaded.model.config)}
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < count:
            row = loaded.model(step, use_cache=True, **past).logits[0, -1].float()
            matcher.mask(row)
            token = int(torch.multinomial(torch.softmax(row / 1.5, -1), 1, generator=random))
            matcher.accept(token)
            if token not in loaded.eos:
                written.append(token)
            if token in loaded.eos or matcher.finished:
                return str(loaded.tokenizer.decode(written)), True
            step = torch.tensor([[token]])
    return str(loaded.tokenizer.decode(written)), False


SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "integer", "minimum": 3, "maximum": 40},
    {"enum": ["red", 4, None, True, {"a": [1]}]},
    {"const": "only this"},
    {"type": ["boolean", "null"]},
    {"enum": ["<tool_call>{}</tool_call>", "a <tool_call> b"]},  # tokens of their own elsewhere
    {"type": "string", "pattern": "^[a-c]{2,5}$"},
    {"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": -9}, "minItems": 2, "maxItems": 4},
    {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 2}]},
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": k}}, "required": ["k"], "additionalProperties": False}
            for k in ("a", "b")
        ]
    },
    {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/n"}, "y": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2}},
        "required": ["x", "y"],
        "additionalProperties": False,
        "$defs": {
            "n": {"type": "object", "properties": {"v": {"enum": [1, 2.5]}}, "required": ["v"], "additionalProperties": False},
        },
    },
)  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_what_is_written_is_valid(schema: dict[str, Any], loaded: Loaded, grammars: Grammars) -> None:
    assert grammars.unenforced(schema) == ()
    for seed in range(4):
        written, ended = sample(loaded, grammars.compile(schema), seed=seed)
        assert ended
        jsonschema_rs.validate(schema, json.loads(written))
        assert (
            json.dumps(json.loads(written), separators=(",", ":"), ensure_ascii=False) == written
        )  # compact


def test_properties_come_in_the_order_of_the_schema(loaded: Loaded, grammars: Grammars) -> None:
    flag = {"type": "boolean"}
    schema = {"type": "object", "properties": {"why": flag, "answer": flag}, "required": ["answer", "why"]}
    closed = {**schema, "additionalProperties": False}
    assert list(json.loads(sample(loaded, grammars.compile(closed), seed=1)[0])) == ["why", "answer"]


def test_a_matcher_begins_at_the_beginning_each_time(loaded: Loaded, grammars: Grammars) -> None:
    schema = {"enum": [True, False]}
    first, second = (sample(loaded, grammars.compile(schema), seed=5) for _ in range(2))
    assert first == second
    assert first[0] in ("true", "false")


@pytest.mark.parametrize(
    ("schema", "keywords"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ("uniqueItems",)),
        ({"type": "integer", "not": {"const": 3}}, ("not",)),
        ({"if": {"type": "integer"}, "then": {"minimum": 3}}, ("if", "then")),
        # a schema cannot ask for leniency by itself
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, ("uniqueItems",)),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ("schema",)),
        ({"type": "string", "pattern": "(?=a)b"}, ("schema",)),
        ({"type": "string", "format": "frobnicate"}, ("schema",)),
        ({"$ref": "#/$defs/missing"}, ("schema",)),
        (False, ("not",)),
        (True, ()),
        ({}, ()),
    ],
)
def test_what_cannot_be_enforced_is_refused(
    schema: Any, keywords: tuple[str, ...], grammars: Grammars
) -> None:
    assert grammars.unenforced(schema) == keywords
    if not keywords:
        assert not grammars.compile(schema).finished
        return
    with pytest.raises(UnsupportedError, match="cannot express this schema in full: ") as caught:
        grammars.compile(schema)
    if keywords != ("schema",):
        assert keywords[0] in caught.value.message


def test_the_mask_covers_the_columns_behind_the_vocabulary(loaded: Loaded, grammars: Grammars) -> None:
    matcher = grammars.compile({"const": 7})
    row = torch.zeros(1024 + 64)
    matcher.mask(row)
    (allowed,) = row.isfinite().nonzero()
    assert loaded.tokenizer.decode(allowed) == "7"
    assert row[allowed] == 0
    batch = torch.zeros(3, 1024, dtype=torch.bfloat16)
    matcher.mask(batch)
    assert batch.isfinite().sum(1).tolist() == [1, 1, 1]
    matcher.accept(int(allowed))
    end = torch.zeros(1024)
    matcher.mask(end)
    assert end.isfinite().nonzero().flatten().tolist() == sorted(loaded.eos)
    matcher.accept(next(iter(loaded.eos)))
    assert matcher.finished


def test_a_token_that_is_not_allowed_is_an_error(loaded: Loaded, grammars: Grammars) -> None:
    matcher = grammars.compile({"type": "boolean"})
    with pytest.raises(
        LLMInferenceError, match=r"grammar of the reply failed: .*doesn't satisfy the grammar[^\n]*$"
    ):
        matcher.accept(loaded.tokenizer.convert_tokens_to_ids("7"))
    assert not matcher.finished
    with pytest.raises(LLMInferenceError):
        matcher.mask(torch.zeros(1024))


# --- tool calls


def calls_in(written: str) -> list[tuple[str, Any]]:
    splitter = Splitter(tools=True)
    splitter.feed(written)
    splitter.finish()
    assert splitter.content.strip() == ""
    return [(call.name, call.parsed()) for call in splitter.calls]


def test_a_call_is_made_where_one_is_required(loaded: Loaded, grammars: Grammars) -> None:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    for seed in range(6):
        written, ended = sample(loaded, grammars.native_calls(TOOLS, "required"), seed=seed, tools=TOOLS)
        assert ended
        calls = calls_in(written)
        assert calls
        for name, arguments in calls:
            jsonschema_rs.validate(schemas[name], arguments)


def test_the_named_tool_is_called_once(loaded: Loaded, grammars: Grammars) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    for seed in range(4):
        written, ended = sample(loaded, grammars.native_calls(TOOLS, choice), seed=seed, tools=TOOLS)
        assert ended
        ((name, arguments),) = calls_in(written)
        assert name == "weather"
        jsonschema_rs.validate(TOOLS[1]["function"]["parameters"], arguments)
        assert written.startswith('<tool_call>\n{"name": "weather", "arguments": {"unit": "')


@pytest.mark.parametrize(
    ("choice", "more"), [("required", True), ({"type": "function", "function": {"name": "weather"}}, False)]
)
def test_another_call_may_follow_where_none_is_named(
    choice: Any, more: bool, loaded: Loaded, grammars: Grammars
) -> None:
    matcher = grammars.native_calls(TOOLS, choice)
    call = '<tool_call>\n{"name": "weather", "arguments": {"unit": "C", "days": 2}}\n</tool_call>'
    for token in loaded.tokenizer(call, add_special_tokens=False)["input_ids"]:
        matcher.accept(token)
    row = torch.zeros(1024)
    matcher.mask(row)
    may = {loaded.tokenizer.decode(token) for token in row.isfinite().nonzero().flatten()}
    assert may == ({"<|im_end|>", "\n"} if more else {"<|im_end|>"})
    assert matcher.finished != more


def test_arguments_that_no_grammar_holds_are_an_object(loaded: Loaded, grammars: Grammars) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    tool = {"type": "function", "function": {"name": 'odd"name', "parameters": parameters}}
    bare = {"type": "function", "function": {"name": "bare"}}
    for choice, name in (
        ("required", None),
        ({"type": "function", "function": {"name": 'odd"name'}}, 'odd"name'),
    ):
        matcher = grammars.native_calls([tool, bare], choice)
        begin = '<tool_call>\n{"name": "' + json.dumps(name or "bare")[1:-1] + '", "arguments": {'
        for token in loaded.tokenizer(begin, add_special_tokens=False)["input_ids"]:
            matcher.accept(token)


def test_calls_that_cannot_be_forced(loaded: Loaded, grammars: Grammars, forms: Forms) -> None:
    with pytest.raises(UnknownNameError, match="no tool named 'wether'"):
        grammars.native_calls(TOOLS, {"type": "function", "function": {"name": "wether"}})
    other = load(str(forms.folder), LoadOptions(chat_template="{{ messages[0].content }}"))
    with pytest.raises(UnsupportedError, match="a form of its own"):
        Grammars(other).native_calls(TOOLS, "required")


def test_a_missing_library_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "llguidance"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(DependencyError, match="llguidance"):
        Grammars(loaded)
