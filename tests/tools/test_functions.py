"""Signatures as schemas, arguments as Python objects."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    get_type_hints,
)  # fmt: skip
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from lllm.errors import ConfigError, ToolError
from lllm.models.function import Function, ToolContext, tool
from lllm.tools.functions import coerce, function_from, validate_arguments
from lllm.tools.schema import compile_schema, problems


class Colour(enum.Enum):
    """Paint."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float = 0.5
    title: str | None = None
    tags: list[str] = field(default_factory=list)


class Movie(TypedDict, total=False):
    title: Required[str]
    year: int


class Old(TypedDict):
    movie: Movie
    rating: NotRequired[float]


class Pair(NamedTuple):
    name: str
    count: int = 1


class Node(BaseModel):
    """A tree."""

    value: int = Field(ge=0, description="What it holds.")
    kids: list[Node] = []

    @pydantic.field_validator("value")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


UserId = NewType("UserId", int)


# Each takes one parameter; what the model is told about it, the definitions it needs, an argument, and the object that
# the function receives.
def p_str(x: str): ...
def p_int(x: int): ...
def p_float(x: float): ...
def p_bool(x: bool): ...
def p_any(x: Any): ...
def p_bare(x): ...
def p_union(x: int | str): ...
def p_optional(x: Optional[int]): ...  # noqa: UP045 - both spellings
def p_none_default(x: int = None): ...  # noqa: RUF013 - read as nullable
def p_default(x: int = 3): ...
def p_float_default(x: float = math.inf): ...
def p_object_default(x: Any = object()): ...  # noqa: B008
def p_literal(x: Literal["a", 1, None]): ...
def p_enum(x: Colour = Colour.RED): ...
def p_int_enum(x: Level): ...
def p_list(x: list[int]): ...
def p_bare_list(x: list): ...
def p_sequence(x: Sequence[str]): ...
def p_tuple(x: tuple[int, str]): ...
def p_tuple_of(x: tuple[int, ...]): ...
def p_set(x: set[int]): ...
def p_dict(x: dict[str, int]): ...
def p_mapping(x: Mapping[str, list[float]]): ...
def p_bare_dict(x: dict): ...
def p_datetime(x: dt.datetime): ...
def p_date(x: dt.date): ...
def p_decimal(x: Decimal): ...
def p_uuid(x: UUID): ...
def p_path(x: Path): ...
def p_dataclass(x: Point): ...
def p_typed_dict(x: Movie): ...
def p_nested_typed_dict(x: list[Old] | None): ...
def p_named_tuple(x: Pair): ...
def p_model(x: Node): ...
def p_generic(x: Box[int]): ...
def p_new_type(x: UserId): ...
def p_annotated(x: Annotated[int, Field(ge=1, le=9, description="How many.")]): ...
def p_described(x: Annotated[int, "How many."]): ...
def p_field(x: int = Field(4, ge=2, description="Four.")): ...
def p_factory(x: list[int] = Field(default_factory=list)): ...  # noqa: B008
def p_positional(x: int, /): ...
def p_keyword(*, x: int): ...


INT = {"type": "integer"}
POINT = {
    "type": "object",
    "properties": {
        "x": INT,
        "y": {"type": "number", "default": 0.5},
        "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["x"],
    "additionalProperties": False,
}
MOVIE = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": INT},
    "required": ["title"],
    "additionalProperties": False,
}
OLD = {
    "type": "object",
    "properties": {"movie": {"$ref": "#/$defs/Movie"}, "rating": {"type": "number"}},
    "required": ["movie"],
    "additionalProperties": False,
}
NODE = {
    "type": "object",
    "description": "A tree.",
    "properties": {
        "value": {"type": "integer", "minimum": 0, "description": "What it holds."},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "default": []},
    },
    "required": ["value"],
    "additionalProperties": False,
}
BOX = {"type": "object", "properties": {"item": INT}, "required": ["item"], "additionalProperties": False}
COLOUR = {"description": "Paint.", "enum": ["red", "blue"], "type": "string"}
OLDS = {"type": "array", "items": {"$ref": "#/$defs/Old"}}
INT_TEXT = {"type": "array", "prefixItems": [INT, {"type": "string"}], "minItems": 2, "maxItems": 2}
FLOATS = {"type": "array", "items": {"type": "number"}}
NOON = dt.datetime(2024, 5, 6, 12, tzinfo=dt.UTC)
PAIR = {
    "type": "array",
    "prefixItems": [{"type": "string"}, {"type": "integer", "default": 1}],
    "minItems": 1,
    "maxItems": 2,
}

