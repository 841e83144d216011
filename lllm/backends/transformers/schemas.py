"""A JSON schema as a grammar can hold a reply to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

LARGEST: Final = 10**15
_VALUES: Final = ("enum", "const", "default", "examples")  # what stands there is data
_NAMES: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_WIDENING: Final = ("not", "if", "oneOf", "contains")  # what is narrower there may allow more


def bounded(schema: Any) -> Any:
    """Integers without a limit get one, of 15 digits: a small model that has begun to write digits may never stop. What is
    valid against the result is valid against `schema`."""

    def bound(one: dict[str, Any]) -> dict[str, Any]:
        if one.get("type") != "integer" or "enum" in one or "const" in one:
            return one
        out = dict(one)
        if not {"maximum", "exclusiveMaximum"} & one.keys() and _below(one, LARGEST):
            out["maximum"] = LARGEST
        if not {"minimum", "exclusiveMinimum"} & one.keys() and _above(one, -LARGEST):
            out["minimum"] = -LARGEST
        return out

    return _map(schema, bound, skip=_WIDENING)


def without(schema: Any, keywords: Collection[str]) -> Any:
    """The schema without these keywords."""
    return _map(schema, lambda one: {key: value for key, value in one.items() if key not in keywords})


def _below(schema: Mapping[str, Any], limit: int) -> bool:
    return all(schema.get(key, 0) < limit for key in ("minimum", "exclusiveMinimum"))


def _above(schema: Mapping[str, Any], limit: int) -> bool:
    return all(schema.get(key, 0) > limit for key in ("maximum", "exclusiveMaximum"))


def _map(
    schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]], *, skip: Collection[str] = ()
) -> Any:
    """Every schema within a schema, changed; itself first."""
    if isinstance(schema, list | tuple):
        return [_map(one, change, skip=skip) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    out: dict[str, Any] = {}
    for key, value in change(dict(schema)).items():
        if key in _VALUES or key in skip:
            out[key] = value
        elif key in _NAMES and isinstance(value, Mapping):
            out[key] = {name: _map(one, change, skip=skip) for name, one in value.items()}
        else:
            out[key] = _map(value, change, skip=skip)
    return out
