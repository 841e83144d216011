"""What a grammar holds a reply to, and what it says that it does not."""

import json
import random
from typing import Any

import jsonschema_rs
import pytest

from lllm.backends.embedded import WEIGHTS
from lllm.backends.llama_cpp.rules import rules
from lllm.backends.llama_cpp.tokens import TokenEngine
from lllm.errors import BadRequestError, UnsupportedError
from lllm.ports import Request
from tests.backends.helpers import ADD, ask, reply

WILD = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 200}


@pytest.fixture(scope="module")
def engine() -> TokenEngine:
    return TokenEngine(WEIGHTS)


def held(schema: Any) -> str | None:
    made = rules(ask(format={"name": "x", "schema": schema}), calls=True, name="tiny.gguf")
    assert made is not None
    return made.enforced


KEPT: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "object", "properties": {"name": {"$ref": "#/$defs/name"}}, "required": ["name"],
     "$defs": {"name": {"type": "object", "properties": {"x": {"$ref": "#/$defs/string"}}, "required": ["x"]},
               "string": {"type": "boolean"}}},
    {"enum": ['a"b', "x\ny", "\\d", "é", 1, None, [True], {"k": 2.5}]},
    {"const": "a\\nb"},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False, "minItems": 2},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "string", "pattern": r"^\d{2,3}\.[a-c]{1,3}-$"},
    {"type": "string", "format": "date"},
    {"anyOf": [{"type": "integer"}, {"type": "object", "additionalProperties": {"type": "null"}}]},
    {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "boolean"}]},
    {"type": "object", "properties": {"a\\\"b": True, "é": {}}, "required": ["a\\\"b", "é"], "title": "T"},
    {},
]  # fmt: skip


@pytest.mark.parametrize("schema", KEPT, ids=lambda schema: json.dumps(schema)[:40])
async def test_what_a_grammar_says_that_it_holds_it_holds(
    schema: dict[str, Any], engine: TokenEngine
) -> None:
    assert held(schema) == "grammar"
    check = jsonschema_rs.validator_for(schema)
    whole = 0
    for seed in range(6):
        got = await reply(
            engine, ask(sampling={**WILD, "seed": seed}, format={"name": "x", "schema": schema})
        )
        assert got.enforced == "grammar"
        if got.finish_reason == "stop":
            whole += 1
            assert check.is_valid(json.loads(got.content)), got.content
    assert whole


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": "integer", "minimum": 3, "multipleOf": 2}, "minimum, multipleOf"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "email"}}}, "format"),
        ({"type": "string", "maxLength": 100_000}, "maxLength"),
        ({"type": "string", "pattern": "abc"}, "pattern"),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, None),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}}, None),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties"),
        ({"anyOf": [{"type": "object", "minProperties": 1}, {"type": "null"}]}, "minProperties"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "number", "maximum": 1}}}, "maximum"),
        ({"type": "string", "minimum": 3}, None),
        ({"type": "string", "description": "x", "default": "y"}, None),
    ],
)  # fmt: skip
def test_what_it_does_not_hold_is_named(schema: dict[str, Any], left: str | None) -> None:
    assert held(schema) == ("grammar" if left is None else f"grammar except {left}")


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "thing"},
    ],
)
async def test_a_schema_without_a_grammar_is_refused(schema: dict[str, Any], engine: TokenEngine) -> None:
    with pytest.raises(UnsupportedError, match="grammar"):
        await reply(engine, ask(sampling=WILD, format={"name": "x", "schema": schema}))
    assert (await reply(engine, ask(sampling={"max_tokens": 2}))).enforced is None