GOLDEN: list[tuple[Callable[..., Any], dict[str, Any], dict[str, Any], Any, Any]] = [
    (p_str, {"type": "string"}, {}, "a", "a"),
    (p_int, INT, {}, 3, 3),
    (p_int, INT, {}, 3.0, 3),
    (p_float, {"type": "number"}, {}, 3, 3.0),
    (p_bool, {"type": "boolean"}, {}, True, True),
    (p_any, {}, {}, [1, {"a": None}], [1, {"a": None}]),
    (p_bare, {}, {}, "a", "a"),
    (p_union, {"anyOf": [INT, {"type": "string"}]}, {}, "3", "3"),
    (p_optional, {"anyOf": [INT, {"type": "null"}]}, {}, None, None),
    (p_none_default, {"anyOf": [INT, {"type": "null"}], "default": None}, {}, None, None),
    (p_default, {"type": "integer", "default": 3}, {}, 4, 4),
    (p_float_default, {"type": "number"}, {}, 1, 1.0),
    (p_object_default, {}, {}, 1, 1),
    (p_literal, {"enum": ["a", 1, None]}, {}, None, None),
    (p_enum, {"$ref": "#/$defs/Colour", "default": "red"}, {"Colour": COLOUR}, "blue", Colour.BLUE),
    (p_int_enum, {"$ref": "#/$defs/Level"}, {"Level": {"enum": [1, 2], "type": "integer"}}, 2, Level.HIGH),
    (p_list, {"type": "array", "items": INT}, {}, [1], [1]),
    (p_bare_list, {"type": "array", "items": {}}, {}, [1, "a"], [1, "a"]),
    (p_sequence, {"type": "array", "items": {"type": "string"}}, {}, ["a"], ["a"]),
    (p_tuple, INT_TEXT, {}, [1, "a"], (1, "a")),
    (p_tuple_of, {"type": "array", "items": INT}, {}, [1, 2], (1, 2)),
    (p_set, {"type": "array", "items": INT, "uniqueItems": True}, {}, [1, 2], {1, 2}),
    (p_dict, {"type": "object", "additionalProperties": INT}, {}, {"a": 1}, {"a": 1}),
    (p_mapping, {"type": "object", "additionalProperties": FLOATS}, {}, {"a": [1]}, {"a": [1.0]}),
    (p_bare_dict, {"type": "object", "additionalProperties": True}, {}, {"a": []}, {"a": []}),
    (p_datetime, {"type": "string", "format": "date-time"}, {}, "2024-05-06T12:00:00Z", NOON),
    (p_date, {"type": "string", "format": "date"}, {}, "2024-05-06", dt.date(2024, 5, 6)),
    (p_uuid, {"type": "string", "format": "uuid"}, {}, str(UUID(int=5)), UUID(int=5)),
    (p_path, {"type": "string", "format": "path"}, {}, "a/b", Path("a/b")),
    (p_dataclass, {"$ref": "#/$defs/Point"}, {"Point": POINT}, {"x": 1, "y": 2}, Point(1, 2.0)),
    (p_typed_dict, {"$ref": "#/$defs/Movie"}, {"Movie": MOVIE}, {"title": "t"}, {"title": "t"}),
    (p_nested_typed_dict, {"anyOf": [OLDS, {"type": "null"}]}, {"Movie": MOVIE, "Old": OLD},
        [{"movie": {"title": "t"}, "rating": 1}], [{"movie": {"title": "t"}, "rating": 1.0}]),
    (p_named_tuple, {"$ref": "#/$defs/Pair"}, {"Pair": PAIR}, ["a"], Pair("a", 1)),
    (p_model, {"$ref": "#/$defs/Node"}, {"Node": NODE}, {"value": 2, "kids": [{"value": 4}]},
        Node(value=2, kids=[Node(value=4)])),
    (p_generic, {"$ref": "#/$defs/Box_int_"}, {"Box_int_": BOX}, {"item": 1}, Box[int](item=1)),
    (p_new_type, INT, {}, 1, 1),
    (p_annotated, {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."}, {}, 9, 9),
    (p_described, {"type": "integer", "description": "How many."}, {}, 9, 9),
    (p_field, {"type": "integer", "minimum": 2, "description": "Four.", "default": 4}, {}, 5, 5),
    (p_factory, {"type": "array", "items": INT}, {}, [5], [5]),
    (p_positional, INT, {}, 1, 1),
    (p_keyword, INT, {}, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case[0].__name__)
def test_golden(case: tuple[Callable[..., Any], dict[str, Any], dict[str, Any], Any, Any]) -> None:
    function, schema, definitions, argument, expected = case
    made = function_from(function)
    wanted: dict[str, Any] = {"type": "object", "properties": {"x": schema}, "additionalProperties": False}
    if inspect.signature(function).parameters["x"].default is inspect.Parameter.empty:
        wanted["required"] = ["x"]
    if definitions:
        wanted["$defs"] = definitions
    assert made.parameters == wanted
    assert json.loads(json.dumps(made.spec())) == made.spec()

    # annotations as text and as objects mean the same
    function.__annotations__ = get_type_hints(function, include_extras=True)
    assert function_from(function).schema_hash == made.schema_hash

    assert validate_arguments(made, {"x": argument}) == []
    typed = coerce(made, {"x": argument})
    assert typed == {"x": expected}
    assert type(typed["x"]) is type(expected)


def test_decimal_is_number_or_text() -> None:
    made = function_from(p_decimal)
    assert coerce(made, {"x": "1.50"}) == {"x": Decimal("1.50")}
    assert coerce(made, {"x": 2}) == {"x": Decimal(2)}


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (p_int, "3"),
        (p_int, True),
        (p_int, 3.5),
        (p_int, None),
        (p_float, "3"),
        (p_float, False),
        (p_bool, 1),
        (p_bool, "true"),
        (p_str, 3),
        (p_union, 3.5),
        (p_literal, "b"),
        (p_enum, "RED"),
        (p_list, "1"),
        (p_list, [1, "2"]),
        (p_tuple, [1]),
        (p_datetime, 0),
        (p_datetime, "yesterday"),
        (p_date, "2024-13-01"),
        (p_uuid, "x"),
        (p_dataclass, {"x": 1, "z": 2}),
        (p_typed_dict, {"year": 1}),
        (p_model, {"value": 3}),
        (p_model, {"value": -2}),
        (p_annotated, 0),
    ],
)
def test_strictness(function: Callable[..., Any], argument: Any) -> None:
    made = function_from(function)
    assert len(made.validate({"x": argument})) == 1
    with pytest.raises(ToolError, match=f"the arguments of '{made.name}' do not fit"):
        made.coerce({"x": argument})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"s": {"type": "string"}, "i": {"type": "integer"}, "b": {"type": "boolean"}}},
        {"properties": {"s": {"type": "string", "minLength": 2}, "i": {"type": "integer"}}},
        {"properties": {"s": {"type": ["string", "null"]}, "i": True}, "required": ["i"]},
        {"properties": {"s": {"type": "number"}}, "required": ["s"], "additionalProperties": False},
        {"properties": {"s": {"type": "string"}}, "minProperties": 2},
        {"properties": {"s": {"type": "string"}}, "patternProperties": {"s": {"type": "integer"}}},
        {"properties": {"s": {"type": "string", "title": "S"}}, "required": ["s", "z"]},
        {"required": ["s"]},
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [{}]
    + [{"s": value} for value in ("", "ab", "\ud800", 1, 2.0, True, None, [], float("nan"))]
    + [{"i": value, "s": "ab"} for value in (0, -3, 10**30, 5.0, 5.5, True, "1", None)]
    + [{"b": value} for value in (True, False, 0, "true")]
    + [{"s": "ab", "z": 1}, {"z": None}],
)
def test_a_schema_alone_is_checked_as_its_validator_does(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    whole = {"type": "object", **schema}
    made = Function("bare", parameters=whole)
    assert made.validate(arguments) == problems(
        compile_schema(whole, "bare"), arguments, schema.get("properties", ())
    )


def test_every_problem_at_once_with_its_path() -> None:
    def order(
        point: Point, items: list[Movie], count: int, mode: Literal["a", "b"], either: int | list[int] = 1
    ): ...

    made = function_from(order)
    wrong = {
        "point": {"x": "1", "colour": "red"},
        "items": [{"title": "t"}, {"year": "1999"}],
        "mode": "c",
        "either": [1, "2"],
        "cuont": 3,
    }
    assert sorted(made.validate(wrong)) == sorted([
        '$.point.x: "1" is not an integer',
        '$.point: unknown key "colour"',
        '$.items[1].year: "1999" is not an integer',
        '$.items[1]: missing "title"',
        '$.mode: "c" is not one of "a", "b"',
        '$.either: [1, "2"] fits none of the alternatives '
        '($.either[1]: "2" is not an integer; or $.either: [1, "2"] is not an integer)',
        '$: missing "count"',
        '$: unknown key "cuont"; did you mean "count"?',
    ])  # fmt: skip


def test_problems_that_only_python_sees() -> None:
    def f(nodes: dict[str, Node], when: dt.date): ...

    found = function_from(f).validate(
        {"nodes": {"a b": {"value": 2, "kids": [{"value": 3}]}}, "when": "2024-02-30"}
    )
    assert found[0] == '$.nodes["a b"].kids[0].value: Value error, must be even'
    assert found[1].startswith("$.when: ")
    assert len(found) == 2


def test_long_values_are_cut() -> None:
    (problem,) = function_from(p_int).validate({"x": "y" * 10_000})
    assert len(problem) < 200


def test_many_problems_are_capped() -> None:
    hostile = {f"{'k' * 1000}{index}": index for index in range(1000)}
    found = simple.validate(hostile)
    assert len(found) == 51
    assert found[-1] == "$: and more"
    assert all(len(problem) < 200 for problem in found)


def test_keys_that_are_not_json() -> None:
    assert len(function_from(p_any).validate({3: 4})) == 1  # type: ignore[dict-item]


def test_no_parameters() -> None:
    def now() -> int:
        return 3

    made = function_from(now)
    assert made.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert made.invoke({}) == 3
    assert made.validate({"x": 1}) == ['$: unknown key "x"']


def test_parameters_may_have_any_name() -> None:
    def f(
        schema: int,
        json: int,
        copy: int,
        model_config: int,
        self_: int,
        title: int,
        _x: int,
        properties: int = 1,
    ): ...

    made = function_from(f)
    names = ["schema", "json", "copy", "model_config", "self_", "title", "_x", "properties"]
    assert list(made.parameters["properties"]) == names
    assert coerce(made, dict.fromkeys(names, 1)) == dict.fromkeys(names, 1)


# --- what cannot be a tool -------------------------------------------------------------------------------------------


def test_stars_are_refused() -> None:
    def some(*args: int): ...
    def more(a: int, **kwargs: Any): ...

    with pytest.raises(ConfigError, match=r"tool 'some': \*args has no JSON schema"):
        function_from(some)
    with pytest.raises(ConfigError, match=r"tool 'more': \*\*kwargs has no JSON schema"):
        function_from(more)


class Opaque:
    pass


def test_types_without_json_are_refused() -> None:
    def f(a: int, b: Opaque): ...
    def g(a: Callable[[], int]): ...
    def h(a: Missing): ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigError, match="tool 'f', parameter 'b'"):
        function_from(f)
    with pytest.raises(ConfigError, match="tool 'g'"):
        function_from(g)
    with pytest.raises(
        ConfigError, match="tool 'h': an annotation cannot be read: name 'Missing' is not defined"
    ):
        function_from(h)


