"""What a tool's return value looks like to a model."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.errors import ToolError
from lllm.models.render import render_result
from lllm.models.reply import Reply


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: Any = None
    secret: str = field(default="s", repr=False)


class Model(pydantic.BaseModel):
    at: dt.date
    n: int = 3


class Array:
    def tolist(self) -> list[float]:
        return [1.0, 2.5]


class Told:
    def __str__(self) -> str:
        return "told"


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (2**70, str(2**70)),
        (1.0, "1.0"),
        (float("nan"), "NaN"),
        ([float("-inf")], '["-Infinity"]'),
        (Decimal("1.50"), "1.50"),
        ({"b": 1, "a": [None, "é"]}, '{"b":1,"a":[null,"é"]}'),
        (OrderedDict(z=1, a=2), '{"z":1,"a":2}'),
        ({1: "a", None: "b", Colour.RED: "c", (1, 2): "d"}, '{"1":"a","null":"b","red":"c","[1,2]":"d"}'),
        ((1, 2), "[1,2]"),
        ({"b", "a", 1, 2}, '[1,2,"a","b"]'),
        (frozenset(), "[]"),
        (range(3), "[0,1,2]"),
        (Colour.RED, "red"),
        ([Colour.RED, Level.LOW], '["red",1]'),
        (Point(1, Point(2)), '{"x":1,"y":{"x":2,"y":null}}'),
        (Pair(1, 2), '{"a":1,"b":2}'),
        (Model(at=dt.date(2024, 5, 6)), '{"at":"2024-05-06","n":3}'),
        (dt.datetime(2024, 5, 6, tzinfo=dt.UTC), "2024-05-06T00:00:00+00:00"),
        ([dt.time(1, 2)], '["01:02:00"]'),
        (dt.timedelta(seconds=90), "0:01:30"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (b"text", "text"),
        (Array(), "[1.0,2.5]"),
        (Told(), "told"),
        ([Told()], '["told"]'),
        (ValueError("why"), "why"),
        (Reply("content", thinking="hidden"), "content"),
        ("\ud800x", "\ufffdx"),
        (["\udcff"], '["\ufffd"]'),
    ],
)
def test_rendered(value: Any, text: str) -> None:
    assert render_result(value) == text
    render_result(value).encode()


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.recursive(SCALARS, lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_json_is_kept(value: Any) -> None:
    text = render_result(value)
    assert text == value if isinstance(value, str) else json.loads(text) == value


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), "returned a object, which has no text of its own"),
        ([lambda: 1], "no text of its own"),
        ((i for i in range(3)), "gives its items only once"),
        (map(str, [1]), "gives its items only once"),
        (b"\xff\xfe", "binary data"),
        (Point, "returned the class Point"),
        (Broken(), "cannot be shown: RuntimeError: no"),
    ],
)
def test_refused(value: Any, error: str) -> None:
    with pytest.raises(ToolError, match=error):
        render_result(value)


def test_a_value_that_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ToolError, match="contains itself"):
        render_result(loop)
