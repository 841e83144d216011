"""Checks the content of messages: JSON that a log can hold and a provider accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NOT_LOGGED: Final = {"logged": False}
"""Metadata of a dataclass field that `lllm.core.jsonable` leaves out: what a log has elsewhere, or a measurement, which differs
in a replay."""

DEEPEST: Final = 100
"""Levels of lists and objects allowed in one JSON value. Deeper values are refused: reading them may exhaust the
stack."""

_NAMES: Final[dict[type, str]] = {
    str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", tuple: "a list",
    dict: "an object", type(None): "null",
}  # fmt: skip


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def type_name(value: Any) -> str:
    """Name of a value's JSON type; of its Python type if JSON has none."""
    return _NAMES.get(type(value), type(value).__name__)


def not_json(value: Any, deepest: int = DEEPEST) -> str | None:
    """Says why a value is not JSON: `'a.b' is bytes`, `it is nested more than 100 levels deep`. None if it is JSON."""
    if (wrong := _not_json(value, deepest)) is None:
        return None
    words, path = wrong
    return words.replace(_WHERE, f"'{'.'.join(reversed(path))}'" if path else "it", 1)


def _not_json(value: Any, left: int) -> tuple[str, list[str]] | None:
    """The words with a mark for the place, and the place from within outwards: nothing is made for a value that is JSON. A
    reply has thousands of small values, which are passed over without a call for each."""
    kind = value.__class__
    is_object = kind is dict
    if not is_object and kind is not list:  # a look at other classes is slow
        if kind in _EXACT or isinstance(value, str | int):
            return None
        if isinstance(value, float):
            return None if value - value == 0.0 else (f"{_WHERE} is {value}, which is not a JSON number", [])
        is_object = isinstance(value, Mapping)
        if not is_object and not isinstance(value, list | tuple):
            return f"{_WHERE} is {type(value).__name__}", []
    if left <= 0:
        return "it is nested too deeply", []
    for key, item in value.items() if is_object else enumerate(value, 1):
        if is_object and key.__class__ is not str and not isinstance(key, str):
            return f"a key of {_WHERE} is {type(key).__name__}", []
        kind = item.__class__
        if kind in _EXACT or (kind is float and item - item == 0.0):
            continue
        if (wrong := _not_json(item, left - 1)) is not None:
            wrong[1].append(str(key)[:40])
            return wrong
    return None


_EXACT: Final = frozenset((str, int, bool, type(None)))
_WHERE: Final = "\0"


def deeper(value: Any, deepest: int = DEEPEST) -> bool:
    """True if lists and objects are nested more than `deepest` levels deep. Works level by level, so that no depth
    exhausts the stack."""
    level = [value]
    for _ in range(deepest):
        inner: list[Any] = []
        for item in level:
            kind = item.__class__
            if kind is dict:
                item = item.values()
            elif kind is not list and kind is not tuple:  # a look at abstract classes is slow: it comes last
                if isinstance(item, Mapping):
                    item = item.values()
                elif not isinstance(item, list | tuple):
                    continue
            inner += [one for one in item if one.__class__ not in _SCALARS]
        if not inner:
            return False
        level = inner
    return any(isinstance(item, Mapping | list | tuple) for item in level)
