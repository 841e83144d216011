"""The keywords of JSON Schema 2020-12 that an import keeps, and what their values must be. All others are left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from lllm.proxies.openapi.problems import Unusable, kind_of, shown

TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")

DEEPEST_VALUE: Final = 20
"""Levels of a default, a constant or an example."""
SCHEMA: Final = frozenset(
    """
    items additionalProperties unevaluatedProperties unevaluatedItems contains propertyNames not if then else
    """.split()
)
"""Their value is a schema."""
SCHEMAS: Final = frozenset("properties patternProperties dependentSchemas".split())
"""Their value is an object of schemas."""
SCHEMA_LISTS: Final = frozenset("allOf anyOf oneOf prefixItems".split())
"""Their value is a list of schemas."""
IN_PLACE: Final = frozenset("allOf anyOf oneOf not if then else dependentSchemas".split())
"""Their schemas judge the same value as the schema that they stand in."""


def _number(value: Any, at: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable(f"{at} must be a number, got {kind_of(value)}")
    return value


def _count(value: Any, at: str) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unusable(f"{at} must be a whole number >= 0, got {kind_of(value)}")
    return value


def _positive(value: Any, at: str) -> Any:
    if _number(value, at) <= 0:
        raise Unusable(f"{at} must be above 0, got {value}")
    return value


def _text(value: Any, at: str) -> Any:
    if not isinstance(value, str):
        raise Unusable(f"{at} must be text, got {kind_of(value)}")
    return value


def _truth(value: Any, at: str) -> Any:
    if not isinstance(value, bool):
        raise Unusable(f"{at} must be true or false, got {kind_of(value)}")
    return value


def is_sendable(value: Any) -> bool:
    """True if a value can be sent, and written as a literal: it has no lone surrogates, and is not nested too deep."""
    if not isinstance(value, str) and _is_deep(value):
        return False
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST_VALUE):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _values(value: Any, at: str) -> Any:
    if not isinstance(value, list) or not value:
        raise Unusable(f"{at} must be a list of values, got {kind_of(value)}")
    found = [one for one in value if is_sendable(one)]
    if not found:
        raise Unusable(
            f"{at} has no value that is valid Unicode and not nested deeper than {DEEPEST_VALUE} levels"
        )
    return found


def names(value: Any, at: str) -> list[str]:
    """A list of texts, each once."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Unusable(f"{at} must be a list of names, got {kind_of(value)}")
    return list(dict.fromkeys(value))


def _name_lists(value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise Unusable(f"{at} must be an object, got {kind_of(value)}")
    return {key: names(item, f"{at}/{key}") for key, item in value.items()}


def types(value: Any, at: str) -> Any:
    """A type, or a list of them."""
    for one in value if isinstance(value, list) else [value]:
        if one not in TYPES:
            raise Unusable(f"{at}: unknown type {shown(one)!r}")
    if isinstance(value, list):
        each = list(dict.fromkeys(value))
        if not each:
            raise Unusable(f"{at} must name a type")
        return each[0] if len(each) == 1 else each
    return value


def _anything(value: Any, at: str) -> Any:
    if not is_sendable(value):
        raise Unusable(f"{at} is not valid Unicode, or nested deeper than {DEEPEST_VALUE} levels")
    return value


PLAIN: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    # keyword: checks its value, and gives what takes its place
    "type": types,
    "enum": _values,
    "const": _anything,
    "format": _text,
    "pattern": _text,
    "default": _anything,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "multipleOf": _positive,
    **dict.fromkeys(
        """
        minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains
        """.split(),
        _count,
    ),
    "uniqueItems": _truth,
    "required": names,
    "dependentRequired": _name_lists,
    "contentEncoding": _text,
    "contentMediaType": _text,
}
