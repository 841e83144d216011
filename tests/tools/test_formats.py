"""Formats: a type or schema as the form of a reply."""

from __future__ import annotations

import datetime as dt
import enum
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lllm.core.canonical import encode
from lllm.errors import ConfigError, ParseError
from lllm.tools.formats import Format


class Kind(enum.Enum):
    A = "a"


class Item(BaseModel):
    """One thing."""

    model_config = ConfigDict(title="Renamed")

    name: str = Field(min_length=1, description="Its name.")
    price: float = 1.0
    kind: Kind = Kind.A
    day: dt.date | None = None


@dataclass
class Order:
    items: list[Item]
    note: str = ""


class Movie(TypedDict):
    title: str
    year: int


class Tree(BaseModel):
    value: int
    kids: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Pair(NamedTuple):
    a: int
    b: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def made(source: Any, name: str | None = None) -> Format:
    format = Format.of(source, name)
    assert format is not None
    return format


def test_nothing_is_nothing() -> None:
    assert Format.of(None) is None
    one = made(Movie)
    assert Format.of(one) is one


def test_a_model_in_strict_form() -> None:
    assert made(Order).wire() == {
        "name": "Order",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
                "note": {"type": "string"},
            },
            "required": ["items", "note"],
            "additionalProperties": False,
            "$defs": {
                "Item": {
                    "type": "object",
                    "description": "One thing.",
                    "properties": {
                        "name": {"type": "string", "description": "Its name."},
                        "price": {"type": "number"},
                        "kind": {"$ref": "#/$defs/Kind"},
                        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                    },
                    "required": ["name", "price", "kind", "day"],
                    "additionalProperties": False,
                },
                "Kind": {"type": "string", "enum": ["a"]},
            },
        },
    }


@pytest.mark.parametrize(
    ("source", "value", "expected", "strict"),
    [
        (Item, {"name": "n"}, Item(name="n"), True),
        (Order, {"items": [{"name": "n", "price": 2}]}, Order([Item(name="n", price=2.0)]), True),
        (Movie, {"title": "t", "year": 1999}, {"title": "t", "year": 1999}, True),
        (Tree, {"value": 1, "kids": [{"value": 2}]}, Tree(value=1, kids=[Tree(value=2)]), True),
        (list[Item], [{"name": "n"}], [Item(name="n")], True),
        (int, 3, 3, True),
        (float, 3, 3.0, True),
        (str, "x", "x", True),
        (Kind, "a", Kind.A, True),
        (Literal["yes", "no"], "yes", "yes", True),
        (int | None, None, None, True),
        (Cat | Dog, {"kind": "dog", "name": "n"}, Dog(kind="dog", name="n"), True),
        (Pet, {"kind": "cat", "lives": 9}, Cat(kind="cat", lives=9), True),
        (dt.date, "2024-05-06", dt.date(2024, 5, 6), True),
        (dict[str, int], {"a": 1}, {"a": 1}, False),
        (tuple[int, str], [1, "a"], (1, "a"), False),
        (Pair, [1, "a"], Pair(1, "a"), False),
        (dict, {"a": 1}, {"a": 1}, False),
        (Any, [1], [1], False),
        (
            {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            {"x": 1},
            {"x": 1},
            True,
        ),
        ({"type": "array", "items": {"type": "integer"}}, [1], [1], True),
        ({"type": "object"}, {"a": 1}, {"a": 1}, False),
        ({"type": "object", "properties": {"a": {"not": {}}}}, {}, {}, False),
    ],
    ids=str,
)
def test_load_and_dump(source: Any, value: Any, expected: Any, strict: bool) -> None:
    format = made(source)
    assert format.strict is strict
    assert format.schema["type"] == "object"
    text = json.dumps(value)
    loaded = format.load(text)
    assert loaded == expected
    assert type(loaded) is type(expected)
    if format._wrapped:
        assert set(format.schema["properties"]) == {"value"}
        assert format.load(f'{{"value": {text}}}') == expected
    assert format.load(f"```json\n{text}\n```") == expected
    dumped = format.dump(loaded)
    encode(dumped)
    assert format.load(json.dumps(dumped)) == expected
    if not isinstance(dumped, str):
        assert format.load(dumped) == expected


def test_a_prepared_object_passes() -> None:
    item = Item(name="n")
    assert made(Item).load(item) is item


def test_strict_form_is_what_providers_take() -> None:
    class Odd(BaseModel):
        value: Annotated[str, Field(max_length=3)] = "d"
        amount: Decimal = Decimal(0)
        url: Annotated[str, Field(json_schema_extra={"format": "uri"})]
        pet: Pet
        title: int

    schema = made(Odd).schema
    assert made(Odd).strict
    assert schema["properties"]["value"] == {"type": "string"}
    assert schema["properties"]["url"] == {"type": "string"}
    assert schema["properties"]["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert schema["properties"]["amount"] == {"anyOf": [{"type": "number"}, {"type": "string"}]}
    assert schema["required"] == ["value", "amount", "url", "pet", "title"]
    # what is not told to the provider is still checked by us
    with pytest.raises(ParseError) as caught:
        made(Odd).load({"value": "long", "url": "u", "pet": {"kind": "cat", "lives": 1}, "title": 1})
    assert caught.value.errors[0].startswith("$.value: ")


def test_all_problems_at_once() -> None:
    with pytest.raises(ParseError) as caught:
        made(Order).load('{"items": [{"name": "", "price": "2"}, {"nme": "x"}, 3], "note": true}')
    assert sorted(caught.value.errors) == [
        '$.items[0].name: "" is shorter than 1 character',
        '$.items[0].price: "2" is not a number',
        '$.items[1]: missing "name"',
        '$.items[1]: unknown key "nme"',
        "$.items[2]: 3 is not an object",
        "$.note: true is not a string",
    ]


def test_text_that_is_not_json() -> None:
    with pytest.raises(ParseError, match=r"not valid JSON: .* at line 1 column 9"):
        made(Movie).load('{"title"; 3}')


def test_response_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    full = {"type": "json_schema", "json_schema": {"name": "my form", "schema": schema, "strict": False}}
    assert made(full).wire() == {"name": "my_form", "schema": schema, "strict": False}
    assert made({"name": "f", "schema": schema}).strict is True
    assert made(schema, "x").name == "x"
    assert made({**schema, "title": "Titled"}).name == "Titled"
    with pytest.raises(ConfigError, match="says nothing of the reply's form"):
        Format.of({"type": "json_object"})


@pytest.mark.parametrize(
    "source",
    [
        3,
        "name",
        [int],
        pytest.param(object(), id="object"),
        {"type": "nothing"},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/missing"}}},
        {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:1/x"}}},
        {"type": "object", "properties": 3},
        {"minimum": "3"},
        type("Opaque", (), {}),
        list[type("Opaque", (), {})],  # type: ignore[misc]
    ],
    ids=str,
)
def test_what_is_not_a_format(source: Any) -> None:
    with pytest.raises(ConfigError):
        Format.of(source)


def test_dump_checks() -> None:
    with pytest.raises(ParseError):
        made(Movie).dump(3)
    with pytest.raises(ParseError, match=r"\$\.x: 1 is not a string"):
        made({"type": "object", "properties": {"x": {"type": "string"}}}).dump({"x": 1})


def test_identity() -> None:
    assert made(Movie) == made(Movie)
    assert hash(made(Movie)) == hash(made(Movie))
    assert made(Movie).schema_hash != made(Order).schema_hash
