"""Strict mode: only where it says the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from lllm.tools.formats import Format
from lllm.tools.schema import compile_schema, problems
from lllm.tools.strict import strict

INTEGER = {"type": "integer"}


def thing(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        **more,
    }


A, B = thing({"a": INTEGER}), thing({"b": INTEGER})


@pytest.mark.parametrize(
    ("schema", "reply"),
    [
        # a key that may be missing, or that is not listed
        (thing({"a": INTEGER}, []), {}),
        (thing({"a": INTEGER, "b": INTEGER}, ["a"]), {"a": 1}),
        (thing({"a": INTEGER}, ["a", "b"]), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, minProperties=2), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, additionalProperties={"type": "string"}), {"a": 1, "b": "x"}),
        (thing({"a": INTEGER}, additionalProperties=True), {"a": 1, "b": "x"}),
        (thing({}), {"x": 1}),
        ({"type": "object"}, {"x": 1}),
        (thing({"a": {"type": ["object", "null"]}}), {"a": {"x": 1}}),
        ({"properties": {"a": INTEGER}, "required": ["a"]}, 3),
        # what is closed would shut out what stands beside it
        (thing({"a": INTEGER}, allOf=[B]), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, anyOf=[B, thing({"c": INTEGER})]), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, oneOf=[B]), {"a": 1, "b": 2}),
        (thing({"x": thing({"a": INTEGER}, allOf=[B])}), {"x": {"a": 1, "b": 2}}),
        (thing({"x": {"$ref": "#/$defs/A", **B}}, **{"$defs": {"A": A}}), {"x": {"a": 1, "b": 2}}),
        (thing({"x": {"allOf": [A], "required": ["b"]}}), {"x": {"a": 1, "b": 2}}),
        (thing({"x": {"allOf": [A, B]}}), {"x": {"a": 1, "b": 2}}),
        (thing({"a": INTEGER}, patternProperties={"^b": INTEGER}), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, **{"if": {}, "then": B}), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, dependentSchemas={"a": B}), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, dependentRequired={"a": ["b"]}), {"a": 1, "b": 2}),
        (thing({"a": INTEGER}, propertyNames={"maxLength": 1}), {"a": 1}),
        (thing({"a": INTEGER}, links=[{"rel": "self"}]), {"a": 1, "links": []}),
        # alternatives that overlap
        (thing({"x": {"oneOf": [A, thing({"a": INTEGER, "b": INTEGER})]}}), {"x": {"a": 1}}),
        (thing({"x": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}), {"x": 1.5}),
        # true, false, and schemas that say nothing
        (thing({"a": True}), {"a": 1}),
        (thing({"a": INTEGER, "b": False}, ["a"]), {"a": 1}),
        (thing({"a": {}}), {"a": 1}),
        (thing({"a": {"type": "array"}}), {"a": [1]}),
        (thing({"a": {"type": "array", "items": True}}), {"a": [1]}),
        (thing({"a": {"type": ["array", "null"]}}), {"a": [1]}),
        (thing({"a": {"anyOf": [True, INTEGER]}}), {"a": "x"}),
        (thing({"a": {"allOf": [True]}}), {"a": "x"}),
        (thing({"a": {"items": INTEGER}}), {"a": "x"}),
        (thing({"a": {"type": "array", "prefixItems": [INTEGER]}}), {"a": [1, "x"]}),
        (thing({"a": {"not": INTEGER}}), {"a": "x"}),
        (thing({"a": {"$ref": "#/$defs/yes"}}, **{"$defs": {"yes": True}}), {"a": "x"}),
    ],
    ids=str,
)
def test_no_valid_reply_is_excluded(schema: dict[str, Any], reply: Any) -> None:
    assert strict(schema) is None
    format = Format.of(schema)
    assert format is not None
    assert (format.sent, format.strict) == (True, False)
    assert format.load(reply) == reply
    sent = {"value": reply} if format._wrapped else reply
    assert not problems(compile_schema(format.schema, "sent"), sent)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (A, {**A, "additionalProperties": False}),
        (thing({}, additionalProperties=False), thing({}, additionalProperties=False)),
        (thing({"a": {"type": "string", "minLength": 3, "format": "uri", "pattern": "(?=a)"}}), {"type": "string"}),
        (thing({"a": {"type": "string", "format": "uuid", "nullable": True, "x-order": 3}}),
         {"type": "string", "format": "uuid"}),
        (thing({"a": {"allOf": [INTEGER], "description": "D", "default": 3}}), {**INTEGER, "description": "D"}),
        (thing({"a": {"oneOf": [{"type": "string"}, {"type": "null"}]}}),
         {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (thing({"a": {"oneOf": [{"const": 1}, {"enum": [2, "1"]}]}}), {"anyOf": [{"const": 1}, {"enum": [2, "1"]}]}),
        (thing({"a": {"$ref": "#/definitions/I", "description": "D"}}, definitions={"I": INTEGER}),
         {"$ref": "#/$defs/I"}),
        (thing({"a": {"type": "number", "minimum": 3, "exclusiveMinimum": True}}),
         {"type": "number", "exclusiveMinimum": 3}),
        (thing({"a": {"type": ["object", "null"], **{k: A[k] for k in ("properties", "required")}}}),
         {**A, "type": ["object", "null"], "additionalProperties": False}),
    ],
    ids=str,
)  # fmt: skip
def test_what_says_the_same(schema: dict[str, Any], expected: Any) -> None:
    made = strict(schema)
    assert made is not None
    if "a" in schema["properties"] and schema is not A:
        assert made["properties"]["a"] == expected
    else:
        assert made == expected


def test_a_property_that_may_be_missing_is_filled_where_that_is_asked() -> None:
    assert strict(thing({"a": INTEGER}, []), fill=True) == thing({"a": INTEGER}, additionalProperties=False)


def test_a_schema_that_demands_itself() -> None:
    """With every property required, no finite reply would fit."""
    node = thing({"next": {"$ref": "#/$defs/N"}}, [])
    assert strict({**thing({"n": {"$ref": "#/$defs/N"}}), "$defs": {"N": node}}, fill=True) is None
    assert strict(thing({"self": {"$ref": "#"}}, []), fill=True) is None
    some = thing({"kids": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}}, [])
    assert strict(some, fill=True) is None
    for way in (
        {"type": "array", "items": {"$ref": "#"}},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    ):
        assert strict(thing({"self": way}, []), fill=True) is not None

    @dataclass
    class Endless:
        next: Endless = None  # type: ignore[assignment]

    Endless.__annotations__["next"] = Endless
    format = Format.of(Endless)
    assert format is not None
    assert not format.strict


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = "rex"


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


def test_a_tag_with_a_default_is_strict() -> None:
    format = Format.of(Owner)
    assert format is not None
    assert format.strict
    assert format.schema["$defs"]["Dog"]["required"] == ["kind", "name"]
    assert format.load({"pet": {"name": "x", "kind": "dog"}}) == Owner(pet=Dog(name="x"))


@pytest.mark.parametrize(
    "schema",
    [
        thing({f"p{number}": INTEGER for number in range(5001)}),
        thing({"a": {"enum": list(range(1001))}}),
        thing({"a": {"enum": [f"{number:060}" for number in range(251)]}}),
        thing({"a": {"enum": ["x" * 120_001]}}),
    ],
    ids=["properties", "values", "listed text", "text"],
)
def test_larger_than_providers_take(schema: dict[str, Any]) -> None:
    assert strict(schema) is None


def test_as_deep_as_providers_take() -> None:
    schema = INTEGER
    for _ in range(10):
        schema = thing({"a": schema})
    assert strict(schema) is not None
    assert strict(thing({"a": schema})) is None
