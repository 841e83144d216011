"""Canonical JSON (RFC 8785) and its digest: the one encoding of everything that is hashed or logged.

Two values that are equal as JSON have the same bytes. Departures from the RFC, both documented in
`docs/reference/log-format.md`: integers keep all their digits (the RFC rounds above 2**53), and a float
that is not finite is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

from lllm.models.checks import deeper

_text: Final = (
    json.encoder.encode_basestring
)  # a string as `json.dumps(..., ensure_ascii=False)` writes it, far quicker
_SORTED: Final = orjson.OPT_SORT_KEYS

# orjson reads integers beyond 64 bits as floats, without a word
_LONG: Final = re.compile(rb"[0-9]{19}")
_LONG_STR: Final = re.compile(r"[0-9]{19}")


DEEPEST: Final = 250
"""How many lists and objects may stand within each other, in what is hashed, written to a log, or read from one. What walks
through JSON may recurse that far."""


class TooDeep(ValueError):
    """Lists and objects are nested more than DEEPEST deep."""


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value (dict with str keys, list, tuple, str, int, float, bool, None).

    Raises:
        TypeError: the value, or a part of it, is not JSON.
        ValueError: a float is NaN or infinite, a string is not valid Unicode, or lists and objects are nested more than
            DEEPEST deep.
    """
    try:
        data = orjson.dumps(value, option=_SORTED)
    except TypeError:
        return _slow(value)  # an integer beyond 64 bits, half of a surrogate pair, or the better error
    try:
        # no key has other characters where the whole has none
        if _exact(value, DEEPEST) if data.isascii() else _plain(value, DEEPEST):
            return data
        return orjson.dumps(_with_numbers(value, DEEPEST), option=_SORTED)
    except (
        RecursionError,
        _NotPlain,
    ):  # the caller's own stack is deep, or the value has more than odd floats
        return _slow(value)


def encode_texts(value: Any) -> bytes:
    """`encode` of a shallow value whose keys are ASCII and that holds texts and nulls alone: nothing in it needs a look."""
    try:
        return orjson.dumps(value, option=_SORTED)
    except TypeError:
        return _slow(value)  # half of a surrogate pair


def encode_plain(value: Any) -> bytes:
    """`encode` of a value in which nothing needs a look: not deep, with ASCII keys, and with floats that have a fraction and
    are neither tiny nor huge."""
    try:
        return orjson.dumps(value, option=_SORTED)
    except TypeError:
        return _slow(value)  # an integer beyond 64 bits, or half of a surrogate pair


def is_plain_float(value: float) -> bool:
    """Whether a float of `encode_plain` is written as ECMAScript does."""
    return 1e-5 <= abs(value) < 1e15 and not value.is_integer()


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """The value of JSON text. Integers of any size survive.

    Raises ValueError for what `encode` could not write again: NaN, infinities, halves of surrogate pairs, lists and objects
    that are nested more than DEEPEST deep."""
    text = data if isinstance(data, str) else bytes(data)
    try:
        value = orjson.loads(text)
        if _is_plain(value):
            return value
        if deeper(value, DEEPEST):
            raise TooDeep(_TOO_DEEP)
        if (_LONG_STR.search(text) if isinstance(text, str) else _LONG.search(text)) is None:
            return value
    except orjson.JSONDecodeError:
        pass  # the standard library says better what is wrong
    try:
        value = json.loads(text)
    except RecursionError:
        raise TooDeep(_TOO_DEEP) from None
    encode(value)
    return value