def test_nameless_and_unreadable() -> None:
    with pytest.raises(ConfigError, match="a lambda has no name"):
        function_from(lambda x: x)
    assert function_from(lambda x: x, name="same").name == "same"
    with pytest.raises(ConfigError, match="Python does not know its signature"):
        function_from(type)
    with pytest.raises(ConfigError, match="a classmethod is not a tool"):
        function_from(classmethod(lambda cls: 1), name="c")  # type: ignore[arg-type]


# --- kinds of callables ----------------------------------------------------------------------------------------------


class Desk:
    """A desk."""

    def __init__(self, drawers: int = 1) -> None:
        self.drawers = drawers

    def open(self, drawer: int) -> str:
        """Opens a drawer."""
        return f"{drawer} of {self.drawers}"

    def __call__(self, paper: str) -> str:
        """Writes on it."""
        return paper.upper()


def test_methods_objects_and_classes() -> None:
    made = function_from(Desk(3).open)
    assert (made.name, made.description, made.invoke({"drawer": 1})) == ("open", "Opens a drawer.", "1 of 3")
    made = function_from(Desk())
    assert (made.name, made.description, made.invoke({"paper": "x"})) == ("Desk", "Writes on it.", "X")
    made = function_from(Desk)
    assert made.invoke({"drawers": 2}).drawers == 2


