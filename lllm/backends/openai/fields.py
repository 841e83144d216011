"""Reads the fields of an answer, without trusting that a received field exists or has the right type or depth.

There are two kinds of fields:

- The answer itself: `choices`, `message`, `content`, `tool_calls`, `finish_reason` ... A wrong type raises a
ProtocolError that names the field (`wrong`), because a reply without the field would be a wrong reply.
- Metadata: usage, log-probabilities, ids, the model's name. It never fails the reply: unreadable values count as unknown
(`side_text`, `side_object`, `tokens`, `token_ids`; `usage.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

from lllm.core.canonical import encode
from lllm.core.jsonable import unicode_only
from lllm.errors import ProtocolError
from lllm.models.checks import not_json, type_name

DEEPEST_EXTRA: Final = 32
"""Maximum nesting of a provider's own key. Deeper ones are dropped."""


_DIGITS: Final = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_LONG: Final = b"0" * 19
_HIGH: Final = re.compile("[\ud800-\udbff]\\Z")
_LOW: Final = re.compile("[\udc00-\udfff]")


def has_long_number(data: bytes) -> bool:
    """True if there may be an integer beyond 64 bits, which orjson reads as a float. (A pattern takes six times as long.)"""
    return _LONG in data.translate(_DIGITS)


class Unreadable(ValueError):
    """Text that is not JSON."""


def loads(data: bytes, *, edges: bool = True) -> tuple[Any, bool]:
    """Parses the JSON of an answer, and returns whether it was loose: with lone surrogates, which JavaScript gateways
    produce when they cut text, with NaN or Infinity, which Python servers write, or with bytes that are not UTF-8. Lone
    surrogates become U+FFFD; with `edges`, those at the edges of `content` and `arguments` are kept, because the next
    chunk may complete them (see `joined`).

    Raises:
        Unreadable: it is not JSON, or is nested too deeply.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    else:
        if has_long_number(data):
            with suppress(ValueError, RecursionError):
                return json.loads(data), False
        return value, False
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        return _mended(value) if edges else unicode_only(value), True
    except (ValueError, RecursionError):
        raise Unreadable from None


def _mended(value: Any, edges: bool = False) -> Any:
    if isinstance(value, str):
        if not edges:
            return unicode_only(value)
        first = value[:1] if _LOW.match(value) else ""
        last = value[-1:] if _HIGH.search(value, len(first)) else ""
        return first + unicode_only(value[len(first) : len(value) - len(last)]) + last
    if isinstance(value, dict):
        return {
            _mended(key): _mended(item, isinstance(item, str) and key in ("content", "arguments"))
            if key != "arguments" or isinstance(item, str)
            else unicode_only(item)
            for key, item in value.items()
        }
    return [_mended(item) for item in value] if isinstance(value, list) else value


def joined(half: str, text: str) -> tuple[str, str]:
    """Joins a chunk of text to the pending half of a surrogate pair. Returns the text, and the half at its own end."""
    text = half + text
    rest = text[-1:] if _HIGH.search(text) else ""
    return unicode_only(text[: len(text) - len(rest)]), rest


def wrong(field: str, value: Any, due: str) -> ProtocolError:
    """The error for a field of the wrong type."""
    return ProtocolError(f"the answer cannot be read: '{field}' must be {due}, got {type_name(value)}")


# --- the answer itself


def as_object(value: Any, field: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise wrong(field, value, "an object")


def as_list(value: Any, field: str) -> list[Any]:
    """A list; [] for null; a single object counts as a list of it."""
    if isinstance(value, list):
        return value
    if value is None:
        return []
    if isinstance(value, dict):
        return [value] if value else []
    raise wrong(field, value, "a list")


def as_text(value: Any, field: str) -> str:
    """Text; "" for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise wrong(field, value, "text")


def arguments_text(value: Any, field: str) -> str:
    """The arguments of a tool call as text. Some servers send an object; null counts as none."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if (problem := not_json(value)) is not None:
        raise ProtocolError(f"the answer cannot be read: '{field}': {problem}")
    return encode(value).decode()


# --- metadata


def side_text(value: Any) -> str | None:
    """Text; None for everything else and for empty text."""
    return value if isinstance(value, str) and value else None


def side_object(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for everything else."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A finite number unchanged; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if value - value == 0 and abs(value) < 1e300 else None


def token(entry: Any) -> dict[str, Any] | None:
    """The log-probabilities of one token; None if they cannot be read."""
    if not isinstance(entry, dict):
        return None
    text, logprob = entry.get("token"), number(entry.get("logprob"))
    if not isinstance(text, str) or logprob is None:
        return None
    tops = entry.get("top_logprobs")
    top = [
        {"token": item["token"], "logprob": item["logprob"]}
        for item in (tops if isinstance(tops, list) else ())
        if isinstance(item, dict)
        and isinstance(item.get("token"), str)
        and number(item.get("logprob")) is not None
    ]
    return {"token": text, "logprob": logprob, "top": top}


def tokens(value: Any) -> list[dict[str, Any]] | None:
    """The log-probabilities of a list of tokens; None if any of them cannot be read."""
    if not isinstance(value, list):
        return None
    found = [token(entry) for entry in value]
    return None if any(entry is None for entry in found) else found  # type: ignore[return-value]


def token_ids(value: Any) -> list[int] | None:
    """A list of token ids; None for everything else."""
    if isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value):
        return value
    return None


def kept(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of a provider's own keys that are JSON and not nested too deeply."""
    return {key: value for key, value in (extra or {}).items() if not_json(value, DEEPEST_EXTRA) is None}
