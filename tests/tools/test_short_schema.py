"""Output schemas in short form."""

from typing import Any

import pytest

from lllm import ScriptedBackend, build_agent, load_config
from lllm.errors import ConfigError
from lllm.tools.short_schema import expanded

TEXT, NULL = {"type": "string"}, {"type": "null"}


def closed(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("short", "schema"),
    [
        ({"a": "string", "n": "integer"}, closed(a=TEXT, n={"type": "integer"})),
        ({"a": "string?"}, closed([], a={"anyOf": [TEXT, NULL]})),
        ({"a": ["string"]}, closed(a={"type": "array", "items": TEXT})),
        ({"a": [{"b": "number"}]}, closed(a={"type": "array", "items": closed(b={"type": "number"})})),
        ({"a": "EUR | USD"}, closed(a={"type": "string", "enum": ["EUR", "USD"]})),
        ({"a": "string | number"}, closed(a={"anyOf": [TEXT, {"type": "number"}]})),
        ({"a": "x|y?"}, closed([], a={"anyOf": [{"type": "string", "enum": ["x", "y"]}, NULL]})),
        ({"a": {"type": "string", "maxLength": 3}}, closed(a={"type": "string", "maxLength": 3})),
        ({"title": "string", "description": "string"}, closed(title=TEXT, description=TEXT)),
        ({"type": "string", "name": "string"}, closed(type=TEXT, name=TEXT)),
        ({"items": ["string"]}, closed(items={"type": "array", "items": TEXT})),
    ],
)
def test_a_short_form(short: dict[str, Any], schema: dict[str, Any]) -> None:
    assert expanded(short) == schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string"},
        {"type": ["string", "null"]},
        {"type": "object"},
        {"properties": {"a": {}}},
        {"$ref": "#/$defs/A", "$defs": {"A": TEXT}},
        {"anyOf": [TEXT, NULL]},
        {"enum": ["a"]},
        {"const": 1},
        {"type": "object", "x-mine": 1},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": TEXT}},
        {"name": "a", "schema": TEXT},
    ],
)
def test_a_schema_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert expanded(schema) is schema


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ({"a": "numbr"}, "Did you mean 'number'"),
        ({"a": {"b": "text"}}, "'a.b' has the type 'text'"),
        ({"a": ["string", "number"]}, "'a' has the type"),
        ({"a": []}, "'a' has the type"),
        ({"a": 3}, "'a' has the type 3"),
        ({"a": None}, "'a' has the type None"),
        ({"a": "string | x"}, "'a' has the type"),
        ({"a": "?"}, "'a' has the type ''"),
        ({"properties": "string", "a": "strin"}, "Did you mean 'string'"),
    ],
)
def test_a_type_that_is_not_known(short: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        expanded(short)
    assert words in str(error.value)


def test_in_yaml() -> None:
    text = {
        "model": "scripted",
        "agent_configs": {"a": {"output_schema": {"total": "number", "currency": "EUR | USD"}}},
    }
    replies = ['{"total": 3, "currency": "GBP"}', '{"total": 3, "currency": "USD"}']
    assert build_agent(load_config(text), model=ScriptedBackend(replies))("x") == {
        "total": 3,
        "currency": "USD",
    }