def digest(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Digest of a value's canonical bytes."""
    return digest(encode(value))


# orjson writes canonical bytes unless there is a float that ECMAScript writes differently (1.0, 1e16) or a key whose UTF-16
# order is not its UTF-8 order, and reads exactly unless there is an integer beyond 64 bits, which it takes for a float.
# Looking at the values is far cheaper than looking at the bytes, where most of an event is prose.
_SCALARS: Final = frozenset({str, int, bool, type(None)})


def _plain(value: Any, left: int) -> bool:
    """Whether orjson's bytes for this value are canonical, and a value that it read is exact; and it is not too deep."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        for key, item in value.items():
            if not key.isascii() or (type(item) not in _SCALARS and not _plain(item, left - 1)):
                return False
        return left > 0
    if kind is list or kind is tuple:
        for item in value:
            if type(item) not in _SCALARS and not _plain(item, left - 1):
                return False
        return left > 0
    return kind is float and is_plain_float(value)


def _exact(value: Any, left: int) -> bool:
    """`_plain` of a value whose keys are ASCII."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in _SCALARS or (kind is float and is_plain_float(value))
    for item in value:
        if type(item) not in _SCALARS and not _exact(item, left - 1):
            return False
    return left > 0


class _NotPlain(Exception):
    """A value has something beside floats that orjson writes differently."""


def _with_numbers(value: Any, left: int) -> Any:
    """The value with ECMAScript's text for each float that orjson writes differently: log-probabilities are often tiny, and
    one of them would make a long reply slow to write. Raises _NotPlain, and ValueError for NaN."""
    kind = type(value)
    if kind is dict:
        if left <= 0 or not all(map(str.isascii, value)):
            raise _NotPlain
        return {
            key: item if type(item) in _SCALARS else _with_numbers(item, left - 1)
            for key, item in value.items()
        }
    if kind is list or kind is tuple:
        if left <= 0:
            raise _NotPlain
        return [item if type(item) in _SCALARS else _with_numbers(item, left - 1) for item in value]
    if kind is float:
        return value if is_plain_float(value) else orjson.Fragment(number(value))
    if kind in _SCALARS:
        return value
    raise _NotPlain


def _is_plain(value: Any) -> bool:
    try:
        return _plain(value, DEEPEST)
    except RecursionError:
        return False


_TOO_DEEP: Final = f"JSON is nested too deeply: more than {DEEPEST} lists and objects within each other"


_Parts = Iterator[tuple[str, Any]]


def _slow(value: Any) -> bytes:
    """The bytes, written part by part with a stack of our own: no depth exhausts that of Python."""
    out: list[str] = []
    write = out.append
    stack: list[tuple[_Parts, str]] = [(iter((("", value),)), "")]
    while stack:
        parts, end = stack[-1]
        for before, item in parts:
            write(before)
            text = _scalar(item)
            if text is None:
                if len(stack) > DEEPEST:
                    raise TooDeep(_TOO_DEEP)
                stack.append(_opened(item, write))
                break
            write(text)
        else:
            write(end)
            stack.pop()
    return "".join(out).encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError


def _scalar(value: Any) -> str | None:
    """The text of what holds no other values; None for what does."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    return number(value) if isinstance(value, float) else None


def _opened(value: Any, write: Callable[[str], None]) -> tuple[_Parts, str]:
    """Begins an object or a list: its values, each with what stands before it, and its end."""
    if isinstance(value, Mapping):
        write("{")
        keys = enumerate(sorted(value, key=_utf16))
        return ((f"{',' if n else ''}{_text(key)}:", value[key]) for n, key in keys), "}"
    if isinstance(value, list | tuple):
        write("[")
        return (("," if n else "", item) for n, item in enumerate(value)), "]"
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"keys must be str, not {type(key).__name__}")
    return key.encode("utf-16-be", "surrogatepass")


def number(value: float) -> str:
    """A float as ECMAScript's Number::toString writes it (RFC 8785, section 3.2.2.3)."""
    if value - value != 0.0:
        raise ValueError("a float is not finite: JSON has no NaN and no infinity")
    if value == 0.0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(text)
    point = len(text) + exponent  # where the decimal point stands, counted from the first digit
    if len(text) <= point <= 21:
        text += "0" * (point - len(text))
    elif 0 < point <= 21:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        text = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"-{text}" if sign else text
