"""JSON schemas: tidied for a model, made strict for a provider, compiled for us."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from lllm.errors import ConfigError, nearest

_CHILD: Final = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_CHILDREN: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_MOST: Final = 50  # problems that are told at once
_LONGEST: Final = 120  # characters of a wrong value that an error repeats


def walk(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy of the schema with `change` applied to every schema in it, the innermost first. Values that merely look
    like schemas (defaults, enums, a property named `title`) are left alone."""
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    for key in _CHILD:
        if isinstance(out.get(key), Mapping):
            out[key] = walk(out[key], change)
    for key in _CHILDREN:
        if isinstance(out.get(key), list | tuple):
            out[key] = [walk(item, change) for item in out[key]]
    for key in _NAMED:
        if isinstance(out.get(key), Mapping):
            out[key] = {name: walk(item, change) for name, item in out[key].items()}
    return change(out)


def tidy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic makes of names, and closed: an object that lists its properties and
    says nothing of others has no others."""

    def change(part: dict[str, Any]) -> dict[str, Any]:
        part.pop("title", None)
        if "properties" in part and "additionalProperties" not in part:
            part["additionalProperties"] = False
        return part

    tidied: dict[str, Any] = walk(schema, change)
    return tidied


# --- strict mode -----------------------------------------------------------------------------------------------------

# What providers take in strict mode. A keyword of the second list is dropped, because it only narrows and we check the
# reply ourselves; anything else makes the schema unfit.
_KEPT: Final = frozenset(
    "type properties required additionalProperties items anyOf enum const $ref $defs description format pattern "
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems".split()
)
_DROPPED: Final = frozenset(
    "title default examples example deprecated readOnly writeOnly $comment $schema $id discriminator minLength "
    "maxLength uniqueItems minProperties maxProperties contentEncoding contentMediaType".split()
)
_FORMATS: Final = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid".split())


class _NotStrict(Exception):
    """The schema says something that strict mode cannot."""


def strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema as strict mode wants it: closed objects, every property required, few keywords. None when it says
    something that strict mode cannot (free-form objects, tuples, `not` ...)."""
    try:
        result: dict[str, Any] = walk(schema, lambda part: _strict(part, schema))
    except _NotStrict:
        return None
    return result


def _strict(part: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    if "oneOf" in part and "anyOf" not in part:
        part["anyOf"] = part.pop("oneOf")
    if len(part.get("allOf", ())) == 1:
        (only,) = part.pop("allOf")
        part = {**only, **part}
    out: dict[str, Any] = {}
    for key, value in part.items():
        if key in _DROPPED:
            continue
        if key == "definitions":
            raise _NotStrict(key)
        if key not in _KEPT:
            raise _NotStrict(key)
        if key == "format" and value not in _FORMATS:
            continue
        if key == "pattern" and "(?" in value:
            continue
        out[key] = value
    if "$ref" in out and len(out) > (2 if "$defs" in out else 1):
        # strict mode wants a reference alone; what stands beside one is only a description or a default by now
        out = {key: out[key] for key in ("$ref", "$defs") if key in out}
    if out.get("type") == "object" or "properties" in out:
        if out.get("additionalProperties", False) is not False or "properties" not in out:
            raise _NotStrict("free-form object")
        out["additionalProperties"] = False
        out["required"] = list(out["properties"])
    elif out.get("type") == "array" and "items" not in out:
        raise _NotStrict("array of anything")
    elif not out.keys() & {"type", "anyOf", "enum", "const", "$ref"}:
        raise _NotStrict("anything")
    return out


# --- validation ------------------------------------------------------------------------------------------------------


def compile_schema(schema: Mapping[str, Any], what: str) -> Any:
    """A compiled validator. ConfigError when the schema is not one, or refers to something outside itself."""
    import jsonschema_rs

    try:
        # offline: a schema from a stranger must not make us fetch a URL or read a file
        return jsonschema_rs.validator_for(dict(schema), offline=True)
    except (ValueError, TypeError) as error:
        reason = getattr(error, "message", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{what}: not a JSON schema: {reason}") from None


def problems(validator: Any, value: Any, known: Iterable[str] = ()) -> list[str]:
    """Every way in which the value breaks the schema, one sentence each with its JSON path; empty when it fits.

    `known` are the keys of the outermost object, for a "did you mean"."""
    try:
        return capped(s for error in validator.iter_errors(value) for s in _sentences(error, tuple(known)))
    except (ValueError, TypeError) as error:  # not JSON at all: a key that is not text, bytes
        return [f"$: {str(error).partition(chr(10))[0]}"]


def capped(sentences: Iterable[str]) -> list[str]:
    """The first of them: a model that gets hundreds of things wrong is not helped by hundreds of lines."""
    found = list(islice(sentences, _MOST + 1))
    return found if len(found) <= _MOST else [*found[:_MOST], "$: and more"]


def _sentences(error: Any, known: tuple[str, ...] = ()) -> Iterator[str]:
    where = json_path(tuple(error.instance_path))
    kind = error.kind
    match kind.name:
        case "required":
            yield f"{where}: missing {json.dumps(kind.property, ensure_ascii=False)}"
        case "additionalProperties":
            for name in kind.unexpected:
                close = nearest(name, known) if where == "$" else None
                suffix = f'; did you mean "{close}"?' if close else ""
                yield f"{where}: unknown key {shown(name)}{suffix}"
        case "type":
            types = kind.types if isinstance(kind.types, list) else [kind.types]
            yield f"{where}: {shown(error.instance)} is not {_article(types)}"
        case "enum":
            options = ", ".join(shown(option) for option in kind.options)
            yield f"{where}: {shown(error.instance)} is not one of {options}"
        case "const":
            yield f"{where}: {shown(error.instance)} is not {shown(kind.expected_value)}"
        case "anyOf" | "oneOf" if getattr(kind, "context", None):
            yield f"{where}: {shown(error.instance)} fits none of the alternatives ({_alternatives(error)})"
        case _:
            message = error.message
            yield f"{where}: {message if len(message) <= 3 * _LONGEST else message[: 3 * _LONGEST] + '...'}"


def _alternatives(error: Any) -> str:
    """Why each alternative does not fit; the nearest ones, those that fail deepest, where there are many."""
    reasons: list[str] = []
    branches = sorted(
        error.kind.context, key=lambda branch: -max((len(e.instance_path) for e in branch), default=0)
    )
    for branch in branches[:4]:
        reason = " and ".join(sentence for item in branch[:3] for sentence in _sentences(item))
        if reason and reason not in reasons:
            reasons.append(reason)
    return "; or ".join(reasons)


def json_path(parts: tuple[Any, ...]) -> str:
    """`$.items[0].price`; a key that is not a plain word is quoted."""
    out = "$"
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        elif len(str(part)) <= _LONGEST and str(part).isidentifier():
            out += f".{part}"
        else:
            out += f"[{shown(str(part))}]"
    return out


def shown(value: Any) -> str:
    """A value for a message: JSON, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _article(types: list[str]) -> str:
    if types == ["null"]:
        return "null"
    return " or ".join(
        "null" if name == "null" else f"{'an' if name[0] in 'aio' else 'a'} {name}" for name in types
    )
