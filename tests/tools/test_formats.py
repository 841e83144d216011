"""Formats: a type or schema as the form of a reply."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

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
    assert made({"name": "f", "schema": schema}).wire() == {"name": "f", "schema": schema, "strict": False}
    assert made({**full, "json_schema": {"schema": schema, "strict": True}}).schema == {
        **schema, "required": ["a"], "additionalProperties": False
    }  # fmt: skip
    assert made(schema, "x").name == "x"
    assert made({**schema, "title": "Titled"}).name == "Titled"
    assert made({"type": "string", "schema": {"type": "integer"}}).load('"x"') == "x"  # not a response format
    with pytest.raises(ConfigError, match="does not describe the reply"):
        Format.of({"type": "json_object"})


@pytest.mark.parametrize(
    "source",
    [
        {"type": "json_schema", "json_schema": 5},
        {"type": "json_schema", "json_schema": {"schema": 5}},
        {"type": "json_schema", "json_schema": {"name": 5, "schema": {}}},
        {"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}},
        {"type": "json_schema"},
        {"name": [], "schema": {}},
    ],
    ids=str,
)
def test_malformed_response_formats(source: Any) -> None:
    with pytest.raises(ConfigError, match="response format has"):
        Format.of(source)


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


# --- the schema as it is given ---------------------------------------------------------------------------------------

A_INTEGER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"$ref": "#/$defs/A", "properties": {"a": {}}, "$defs": {"A": A_INTEGER}}, {"a": 1}, {"a": "no"}),
        ({"$ref": "#/$defs/A", "required": ["b"], "$defs": {"A": A_INTEGER}}, {"a": 1, "b": 2}, {"a": 1}),
        (
            {"$ref": "#/$defs/A", "additionalProperties": False, "$defs": {"A": {"required": ["a"]}}},
            [],
            {"a": 1},
        ),
        (
            {
                "$schema": DRAFT_7,
                "$ref": "#/definitions/A",
                "minimum": 5,
                "definitions": {"A": {"type": "integer"}},
            },
            3,
            "x",
        ),
        ({"$ref": "#/$defs/A", "minimum": 5, "$defs": {"A": {"type": "integer"}}}, 5, 3),
        ({"$schema": DRAFT_7, "format": "ipv4"}, "1.2.3.4", "x"),
        ({"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": False}, [1], [1, 2]),
        ({"$schema": DRAFT_7, "prefixItems": [False]}, [1], None),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
            4,
            3,
        ),
        ({"allOf": [True, {"type": "integer"}]}, 3, "x"),
        ({"$id": "http://x/y", "$ref": "z", "$defs": {"z": {"$id": "z", "type": "integer"}}}, 3, "x"),
    ],
    ids=str,
)
def test_a_reply_is_held_to_the_schema_as_given(schema: Any, right: Any, wrong: Any) -> None:
    format = made(schema)
    for value in (right, {"value": right} if format._wrapped else right):
        assert format.load(json.dumps(value)) == right
    if wrong is not None:
        with pytest.raises(ParseError):
            format.load(json.dumps(wrong))
        with pytest.raises(ParseError):
            format.load(json.dumps({"value": wrong}))


def test_format_is_a_remark_in_new_drafts() -> None:
    assert made({"format": "ipv4"}).load('"x"') == "x"


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"minimum": "3"}}}, r'\$\.properties\.a\.minimum: "3" is not a number'),
        ({"type": "nothing"}, r'\$\.type: "nothing" fits none of the alternatives'),
        ({"allOf": [3]}, r"\$\.allOf\[0\]: 3 is not a boolean or an object"),
        ({"required": "a"}, r'\$\.required: "a" is not an array'),
        ({"$defs": {"a": 3}}, r'\$\["\$defs"\]\.a: 3 is not'),
        ({"$ref": 5}, r'\$\["\$ref"\]: 5 is not a string'),
        ({"pattern": "("}, r"\$\.pattern: "),
        ({"properties": {"a": {"default": float("nan")}}}, r"\$\.properties\.a\.default holds nan"),
        ({"enum": [1, {2}]}, r"\$\.enum\[1\] holds set, which JSON does not have"),
        ({"properties": {3: {}}}, r"\$\.properties holds the key 3"),
        (
            {"$ref": "#/$defs/a"},
            r"\$\[\"\$ref\"\] refers to '#/\$defs/a', which does not exist in the schema",
        ),
        (
            {"items": {"$ref": "#a"}},
            r"\$\.items\[\"\$ref\"\] refers to '#a', which does not exist in the schema",
        ),
        (
            {"not": {"$ref": "http://127.0.0.1:1/x"}},
            r"\$\.not\[\"\$ref\"\] refers to 'http://127.0.0.1:1/x', which is outside",
        ),
        ({"$ref": "file:///etc/passwd"}, "outside the schema"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "not a known draft"),
        ({"$schema": 3}, r"\$schema"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_schema_is_named_by_its_path(schema: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Format.of(schema)


def test_a_deep_schema_is_refused() -> None:
    assert made(deep(120)).load("1") == 1
    for schema in (deep(400), {"anyOf": [deep(100_000)]}):
        with pytest.raises(ConfigError, match="nested more than 128 levels deep"):
            Format.of(schema)


def test_a_schema_within_itself() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema, "b": schema}
    with pytest.raises(ConfigError, match="nested more than 128 levels deep"):
        Format.of(schema)


def test_a_list_of_items_names_the_draft() -> None:
    with pytest.raises(ConfigError, match="items") as caught:
        Format.of({"items": [{}]})
    assert "prefixItems" in str(caught.value)


def test_a_schema_is_not_shared_with_its_author() -> None:
    source: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    format = made(source)
    source["properties"]["a"]["type"] = "string"
    assert format.schema["properties"]["a"] == {"type": "integer"}


def test_matching_twice_is_said() -> None:
    one_of = made({"oneOf": [{"type": "integer"}, {"type": "string"}, {"minimum": 2}]})
    with pytest.raises(ParseError, match=r"\$: 3 matches more than one of oneOf: 0 and 2"):
        one_of.load("3")
    with pytest.raises(ParseError, match=r"\$: 1\.5 fits none of the alternatives"):
        one_of.load("1.5")
    inner = made({"type": "object", "properties": {"a": {"oneOf": [{}, {}, True]}}})
    with pytest.raises(ParseError, match=r"\$\.a: null matches more than one of oneOf: 0, 1 and 2"):
        inner.load('{"a": null}')


def test_alternatives_within_alternatives_are_explained_briefly() -> None:
    node = {
        "anyOf": [
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a"]},
            {"type": "null"},
        ]
    }
    format = made({"$ref": "#/$defs/n", "$defs": {"n": node}})
    value: Any = 3
    for _ in range(40):
        value = {"a": value}
    with pytest.raises(ParseError) as caught:
        format.load(json.dumps(value))
    assert len(str(caught.value)) < 5_000


# --- types -----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    DAY = dt.date(2024, 5, 6)
    PAIR = (1, 2)
    NOTHING = None


class Level(enum.IntEnum):
    LOW = 1


class RedCar(BaseModel):
    kind: Literal[Colour.RED]
    doors: int


class DayCar(BaseModel):
    kind: Literal[Colour.DAY]
    doors: int


class Person(TypedDict):
    name: str
    friends: list[Person]


T = TypeVar("T")


class Pile(TypedDict, Generic[T]):
    top: Annotated[T, Field(description="The upper one.")]
    below: NotRequired[list[Pile[T]]]


@dataclass
class Node:
    value: int
    next: Node | None = None


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (Literal[Colour.RED], Colour.RED),
        (Literal[Colour.RED, "other", 3, True, None], Colour.RED),
        (Literal[Colour.RED, "other", 3, True, None], "other"),
        (Literal[Colour.PAIR], Colour.PAIR),
        (Literal[Level.LOW], Level.LOW),
        (Literal[b"x"], b"x"),
        (Colour, Colour.RED),
        (Colour, Colour.DAY),
        (Colour, Colour.PAIR),
        (Colour, Colour.NOTHING),
        (list[Literal[Colour.RED]], [Colour.RED, Colour.RED]),
        (RedCar, RedCar(kind=Colour.RED, doors=2)),
        (RedCar | DayCar, DayCar(kind=Colour.DAY, doors=2)),
        (list[Annotated[RedCar | DayCar, Field(discriminator="kind")]], [RedCar(kind=Colour.RED, doors=2)]),
        (dict[str, list[RedCar]], {"a": [RedCar(kind=Colour.RED, doors=2)]}),
        (Person, {"name": "a", "friends": [{"name": "b", "friends": []}]}),
        (Node, Node(1, Node(2))),
        (Pile[int], {"top": 1, "below": [{"top": 2}]}),
        (list[Pile[dt.date]], [{"top": dt.date(2024, 5, 6), "below": []}]),
        (Decimal, Decimal("1.10")),
        (uuid.UUID, uuid.UUID(int=1)),
        (dt.datetime, dt.datetime(2024, 5, 6, tzinfo=dt.UTC)),
        (set[int], {1, 2}),
        (dict[int, dt.date], {1: dt.date(2024, 5, 6)}),
        (tuple[int, ...] | None, (1, 2)),
    ],
    ids=str,
)
def test_types_read_what_they_write(source: Any, value: Any) -> None:
    format = made(source)
    dumped = format.dump(value)
    for reply in (dumped, {"value": dumped} if format._wrapped else dumped):
        loaded = format.load(json.dumps(reply))
        assert (loaded, type(loaded)) == (value, type(value))


def test_a_generic_dict_keeps_its_argument() -> None:
    with pytest.raises(ParseError, match=r'\$\.below\[0\]\.top: "x" is not an integer'):
        made(Pile[int]).load('{"top": 1, "below": [{"top": "x"}]}')


def test_a_value_that_is_deep() -> None:
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    for source in (list[int], {"type": "array", "items": {"type": "integer"}}):
        with pytest.raises(ParseError):
            made(source).load(value)
    with pytest.raises(ConfigError, match="cannot be used as a format"):
        Format.of(value)


def test_an_enum_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ParseError, match='"blue" is not one of'):
        made(Colour).load('"blue"')
    with pytest.raises(ParseError, match='"blue" is not "red"'):
        made(RedCar).load('{"kind": "blue", "doors": 1}')


def test_a_member_without_json_is_refused_when_made() -> None:
    with pytest.raises(ConfigError):
        Format.of(enum.Enum("Odd", {"A": object()}))


def test_dump_gives_only_what_loads() -> None:
    with pytest.raises(ParseError):
        made(float).dump(float("inf"))
    with pytest.raises(ParseError):
        made(bytes).dump(b"\xff")


def test_a_made_object_of_another_type() -> None:
    with pytest.raises(ParseError):
        made(list[Item]).load(Item(name="n"))


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_optional_keys_are_not_made_required() -> None:
    class Note(TypedDict):
        text: str
        author: NotRequired[str]

    for source in (Note, {"type": "object", "properties": {"a": {"type": "string"}}}):
        format = made(source)
        assert format.strict is False
        assert set(format.schema.get("required", ())) <= {"text"}
    filled = made(Order)  # of an object with defaults every field has a value
    assert filled.strict is True


def test_a_schema_that_cannot_be_sent_is_validated() -> None:
    schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    format = made(schema)
    assert (format.sent, format.strict) == (False, False)
    assert format.asked() == {"name": "reply", "schema": schema, "strict": False, "sent": False}
    assert format.load('{"type": "object"}') == {"type": "object"}
    with pytest.raises(ParseError):
        format.load('{"type": "nothing"}')
    assert made(format.source) == format
