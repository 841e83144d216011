"""Reads JSON as the standard has it: finite numbers, and each key once in an object. Python's reader takes the last of two."""

from __future__ import annotations

import json
import math
from typing import Any


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError: it is no JSON, has NaN, a number that is too large, or a key twice. RecursionError: nested too deep.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_float, object_pairs_hook=_unique)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a value of JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} stands twice in one object")
            seen.add(key)
    return found
