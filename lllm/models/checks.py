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
    return _not_json(value, (), deepest)


def _not_json(value: Any, path: tuple[str, ...], left: int) -> str | None:
    if value is None or isinstance(value, str | bool | int):
        return None
    where = f"'{'.'.join(path)}'" if path else "it"
    if isinstance(value, float):
        return None if value - value == 0.0 else f"{where} is {value}, which is not a JSON number"
    if not isinstance(value, Mapping | list | tuple):
        return f"{where} is {type(value).__name__}"
    if left <= 0:
        return "it is nested too deeply"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"a key of {where} is {type(key).__name__}"
            if (found := _not_json(item, (*path, key[:40]), left - 1)) is not None:
                return found
        return None
    for number, item in enumerate(value, 1):
        if (found := _not_json(item, (*path, str(number)), left - 1)) is not None:
            return found
    return None


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
