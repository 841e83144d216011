"""Strict mode: providers enforce the output schema while the reply is generated, but only for a narrow subset of JSON
schema.

The subset: closed objects, every property required, few keywords. A schema is converted only if the strict form is
equivalent. A keyword that merely narrows (a length, an unknown `format`) may be dropped, because the reply is validated
against the given schema anyway. An object that lists its properties and does not mention others is closed. Nothing else
is narrowed: there is no strict form if a property may be missing, if one alternative could exclude another, or if no
reply could be valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lllm.core.canonical import encode
from lllm.tools.references import REMARKS
from lllm.tools.schema import children, walk

_KEPT: Final = frozenset(
    "type properties required additionalProperties items anyOf enum const $ref description format pattern "
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems".split()
)
_UNFIT: Final = frozenset(
    "allOf oneOf not if then else contains minContains maxContains prefixItems additionalItems unevaluatedItems "
    "patternProperties propertyNames unevaluatedProperties dependentRequired dependentSchemas dependencies $dynamicRef "
    "$recursiveRef".split()
)
"""Keywords that strict mode does not support and that do more than narrow."""
_LEFT_OUT: Final = REMARKS | frozenset(
    "minLength maxLength uniqueItems minProperties maxProperties discriminator contentEncoding contentMediaType contentSchema "
    "$schema".split()
)
"""Keywords that only narrow, or only annotate."""
_FORMATS: Final = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid".split())
# Limits of the largest provider.
_DEEPEST: Final = 10
_MOST_PROPERTIES: Final = 5000
_MOST_VALUES: Final = 1000
_MOST_TEXT: Final = 120_000
_MANY_VALUES: Final = 250
_MOST_LISTED: Final = 15_000


class _NotStrict(Exception):
    """Raised if the schema needs something that strict mode does not support."""


def strict(schema: Mapping[str, Any], *, fill: bool = False) -> dict[str, Any] | None:
    """The strict form of a schema whose references lead to its own `$defs` or `definitions`; None if there is none.

    With `fill`, optional properties become required: the caller knows that this loses nothing.
    """
    defs = {**_named(schema, "definitions"), **_named(schema, "$defs")}
    body = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    try:
        result: dict[str, Any] = walk(body, lambda part: _strict(part, defs, fill))
        made = {
            name: _subschema(walk(part, lambda part: _strict(part, defs, fill)))
            for name, part in defs.items()
        }
    except _NotStrict:
        return None
    if result.get("type") != "object" or not _satisfiable(result, made) or not _fits_limits(result, made):
        return None
    return {**result, "$defs": made} if made else result


def _named(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = schema.get(key)
    return found if isinstance(found, Mapping) else {}


def _subschema(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise _NotStrict("true or false")
    return part


def _strict(part: dict[str, Any], defs: Mapping[str, Any], fill: bool) -> dict[str, Any]:
    part = _unfolded(part)
    if "oneOf" in part and "anyOf" not in part:
        if not _apart(part["oneOf"], defs):
            raise _NotStrict("oneOf")  # a value might match two alternatives, which our validation refuses
        part["anyOf"] = part.pop("oneOf")
    if part.keys() & _UNFIT:
        raise _NotStrict(", ".join(sorted(part.keys() & _UNFIT)))
    for key in part.keys() - _KEPT - _LEFT_OUT:
        if isinstance(part[key], Mapping | list):
            raise _NotStrict(key)  # not a keyword, but its author meant something by it
    for _, child in children(part):
        if child is not part.get("additionalProperties"):
            _subschema(child)
    out = {key: value for key, value in part.items() if key in _KEPT}
    if out.get("format", "date") not in _FORMATS:
        del out["format"]
    if "(?" in str(out.get("pattern", "")):
        del out["pattern"]
    for key, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(key), bool) and out.pop(key) and plain in out:  # draft 4
            out[key] = out.pop(plain)
    for key in ("$ref", "anyOf"):
        if key in out:
            return _alone(out, key)
    types = out.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "object" in types:
        _close(part, out, fill)
    elif out.keys() & {"properties", "required", "additionalProperties"}:
        raise _NotStrict("anything but an object")
    if "array" in types and not isinstance(out.get("items"), Mapping):
        raise _NotStrict("an array of anything")
    if "array" not in types and "items" in out:
        raise _NotStrict("anything but an array")
    if not types and not out.keys() & {"enum", "const"}:
        raise _NotStrict("anything")
    return out


def _unfolded(part: dict[str, Any]) -> dict[str, Any]:
    """Replaces an `allOf` with one member, and nothing next to it, by that member."""
    every = part.get("allOf")
    if isinstance(every, list) and len(every) == 1 and not part.keys() - REMARKS - {"allOf"}:
        return {**_subschema(every[0]), **{key: value for key, value in part.items() if key != "allOf"}}
    return dict(part)


def _alone(out: dict[str, Any], key: str) -> dict[str, Any]:
    """A reference, or alternatives: no other requirement may stand next to it."""
    if out.keys() - {key, "description"}:
        raise _NotStrict(f"{key} and more")
    if key == "$ref":  # alone: a description next to a reference is refused
        return {"$ref": str(out["$ref"]).replace("#/definitions/", "#/$defs/")}
    return out


def _close(part: Mapping[str, Any], out: dict[str, Any], fill: bool) -> None:
    others = out.get("additionalProperties")
    properties = out.get("properties", {})
    if others not in (None, False) or not isinstance(properties, Mapping):
        raise _NotStrict("an object with any keys")
    if not properties and others is not False:
        raise _NotStrict("an object with any keys")
    required = out.get("required", [])
    least = part.get("minProperties", 0)
    if set(required) - properties.keys() or (isinstance(least, int | float) and least > len(properties)):
        raise _NotStrict("an object with a key that is not listed")
    if not fill and properties.keys() - set(required):
        raise _NotStrict("an object whose keys may be missing")
    out |= {"properties": dict(properties), "required": list(properties), "additionalProperties": False}


# --- alternatives


def _apart(ways: Any, defs: Mapping[str, Any]) -> bool:
    """True if no value matches two of these schemas, as far as that is easy to see."""
    seen = [_landed(way, defs) for way in ways]
    return all(_differ(one, other, defs) for number, one in enumerate(seen) for other in seen[number + 1 :])


def _landed(way: Any, defs: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(8):
        if isinstance(way, Mapping) and "$ref" in way:
            way = defs.get(str(way["$ref"]).rpartition("/")[2], {})
    return way if isinstance(way, Mapping) else {}


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    listed, others_listed = _values(one), _values(other)
    if listed is not None and others_listed is not None:
        return not listed & others_listed
    kinds, others = _kinds(one), _kinds(other)
    if kinds and others and not kinds & others:
        return True
    if kinds != {"object"} or others != {"object"}:
        return False
    # in strict form every property is present, so objects differ if one property differs
    first, second = _named(one, "properties"), _named(other, "properties")
    return any(
        _differ(mine, theirs, {})
        for name in first.keys() & second.keys()
        if "properties" not in (mine := _landed(first[name], defs))
        and "properties" not in (theirs := _landed(second[name], defs))
    )


def _values(schema: Mapping[str, Any]) -> set[bytes] | None:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return {encode(value) for value in values} if isinstance(values, list) else None


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    return kinds | {"integer"} if "number" in kinds else kinds


# --- whether a reply can exist and be requested


def _satisfiable(root: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    """True if some finite value is valid: with every property required, a schema can require itself."""
    alive: set[str] = set()

    def can(part: Any) -> bool:
        if "$ref" in part:
            return part["$ref"].rpartition("/")[2] in alive
        if "anyOf" in part:
            return any(can(way) for way in part["anyOf"])
        kinds = _kinds(part)
        if kinds - {"object", "array"} or _values(part) is not None:
            return True
        if "object" in kinds and all(can(item) for item in part["properties"].values()):
            return True
        return "array" in kinds and (not part.get("minItems") or can(part["items"]))

    while found := {name for name, part in {**defs, "#": root}.items() if name not in alive and can(part)}:
        alive |= found
    return "#" in alive


def _fits_limits(root: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    properties, values, text = 0, 0, sum(map(len, defs))
    for depth, part in _levels([root, *defs.values()]):
        names = part.get("properties", {})
        options = part.get("enum", [part["const"]] if "const" in part else [])
        length = sum(len(option) for option in options if isinstance(option, str))
        properties += len(names)
        values += len(options)
        text += sum(map(len, names)) + length
        if (depth > _DEEPEST and "properties" in part) or (
            len(options) > _MANY_VALUES and length > _MOST_LISTED
        ):
            return False
    return properties <= _MOST_PROPERTIES and values <= _MOST_VALUES and text <= _MOST_TEXT


def _levels(roots: list[Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields every schema with the number of objects around it."""
    waiting = [(1, root) for root in roots]
    while waiting:
        depth, part = waiting.pop()
        yield depth, part
        inner = depth + ("properties" in part)
        waiting += [(inner, child) for _, child in children(part) if isinstance(child, Mapping)]