async def test_random_schemas(engine: TokenEngine) -> None:
    dice = random.Random(7)

    def leaf() -> Any:
        return dice.choice([
            {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"enum": ["a", 'b"c', 1, None]}, {"const": "z"},
            {"type": "string", "maxLength": 3}, {"type": ["integer", "null"]}, {"type": "integer", "minimum": 3},
            {"$ref": "#/$defs/name"}, {"type": "string", "pattern": "^[a-c]{2}$"},
        ])  # fmt: skip

    def node(depth: int) -> Any:
        kind = dice.randrange(4) if depth else 3
        if kind == 0:
            names = dice.sample(["a", "name", "b c", "é"], dice.randrange(1, 4))
            inner = {name: node(depth - 1) for name in names}
            return {"type": "object", "properties": inner, "required": names, "additionalProperties": False}
        if kind == 1:
            return {"type": "array", "items": node(depth - 1), "minItems": 1, "maxItems": 2}
        if kind == 2:
            return {"anyOf": [node(depth - 1), node(depth - 1)]}
        return leaf()

    good = 0
    for seed in range(60):
        schema = {**node(2), "$defs": {"name": {"enum": ["u", "v"]}}}
        got = await reply(
            engine, ask(sampling={**WILD, "seed": seed}, format={"name": "x", "schema": schema})
        )
        assert (got.enforced or "").startswith("grammar")
        if got.finish_reason != "stop":
            continue
        wrong = [
            str(error.schema_path[-1])
            for error in jsonschema_rs.validator_for(schema).iter_errors(json.loads(got.content))
        ]
        good += not wrong
        if got.enforced == "grammar":
            assert not wrong, (schema, got.content)
    assert good > 30


def calling(**sampling: Any) -> Request:
    wanted = {"temperature": 1.5, "max_tokens": 120, **sampling}
    other: dict[str, Any] = {"type": "function", "function": {"name": "other", "parameters": {
        "type": "object", "properties": {"kind": {"enum": ["x", "y"]}}, "required": ["kind"]}}}  # fmt: skip
    return ask("Hello, who are you?", tools=(ADD, other), sampling=wanted)


async def test_a_call_can_be_forced(engine: TokenEngine) -> None:
    assert not (await reply(engine, calling(temperature=0))).tool_calls
    for seed in range(4):
        got = await reply(engine, calling(seed=seed, tool_choice="required"))
        if got.finish_reason != "length":
            assert got.tool_calls
            assert got.content == ""
            assert {call.name for call in got.tool_calls} <= {"add", "other"}
    for name in ("add", "other"):
        choice = {"type": "function", "function": {"name": name}}
        got = await reply(engine, calling(seed=1, tool_choice=choice))
        (call,) = got.tool_calls
        assert call.name == name
        assert set(call.parsed()) == ({"a", "b"} if name == "add" else {"kind"})
        if name == "other":
            assert call.parsed()["kind"] in ("x", "y")


async def test_no_call_is_made_where_none_is_wanted(engine: TokenEngine) -> None:
    asked = ask("What is 1 plus 2?", tools=(ADD,), sampling={"temperature": 0, "max_tokens": 60})
    assert (await reply(engine, asked)).tool_calls
    silent = asked._replace(sampling={**asked.sampling, "tool_choice": "none", "token_ids": True})
    got = await reply(engine, silent)
    assert not got.tool_calls
    bare = await reply(engine, silent._replace(tools=()))
    assert got.prompt_token_ids == bare.prompt_token_ids


async def test_a_format_beside_tools_leaves_both(engine: TokenEngine) -> None:
    wanted = {
        "name": "x",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    }
    got = await reply(
        engine, ask("What is 1 plus 2?", tools=(ADD,), format=wanted, sampling={"temperature": 0})
    )
    assert got.tool_calls
    assert got.content == ""
    got = await reply(
        engine, ask("Hello, who are you?", tools=(ADD,), format=wanted, sampling={"temperature": 0})
    )
    assert got.tool_calls or "n" in json.loads(got.content)
    assert got.enforced == "grammar"


@pytest.mark.parametrize(
    "choice", ["always", {"type": "function"}, {"type": "function", "function": {"name": "no"}}]
)
async def test_a_choice_that_means_nothing(choice: Any, engine: TokenEngine) -> None:
    with pytest.raises(BadRequestError, match="tool_choice"):
        await reply(engine, calling(tool_choice=choice))


def test_a_model_with_another_form_of_calls_cannot_be_forced() -> None:
    with pytest.raises(UnsupportedError, match="tool_choice"):
        rules(calling(tool_choice="required"), calls=False, name="tiny.gguf")
