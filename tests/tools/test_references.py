"""Rewritten schemas: the same valid values, plain references."""

from __future__ import annotations

from typing import Any

import pytest

from lllm.tools.references import Unportable, portable
from lllm.tools.schema import compile_schema, problems

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
INTEGER = {"type": "integer"}
INTEGERS: tuple[list[Any], list[Any]] = ([3], ["x"])


def references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {ref for item in schema for ref in references(item)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*(references(item) for item in schema.values()))


def leads(schema: Any, reference: str) -> bool:
    for step in reference[2:].split("/") if len(reference) > 1 else ():
        schema = schema[step]
    return isinstance(schema, dict | bool)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        # definitions of both names, escapes, places that are no definitions, the root
        ({"$ref": "#/$defs/a", "$defs": {"a": INTEGER}}, *INTEGERS),
        ({"$schema": DRAFT_7, "$ref": "#/definitions/a", "definitions": {"a": INTEGER}}, *INTEGERS),
        ({"allOf": [{"$ref": "#/definitions/a"}], "definitions": {"a": INTEGER}}, *INTEGERS),
        ({"$defs": {"a/b": INTEGER}, "anyOf": [{"$ref": "#/$defs/a~1b"}]}, *INTEGERS),
        ({"$defs": {"a~b": INTEGER}, "anyOf": [{"$ref": "#/$defs/a~0b"}]}, *INTEGERS),
        ({"$defs": {"a%b": INTEGER}, "anyOf": [{"$ref": "#/$defs/a%25b"}]}, *INTEGERS),
        ({"$defs": {'a "b"': INTEGER}, "anyOf": [{"$ref": "#/$defs/a%20%22b%22"}]}, *INTEGERS),
        ({"$defs": {"": {"$defs": {"": INTEGER}}}, "not": {"not": {"$ref": "#/$defs//$defs/"}}}, *INTEGERS),
        ({"$defs": {"a": {"$defs": {"b": INTEGER}}}, "anyOf": [{"$ref": "#/$defs/a/$defs/b"}]}, *INTEGERS),
        ({"anyOf": [{"type": "integer"}], "not": {"not": {"$ref": "#/anyOf/0"}}}, *INTEGERS),
        ({"x-own": {"deep": [INTEGER]}, "allOf": [{"$ref": "#/x-own/deep/0"}]}, *INTEGERS),
        ({"x-own": {"a": {"$ref": "#/x-own/b"}, "b": INTEGER}, "allOf": [{"$ref": "#/x-own/a"}]}, *INTEGERS),
        ({"properties": {"x": INTEGER, "y": {"$ref": "#/properties/x"}}}, [{"y": 3}, 3], [{"y": "x"}]),
        ({"type": "array", "items": {"$ref": "#"}}, [[], [[[]]]], [[3], [[3]]]),
        (
            {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False},
            [{"next": {"next": {}}}],
            [{"next": {"x": 1}}, 3],
        ),
        ({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#"}}}}},
         [{"next": {}}], [3, {"next": 3}]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "object"}}}, [{}], [3]),
        ({"$ref": "#/$defs/yes", "$defs": {"yes": True}}, [3], []),
        ({"$ref": "#/$defs/no", "$defs": {"no": False}}, [], [3]),
        # beside a reference
        ({"$ref": "#/$defs/a", "minimum": 5, "$defs": {"a": INTEGER}}, [5], [3, "x"]),
        ({"$schema": DRAFT_7, "$ref": "#/definitions/a", "minimum": 5, "definitions": {"a": INTEGER}}, *INTEGERS),
        # identities and anchors
        ({"$id": "http://x/root.json", "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": INTEGER}}, *INTEGERS),
        ({"$id": "http://x/root.json", "allOf": [{"$ref": "root.json#/$defs/a"}], "$defs": {"a": INTEGER}}, *INTEGERS),
        ({"allOf": [{"$ref": "http://y/a"}], "$defs": {"a": {"$id": "http://y/a", **INTEGER}}}, *INTEGERS),
        ({"$id": "http://x/dir/", "allOf": [{"$ref": "a"}], "$defs": {"z": {"$id": "a", **INTEGER}}}, *INTEGERS),
        ({"$id": "urn:uuid:1", "allOf": [{"$ref": "urn:uuid:1#/$defs/a"}], "$defs": {"a": INTEGER}}, *INTEGERS),
        ({"allOf": [{"$ref": "#here"}], "$defs": {"a": {"$anchor": "here", **INTEGER}}}, *INTEGERS),
        ({"$schema": DRAFT_7, "allOf": [{"$ref": "#here"}], "definitions": {"a": {"$id": "#here", **INTEGER}}}, *INTEGERS),
        ({"$schema": DRAFT_4, "allOf": [{"$ref": "#here"}], "definitions": {"a": {"id": "#here", **INTEGER}}}, *INTEGERS),
        (  # two resources with definitions of one name
            {
                "$defs": {"a": INTEGER, "inner": {"$id": "http://y/", "$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}},
                "prefixItems": [{"$ref": "#/$defs/a"}, {"$ref": "http://y/"}],
            },
            [[3, "x"]],
            [["x"], [3, 3]],
        ),
        # dynamic references with one target
        ({"$dynamicRef": "#node", "$defs": {"a": {"$dynamicAnchor": "node", **INTEGER}}}, *INTEGERS),
        ({"$dynamicRef": "#/$defs/a", "$defs": {"a": INTEGER}}, *INTEGERS),
        ({"$schema": DRAFT_2019, "type": "array", "items": {"$recursiveRef": "#"}}, [[[]]], [[3]]),
        # what an older draft does not know
        ({"$schema": DRAFT_4, "const": 3, "allOf": [INTEGER]}, [5], ["x"]),
        ({"$schema": DRAFT_7, "prefixItems": [False], "items": [INTEGER]}, [[3]], [["x"]]),
        ({"$schema": DRAFT_4, "minimum": 3, "exclusiveMinimum": True}, [4], [3]),
        ({"properties": {"a": {"$schema": DRAFT_7, **INTEGER}}}, [{"a": 3}], [{"a": "x"}]),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_values_fit(schema: dict[str, Any], right: list[Any], wrong: list[Any]) -> None:
    made = portable(schema, "value")
    validator = compile_schema(made.schema, "made")
    given = compile_schema(schema, "given")
    assert made.schema["type"] == "object"
    for value in [*right, *wrong]:
        fits = not problems(given, value)
        assert fits is (value in right)
        assert (not problems(validator, {"value": value} if made.wrapped else value)) is fits
    for reference in references(made.schema):
        assert leads(made.schema, reference)
        assert reference.count("/") in (0, 2)
    text = str(made.schema)
    assert not any(f"'{word}'" in text for word in ("$id", "$anchor", "$dynamicRef", "$recursiveRef"))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {
            "$id": "http://x/a", "$dynamicRef": "#n", "$dynamicAnchor": "n",
            "$defs": {"b": {"$id": "http://x/b", "$dynamicAnchor": "n", "type": "integer"}},
        },
        {
            "$schema": DRAFT_2019, "$id": "http://x/a", "$recursiveAnchor": True, "items": {"$recursiveRef": "#"},
            "$defs": {"b": {"$id": "http://x/b", "$recursiveAnchor": True}},
        },
        {"properties": {"a": {"$schema": DRAFT_4, "$id": "http://y", "minimum": 3, "exclusiveMinimum": True}}},
        {"enum": [{"$ref": "#/nowhere"}]},
        {"x": {"type": 3}, "$ref": "#/x"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_written(schema: dict[str, Any]) -> None:
    with pytest.raises(Unportable):
        portable(schema, "value")


def test_an_object_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "title": "T",
        "properties": {"a": {"$ref": "#/$defs/A"}, "self": {"$ref": "#"}, "$ref": {"type": "string"}},
        "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]}, "B": {"type": "integer"}},
    }
    assert portable(schema, "value") == (schema, False)


def test_what_nothing_refers_to_is_left_out() -> None:
    schema = {
        "type": "object",
        "$defs": {"a": {"type": "integer"}},
        "x-doc": {"$ref": "#/$defs/a"},
        "x-note": 3,
    }
    assert portable(schema, "value") == ({"type": "object", "x-note": 3}, False)


def test_a_discriminator_keeps_its_targets() -> None:
    schema = {
        "oneOf": [{"$ref": "#/definitions/a b"}],
        "discriminator": {"propertyName": "k", "mapping": {"a": "#/definitions/a b", "c": "#/nowhere"}},
        "definitions": {"a b": {"type": "object"}},
    }
    inner = portable(schema, "value").schema["properties"]["value"]
    assert inner["discriminator"]["mapping"] == {"a": "#/$defs/a_b", "c": "#/nowhere"}
    assert inner["oneOf"] == [{"$ref": "#/$defs/a_b"}]


@pytest.mark.parametrize("beside", ["anyOf", "allOf", "oneOf"])
def test_an_object_with_alternatives_is_wrapped(beside: str) -> None:
    """Providers refuse these beside the type of the outermost object."""
    schema = {"type": "object", beside: [{"required": ["a"]}]}
    assert portable(schema, "value").schema["properties"] == {"value": schema}


def test_a_root_reference_keeps_its_description() -> None:
    schema = {"$ref": "#/$defs/a", "description": "D", "$defs": {"a": {"type": "object", "description": "A"}}}
    assert portable(schema, "value") == ({"type": "object", "description": "D"}, False)
