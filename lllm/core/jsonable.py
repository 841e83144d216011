"""Any Python value as JSON, for the log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Final

from lllm.core.canonical import digest

_ADDRESS: Final = re.compile(
    r" at 0x[0-9A-Fa-f]+"
)  # different in every process: a replay would stumble over it


DEEPEST: Final = 200
"""Levels of nesting that are kept. A deeper value is shown as text; an event, which contains it, may be a few levels
deeper."""

_SCALARS: Final = frozenset((str, int, bool, type(None)))
_TEXT_OR_INT: Final = (str, int)

LONGEST: Final = 500
"""Characters kept of the text of a value that has no JSON form."""


def unicode_only(value: Any) -> Any:
    """JSON whose texts can be written as UTF-8: halves of surrogate pairs (undecodable file names, broken escapes)
    become U+FFFD."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, Mapping):
        return {unicode_only(key): unicode_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [unicode_only(item) for item in value]
    return value


def jsonable(value: Any) -> Any:
    """Converts a value to JSON: dataclasses (without their fields that are NOT_LOGGED) and pydantic models to objects, enums to
    their values, sets to sorted lists, decimals and dates to text. A value that has no JSON form (or contains itself, or is
    nested more than DEEPEST deep) becomes `{"$repr": ...}` without memory addresses; a text of more than 500 characters is
    cut to the first 500 and the sha256 of all."""
    try:
        return bounded(value, DEEPEST)
    except RecursionError:
        return unshown(value)


def bounded(value: Any, deepest: int) -> Any:
    """`jsonable` for a value nested at most `deepest` deep. Raises RecursionError for a deeper one."""
    kind = value.__class__
    if kind in _SCALARS:
        return value
    if kind is not dict and kind is not list and kind is not tuple:  # the slow looks come last
        if isinstance(value, _TEXT_OR_INT) and not isinstance(value, Enum):
            return value
        if isinstance(value, float):
            return value if value - value == 0.0 else {"$repr": repr(value)}
    deepest -= 1
    if deepest < 0:
        raise RecursionError
    if kind is list or kind is tuple:
        return [item if item.__class__ in _SCALARS else bounded(item, deepest) for item in value]
    if kind is dict or isinstance(value, Mapping):
        left_out = () if kind is dict else _unlogged(kind)
        return {
            key if isinstance(key, str) else str(bounded(key, deepest)): item
            if item.__class__ in _SCALARS
            else bounded(item, deepest)
            for key, item in value.items()
            if not left_out or key not in left_out
        }
    if isinstance(value, Enum):
        return bounded(value.value, deepest)
    if isinstance(value, Decimal):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: bounded(getattr(value, item.name), deepest)
            for item in fields(value)
            if not item.name.startswith("_") and item.name not in _unlogged(kind)
        }
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return bounded(dump(mode="json"), deepest)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [bounded(item, deepest) for item in value]
    if isinstance(value, Set):
        return sorted((bounded(item, deepest) for item in value), key=repr)
    if callable(iso := getattr(value, "isoformat", None)) and not isinstance(value, type):
        return iso()
    return unshown(value)


@cache
def _unlogged(kind: type) -> frozenset[str]:
    """The fields of a class that have NOT_LOGGED."""
    if not is_dataclass(kind):
        return frozenset()
    return frozenset(item.name for item in fields(kind) if not item.metadata.get("logged", True))


def unshown(value: Any) -> dict[str, str]:
    """`{"$repr": ...}` for a value that cannot be written as JSON."""
    try:
        text = repr(value)
    except Exception:  # anybody's code; a value that cannot even be shown is no reason to lose the rest
        text = f"<{type(value).__name__}>"
    text = _ADDRESS.sub("", text)
    if len(text) <= LONGEST:
        return {"$repr": text}
    # the digest also covers the part that is cut off
    return {"$repr": text[:LONGEST], "sha256": digest(text.encode("utf-8", "surrogatepass"))[7:]}


def same_record(recorded: Any, present: Any) -> bool:
    """True if a recorded value equals the present one; logs before 0.2 cut long texts without a digest."""
    if isinstance(recorded, Mapping) and isinstance(present, Mapping):
        if recorded.keys() == {"$repr"} and present.keys() == {"$repr", "sha256"}:
            return bool(recorded["$repr"] == present["$repr"])
        return recorded.keys() == present.keys() and all(
            same_record(item, present[key]) for key, item in recorded.items()
        )
    if isinstance(recorded, list | tuple) and isinstance(present, list | tuple):
        return len(recorded) == len(present) and all(map(same_record, recorded, present))
    return bool(recorded == present) and type(recorded) is type(present)
