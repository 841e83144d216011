"""Values of the outside world as JSON: what is written quickly is what is written carefully, and reads as the value again."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lllm.core.canonical import encode, encode_plain
from lllm.recorded_value import NotQuick, pack, pack_quickly, unpack

texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(["$tuple", "$dict", "é", "\ud800"])
keys = st.text(max_size=4) | st.sampled_from(
    ["a", "b", "Z", "$tuple", "$float", "$dict", "\ue000", "\U00010000"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.integers(-(10**30), 10**30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(values)
@example({"b": 1, "a": 2.0})
@example({"$float": "1.0"})
@example({"$dict": {}})
@example({"$tuple": []})
@example([1e-5, 9.99e-6, 1e-6, 1e15, 999999999999999.9, -0.0, 12.5])
@example([2**63, 2**64, -(2**63) - 1])
@example({"\ue000": 1, "\U00010000": 2})
@example("\ud800")
@example(float("nan"))
def test_written_quickly_as_carefully(value: Any) -> None:
    try:
        careful: Any = pack(value)
    except TypeError:
        with pytest.raises((NotQuick, TypeError, ValueError)):
            encode_plain(pack_quickly(value))
        return
    with suppress(NotQuick, TypeError):
        quick = pack_quickly(value)
        assert quick == careful
        assert encode_plain({"n": 1, "value": quick}) == encode({"n": 1, "value": careful})
        assert unpack(quick) == value


class Text(str):
    """A subclass of a type of JSON."""


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {"a": (1,)},
        b"x",
        {1: 2},
        {"a": {"b": object()}},
        Text("x"),
        [Text("x")],
        {"a": {1}},
        1e-9,
    ],
)
def test_what_takes_a_closer_look_is_not_written_quickly(value: Any) -> None:
    with pytest.raises((NotQuick, TypeError)):
        pack_quickly(value)


def test_depth_takes_a_closer_look() -> None:
    value: Any = 0
    for _ in range(49):
        value = {"b": value, "a": 0}
    assert encode_plain(pack_quickly(value)) == encode(pack(value))
    for _ in range(5):
        value = [value]
    with pytest.raises(NotQuick):
        pack_quickly(value)


def test_what_is_packed_quickly_is_a_copy() -> None:
    value = {"a": {"b": [1]}}
    packed = pack_quickly(value)
    value["a"]["b"].append(2)
    assert packed == {"a": {"b": [1]}}
