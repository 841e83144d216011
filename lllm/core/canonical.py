"""Canonical JSON (RFC 8785) and its digest: the one encoding of everything that is hashed or logged.

Two values that are equal as JSON have the same bytes. Departures from the RFC, both documented in
`docs/reference/log-format.md`: integers keep all their digits (the RFC rounds above 2**53), and a float
that is not finite is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

_SORTED: Final = orjson.OPT_SORT_KEYS

# orjson reads integers beyond 64 bits as floats, without a word
_LONG: Final = re.compile(rb"[0-9]{19}")
_LONG_STR: Final = re.compile(r"[0-9]{19}")


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value (dict with str keys, list, tuple, str, int, float, bool, None).

    Raises:
        TypeError: the value, or a part of it, is not JSON.
        ValueError: a float is NaN or infinite, a string is not valid Unicode, or lists and objects are nested so deeply that
            the stack ends.
    """
    try:
        try:
            data = orjson.dumps(value, option=_SORTED)
        except TypeError:
            return _slow(value)  # an integer beyond 64 bits, half of a surrogate pair, or the better error
        return data if _plain(value) else _slow(value)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """The value of JSON text. Integers of any size survive.

    Raises ValueError for what `encode` could not write again: NaN, infinities, halves of surrogate pairs, text that is
    nested too deeply to be read."""
    text = data if isinstance(data, str) else bytes(data)
    try:
        value = orjson.loads(text)
        if _plain(value) or (_LONG_STR.search(text) if isinstance(text, str) else _LONG.search(text)) is None:
            return value
    except orjson.JSONDecodeError:
        pass  # the standard library says better what is wrong
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    try:
        value = json.loads(text)
        encode(value)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
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


def _plain(value: Any) -> bool:
    """Whether orjson's bytes for this value are canonical, and a value that it read is exact."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        for key, item in value.items():  # noqa: SIM110  a loop is quicker than `all` of a generator
            if not key.isascii() or (type(item) not in _SCALARS and not _plain(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) in _SCALARS or _plain(item) for item in value)
    if kind is float:
        return 1e-3 <= abs(value) < 1e15 and not value.is_integer()
    return False


def _slow(value: Any) -> bytes:
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError


def _write(value: Any, out: list[str]) -> None:
    if value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, str):
        out.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        out.append(int.__repr__(value))
    elif isinstance(value, float):
        out.append(number(value))
    elif isinstance(value, Mapping):
        out.append("{")
        for index, key in enumerate(sorted(value, key=_utf16)):
            if index:
                out.append(",")
            out.append(json.dumps(key, ensure_ascii=False))
            out.append(":")
            _write(value[key], out)
        out.append("}")
    elif isinstance(value, list | tuple):
        out.append("[")
        for index, item in enumerate(value):
            if index:
                out.append(",")
            _write(item, out)
        out.append("]")
    else:
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
