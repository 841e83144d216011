"""Canonical JSON: the vectors of RFC 8785, and that both of its implementations here agree."""

import json
import math
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core import canonical
from lllm.core.canonical import decode, digest, digest_of, encode, number

# RFC 8785, appendix B: the bits of a double and its text
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_of_the_rfc(bits: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert number(value) == NUMBERS[bits]
    assert encode([value]) == f"[{NUMBERS[bits]}]".encode()


def test_the_example_of_the_rfc() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert encode(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16() -> None:
    keys = ["€", "\r", "\ufb33", "1", "😀", "\x80", "ö"]
    assert list(json.loads(encode(dict.fromkeys(keys, 0)))) == ["\r", "1", "\x80", "ö", "€", "😀", "\ufb33"]


@pytest.mark.parametrize("exponent", range(-12, 23))
def test_floats_of_every_size_are_written_as_ecmascript_does(exponent: int) -> None:
    chance = random.Random(exponent)
    values = [chance.choice((-1, 1)) * chance.uniform(1, 10) * 10.0**exponent for _ in range(300)]
    values += [round(one, 3 - exponent) for one in values] + [10.0**exponent, 0.0, -0.0]
    for value in values:
        assert encode(value).decode() == canonical.number(value)
    assert encode({"all": values}) == canonical._slow({"all": values})


def test_tiny_and_whole_floats_do_not_make_a_reply_slow_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = {
        "logprobs": [
            {"token": "\u00e9", "id": 3, "logprob": value, "top": ()} for value in (-0.25, -3e-6, 0.0, -1e-9)
        ]
    }
    wanted = canonical._slow(reply)

    def slow(value: object) -> bytes:
        raise AssertionError(value)

    monkeypatch.setattr(canonical, "_slow", slow)
    assert encode(reply) == wanted


class Text(str):
    """A subclass of a type of JSON."""


@pytest.mark.parametrize(
    "value",
    [[1.0, Text("x")], [1.0, {"\ue000": 1, "\U00010000": 2}], {"a": 2.0, "b": [[Text("y")]]}, [1.0, 10**25]],
)
def test_whole_floats_beside_what_needs_a_closer_look(value: object) -> None:
    assert encode(value) == canonical._slow(value)


@given(VALUES)
def test_the_quick_way_and_the_exact_way_agree(value: Any) -> None:
    assert encode(value) == canonical._slow(value)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    data = encode(value)
    assert encode(decode(data)) == data
    assert encode(decode(data.decode())) == data
    assert json.loads(data) == decode(data)


@given(st.integers() | st.integers(2**63 - 2, 2**65) | st.integers(-(2**65), -(2**63) + 2))
def test_integers_keep_all_their_digits(value: int) -> None:
    assert encode(value) == str(value).encode()
    assert decode(str(value)) == value
    assert type(decode(str(value))) is int
    assert decode(encode({"n": [value, "text 12345678901234567890"]}))["n"][0] == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_value(value: float) -> None:
    assert float(number(value)) == value


@given(VALUES, VALUES)
def test_equal_values_have_equal_bytes(one: Any, other: Any) -> None:
    if encode(one) == encode(other):
        assert digest_of(one) == digest_of(other)
    else:
        assert digest_of(one) != digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1, "b": 2}, {"b": 2, "a": 1}), (1, 1.0), (0.0, -0.0), ([1, 2], (1, 2)), (1e3, 1000), ({}, {})],
)
def test_the_same_json(one: Any, other: Any) -> None:
    assert encode(one) == encode(other)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}, [None, {"a": [math.nan]}]]
)
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(ValueError):
        encode(value)


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {None: 1}, b"x", {1, 2}, [0.5, object()], {"a": 1.5, 2: 3}]
)
def test_what_is_no_json(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":NaN}',
        "Infinity",
        "-Infinity",
        "1e400",
        '"\\ud800"',
        '{"\\udc00":1}',
        "[" * 100_000,
        "[",
        "",
        "{'a':1}",
        "1" * 5000,
        "[1,]",
    ],
    ids=lambda text: text[:12],
)
def test_what_cannot_be_read(text: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(ValueError):
            decode(data)


def test_bytes_of_any_kind_can_be_read() -> None:
    for data in (b'{"a":1}', bytearray(b'{"a":1}'), memoryview(b'{"a":1}'), '{"a":1}'):
        assert decode(data) == {"a": 1}


def test_digest() -> None:
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_of({}) == digest(b"{}")