def test_partial_hides_what_it_binds() -> None:
    def fetch(url: str, limit: int, key: str = "none") -> str:
        """Fetches."""
        return f"{url} {limit} {key}"

    made = function_from(functools.partial(functools.partial(fetch, key="secret"), "u"))
    assert (made.name, made.description) == ("fetch", "Fetches.")
    assert list(made.parameters["properties"]) == ["limit"]
    assert "secret" not in json.dumps(made.spec())
    assert made.invoke({"limit": 3}) == "u 3 secret"
    assert made.validate({"limit": 3, "key": "stolen"}) == ['$: unknown key "key"']


def test_a_wrapped_function_keeps_its_signature() -> None:
    def log(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    @log
    def twice(x: int) -> int:
        return 2 * x

    made = function_from(twice)
    assert made.parameters["properties"] == {"x": INT}
    assert made.invoke({"x": 2}) == 4


async def test_async_functions() -> None:
    @tool
    async def later(x: int) -> int:
        return x + 1

    assert await later.invoke({"x": 1}) == 2


def test_annotations_written_as_text_may_name_local_types() -> None:
    @dataclass
    class Local:
        n: int

    @tool
    def f(x: list[Local]) -> int:
        return sum(item.n for item in x)

    assert f.invoke({"x": [{"n": 1}, {"n": 2}]}) == 3


def test_positional_only_parameters_keep_their_places() -> None:
    def f(a: int, b: int = 2, c: int = 3, /, d: int = 4, *, e: int = 5) -> tuple[int, ...]:
        return a, b, c, d, e

    made = function_from(f)
    assert made.invoke({"a": 1}) == (1, 2, 3, 4, 5)
    assert made.invoke({"c": 9, "a": 1, "e": 8}) == (1, 2, 9, 4, 8)


def test_defaults_are_pythons_own() -> None:
    marker = object()

    def f(
        x: Any = marker,
        y: int = Field(7, ge=1),
        z: list[int] = Field(default_factory=list),  # noqa: B008
    ) -> tuple[Any, ...]:
        return x, y, z

    assert function_from(f).invoke({}) == (marker, 7, [])
    assert function_from(f).invoke({"y": 1}) == (marker, 1, [])
    assert function_from(f).validate({"y": 0}) != []


# --- context ---------------------------------------------------------------------------------------------------------


def test_context_is_injected_and_hidden() -> None:
    def f(x: int, context, *, more: ToolContext | None = None, told: ToolContext) -> Any:
        return x, context, more, told

    made = function_from(f)
    assert list(made.parameters["properties"]) == ["x"]
    given = ToolContext(session="s", call="c", tool_call_id="t", idempotency_key="k", deadline=1.0)
    assert made.invoke({"x": 1}, given) == (1, given, given, given)
    assert made.invoke({"x": 1}) == (1, ToolContext(), ToolContext(), ToolContext())
    assert made.validate({"x": 1, "context": {}}) == ['$: unknown key "context"']


def test_an_annotated_context_is_the_models() -> None:
    def f(question: str, context: str) -> str:
        return context

    assert function_from(f).parameters["required"] == ["question", "context"]


# --- docstrings ------------------------------------------------------------------------------------------------------


def google(city: str, days: int = 3, *, units: str = "C"):
    """Forecasts the weather.

    Uses {braces} and more
    than one line.

    Args:
        city (str): The city,
            with its country.
        days: How many: at most 7.
        units (str, optional): C or F.

    Returns:
        The forecast.

    Raises:
        ValueError: never.
    """


def numpy(city: str, days: int = 3, *, units: str = "C"):
    """Forecasts the weather.

    Uses {braces} and more
    than one line.

    Parameters
    ----------
    city : str
        The city,
        with its country.
    days : int, optional
        How many: at most 7.
    units : {"C", "F"}
        C or F.

    Returns
    -------
    str
        The forecast.
    """


def rest(city: str, days: int = 3, *, units: str = "C"):
    """Forecasts the weather.

    Uses {braces} and more
    than one line.

    :param city: The city,
        with its country.
    :type city: str
    :param int days: How many: at most 7.
    :param units: C or F.
    :returns: The forecast.
    :raises ValueError: never.
    """


@pytest.mark.parametrize("function", [google, numpy, rest], ids=lambda f: f.__name__)
def test_docstring_styles_say_the_same(function: Callable[..., Any]) -> None:
    made = function_from(function)
    assert made.description == (
        "Forecasts the weather.\n\nUses {braces} and more\nthan one line.\n\nReturns: The forecast."
    )
    assert {name: part["description"] for name, part in made.parameters["properties"].items()} == {
        "city": "The city, with its country.",
        "days": "How many: at most 7.",
        "units": "C or F.",
    }


def test_a_docstring_that_begins_with_a_section() -> None:
    def google(x: int, y: int):
        """
        Args:
            x: how many
            y: how much,
                in all
        """

    def flush(x: int, y: int):
        """Args:
            x: how many
            y: how much,
                in all

        Returns:
            int: The sum.
        """

    def rest(x: int, y: int):
        """
        :param x: how many
        :param y: how much,
            in all
        """

    def numpy(x: int, y: int):
        """
        Parameters
        ----------
        x : int
            how many
        y : int
            how much,
            in all
        """

    for function in (google, flush, rest, numpy):
        made = function_from(function)
        texts = {name: part["description"] for name, part in made.parameters["properties"].items()}
        assert texts == {"x": "how many", "y": "how much, in all"}, function.__name__
    assert [function_from(f).description for f in (google, flush)] == ["", "Returns: The sum."]


def test_the_model_reads_what_a_tool_returns() -> None:
    def only(x: int):
        """Returns:
        The sum.
        """

    def yields(x: int):
        """Counts.

        Yields:
            Each number.
        """

    def typed(x: int):
        """Counts.

        Returns
        -------
        int
        """

    def several(x: int):
        """Divides.

        Returns
        -------
        int
            The quotient.
        int
            The rest.
        """

    assert [function_from(f).description for f in (only, yields, typed, several)] == [
        "Returns:\nThe sum.",
        "Counts.\n\nYields: Each number.",
        "Counts.\n\nReturns: int",
        "Divides.\n\nReturns: The quotient.\nReturns: The rest.",
    ]


def test_a_docstring_without_sections() -> None:
    def f(x: int):
        """One line: with a colon.

        - a list
        - of things
        """

    assert function_from(f).description == "One line: with a colon.\n\n- a list\n- of things"
    assert function_from(p_int).description == ""
    assert "description" not in function_from(p_int).spec()["function"]


def test_a_described_type_wins_over_the_docstring() -> None:
    def f(x: Annotated[int, "type"], y: int):
        """F.

        Args:
            x: doc
            y: doc
        """

    properties = function_from(f).parameters["properties"]
    assert (properties["x"]["description"], properties["y"]["description"]) == ("type", "doc")


# --- strict ----------------------------------------------------------------------------------------------------------


def test_strict_requires_everything() -> None:
    def f(x: int = 1, y: Point | None = None, z: Annotated[str, Field(min_length=2)] = "ab"): ...

    made = function_from(f, strict=True)
    assert made.spec()["function"]["strict"] is True
    assert made.parameters == {
        "type": "object",
        "properties": {
            "x": INT,
            "y": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
            "z": {"type": "string"},
        },
        "required": ["x", "y", "z"],
        "additionalProperties": False,
        "$defs": {
            "Point": {
                "type": "object",
                "properties": {
                    "x": INT,
                    "y": {"type": "number"},
                    "title": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["x", "y", "title", "tags"],
                "additionalProperties": False,
            }
        },
    }
    for loose in (p_bare, p_dict, p_tuple, p_bare_list):
        with pytest.raises(ConfigError, match="cannot be a strict schema"):
            function_from(loose, strict=True)


# --- properties ------------------------------------------------------------------------------------------------------


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=5,
)


@tool
def simple(a: int, b: float = 1.0, c: str = "", d: bool = False):
    """All plain."""


@given(st.dictionaries(st.sampled_from("abcde"), JSON))
def test_the_fast_way_says_what_the_schema_says(arguments: dict[str, Any]) -> None:
    schema = simple.parameters
    slow = problems(compile_schema(schema, "simple"), arguments, schema["properties"])
    assert simple.validate(arguments) == slow == Function("simple", parameters=schema).validate(arguments)
    if not simple.validate(arguments):
        typed = simple.coerce(arguments)
        assert typed == arguments
        assert {key: type(value) for key, value in typed.items()} == {
            key: {"a": int, "b": float, "c": str, "d": bool}[key] for key in arguments
        }


@tool
def rich(
    a: int | list[int] = 1,
    b: Point | None = None,
    c: dict[str, Colour] | None = None,
    d: Node | str = "",
    e: Any = None,
):
    """Not plain."""


@given(st.dictionaries(st.sampled_from("abcdef"), JSON))
def test_any_arguments_give_problems_or_objects(arguments: dict[str, Any]) -> None:
    problems = rich.validate(arguments)
    if problems:
        assert all(problem.startswith("$") for problem in problems)
        with pytest.raises(ToolError):
            rich.coerce(arguments)
    else:
        assert rich.coerce(arguments).keys() == arguments.keys()
