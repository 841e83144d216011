"""Output schemas in short form, for YAML: names with types.

output_schema:
  total: number
  currency: EUR | USD          # one of these texts
  items: [{name: string, price: number}]
  note: string?                # may be left out, or null
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lllm.errors import ConfigError, listing, nearest

TYPES: Final = ("string", "integer", "number", "boolean")
_JSON_TYPES: Final = (*TYPES, "object", "array", "null")
_KEYWORDS: Final = frozenset(
    (
        "$schema $id $ref $defs $comment $anchor $dynamicRef $dynamicAnchor definitions type enum const properties required "
        "additionalProperties patternProperties propertyNames minProperties maxProperties dependentRequired dependentSchemas "
        "items prefixItems contains minItems maxItems uniqueItems minContains maxContains minimum maximum exclusiveMinimum "
        "exclusiveMaximum multipleOf minLength maxLength pattern format allOf anyOf oneOf not if then else title description "
        "default examples deprecated readOnly writeOnly nullable discriminator unevaluatedProperties unevaluatedItems"
    ).split()
)


def expanded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema that a mapping means: itself where it is one (or the `response_format` of a request), else that of its
    short form.

    Raises:
        ConfigError: a type that is not known.
    """
    if is_schema(value) or (_KEYWORDS.issuperset(value) and value.get("type", "string") not in TYPES):
        return value
    return _object(value, "")


def is_schema(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a JSON schema rather than a short form: it says what kind of value it is about, in the keywords of
    JSON Schema alone."""
    if not value or "json_schema" in value or isinstance(value.get("schema"), Mapping):
        return True
    if not all(key in _KEYWORDS or str(key).startswith("x-") for key in value):
        return False
    kind, properties = value.get("type"), value.get("properties")
    return (
        (isinstance(kind, str) and kind in _JSON_TYPES)
        or (isinstance(kind, list) and all(one in _JSON_TYPES for one in kind))
        or (
            isinstance(properties, Mapping)
            and all(isinstance(one, Mapping | bool) for one in properties.values())
        )
        or str(value.get("$ref", "")).startswith("#")
        or any(
            isinstance(value.get(key), list) and all(isinstance(one, Mapping | bool) for one in value[key])
            for key in ("anyOf", "oneOf", "allOf")
        )
        or isinstance(value.get("enum"), list)
        or "const" in value
    )


def _object(value: Mapping[str, Any], path: str) -> dict[str, Any]:
    properties, required = {}, []
    for name, given in value.items():
        here = f"{path}.{name}" if path else str(name)
        schema, needed = _field(given, here)
        properties[str(name)] = schema
        if needed:
            required.append(str(name))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _field(given: Any, path: str) -> tuple[dict[str, Any], bool]:
    """The schema of a field, and whether it is required."""
    if isinstance(given, str) and given.rstrip().endswith("?"):
        schema = _value(given.rstrip()[:-1].rstrip(), path)
        return {"anyOf": [schema, {"type": "null"}]}, False
    return _value(given, path), True


def _value(given: Any, path: str) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given) if given and is_schema(given) else _object(given, path)
    if isinstance(given, list) and len(given) == 1:
        return {"type": "array", "items": _value(given[0], f"{path}[]")}
    if isinstance(given, str):
        if given in TYPES:
            return {"type": given}
        words = [word.strip() for word in given.split("|")]
        if len(words) > 1 and all(words):
            known = [word in TYPES for word in words]
            if all(known):
                return {"anyOf": [{"type": word} for word in words]}
            if not any(known):
                return {"type": "string", "enum": words}
    known_words = (
        f"Write {listing(TYPES)}, [TYPE] for a list, ONE | OTHER for a choice of texts, or a JSON schema."
    )
    close = nearest(given, TYPES) if isinstance(given, str) else None
    raise ConfigError(
        f"output schema: '{path}' has the type {given!r}",
        hint=f"Did you mean '{close}'?" if close else known_words,
    )
