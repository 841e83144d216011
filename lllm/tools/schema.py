"""Checks and compiles JSON schemas, and explains validation errors to a model.

A schema is read by the rules of the draft that its `$schema` names: 4, 6, 7, 2019-09 or 2020-12; 2020-12 if it names
none. Differences between drafts are respected: keywords next to `$ref` count from 2019-09 on and are ignored before, and
`format` is checked up to draft 7 and is an annotation from 2019-09 on.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from lllm.errors import ConfigError, nearest

CHILD: Final = frozenset(
    "items additionalItems unevaluatedItems contains additionalProperties unevaluatedProperties propertyNames not if then "
    "else contentSchema".split()
)
"""Keywords that hold one schema. `items` may hold a list of schemas up to draft 2019-09."""
CHILDREN: Final = frozenset("anyOf oneOf allOf prefixItems items".split())
"""Keywords that hold a list of schemas."""
NAMED: Final = frozenset(
    "properties patternProperties dependentSchemas dependencies $defs definitions".split()
)
"""Keywords that hold schemas by name."""
DEEPEST: Final = 128
"""Nesting allowed in a schema. Of 11,297 schemas from practice the deepest has 63 levels."""
_MOST: Final = 50  # problems that are told at once
_LARGE: Final = 5000  # parts of a value of which only the first problem is told
_LONGEST: Final = 120  # characters of a wrong value that an error repeats
_NESTED: Final = 3  # levels of nested alternatives that are explained


def children(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yields the schemas directly within a schema, each with its path. Values that only look like schemas (defaults,
    enums, a property named `title`) are not included."""
    for key, value in schema.items():
        if key in CHILD and isinstance(value, Mapping | bool):
            yield (key,), value
        elif key in CHILDREN and isinstance(value, list | tuple):
            for number, item in enumerate(value):
                yield (key, number), item
        elif key in NAMED and isinstance(value, Mapping):
            for name, item in value.items():
                if isinstance(item, Mapping | bool):
                    yield (key, name), item


def rebuilt(schema: Mapping[str, Any], change: Callable[[tuple[str | int, ...], Any], Any]) -> dict[str, Any]:
    """A copy of one schema in which each schema directly within it is `change(path, schema)`."""
    out = dict(schema)
    for way, item in children(schema):
        if len(way) == 1:
            out[str(way[0])] = change(way, item)
            continue
        key, step = str(way[0]), way[1]
        if out[key] is schema[key]:  # still the given schema's container: copy it before changing it
            out[key] = dict(schema[key]) if isinstance(schema[key], Mapping) else list(schema[key])
        out[key][step] = change(way, item)
    return out


def walk(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy of the schema with `change` applied to every schema in it, the innermost first; see `children`."""
    if not isinstance(schema, Mapping):
        return schema
    return change(rebuilt(schema, lambda _, item: walk(item, change)))


_OPEN: Final = frozenset("allOf anyOf oneOf $ref $dynamicRef if dependentSchemas".split())


def tidy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without pydantic's generated titles, and closed: an object that lists its properties and does not
    mention others allows no others, unless a schema next to it may name some."""

    def change(part: dict[str, Any]) -> dict[str, Any]:
        part.pop("title", None)
        if isinstance(part.get("default"), float) and not math.isfinite(part["default"]):
            del part["default"]
        if "properties" in part and "additionalProperties" not in part and not part.keys() & _OPEN:
            part["additionalProperties"] = False
        return part

    tidied: dict[str, Any] = walk(schema, change)
    return tidied


# --- validation ------------------------------------------------------------------------------------------------------

_OUTSIDE: Final = re.compile(r"Resource '([^']*)' is not present")
_NOWHERE: Final = re.compile(r"(?:Pointer|Anchor) '([^']*)' does not exist")
_DRAFT: Final = re.compile(r"Unknown meta-schema: '([^']*)'")
_DRAFTS: Final = (
    'Known: "http://json-schema.org/draft-04/schema#", ".../draft-06/schema#", ".../draft-07/schema#", '
    '"https://json-schema.org/draft/2019-09/schema" and ".../2020-12/schema" (the default).'
)


def compile_schema(schema: Mapping[str, Any] | bool, what: str) -> Any:
    """A compiled validator of the schema exactly as given.

    Raises:
        ConfigError: it is not a schema (with the path of the first mistake), is nested more than 128 levels deep, or
        refers
            to something outside itself: URLs and files that a schema names are never fetched.
    """
    import jsonschema_rs

    check_json(schema, what)
    try:
        return jsonschema_rs.validator_for(
            dict(schema) if isinstance(schema, Mapping) else schema, offline=True
        )
    except jsonschema_rs.ValidationError as error:
        raise _not_a_schema(error, schema, what) from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{what}: not a JSON schema: {str(error).partition(chr(10))[0]}") from None


def is_schema(schema: dict[str, Any]) -> bool:
    """True if the schema follows the rules of its draft, references aside."""
    import jsonschema_rs

    return jsonschema_rs.meta.is_valid(schema)


def check_json(value: Any, what: str) -> None:
    """Raises ConfigError (with the path) for a value without a JSON form, nested more than `DEEPEST` levels deep, or
    contained in itself. Uses no recursion."""
    level: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    for _ in range(DEEPEST):
        inner: dict[int, tuple[tuple[Any, ...], Any]] = {}
        for path, item in level:
            if isinstance(item, Mapping):
                for key, part in item.items():
                    if not isinstance(key, str):
                        raise _not_json(path, f"the key {key!r}", what)
                    inner[id(part)] = ((*path, key), part)
            elif isinstance(item, list | tuple):
                inner |= {id(part): ((*path, number), part) for number, part in enumerate(item)}
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise _not_json(path, repr(item), what)
            elif item is not None and not isinstance(item, str | int):
                raise _not_json(path, type(item).__name__, what)
        if not inner:
            return
        level = list(inner.values())
    raise ConfigError(
        f"{what}: not a JSON schema: it is nested more than {DEEPEST} levels deep",
        hint="Move nested schemas under $defs, and refer to them.",
    )


def _not_json(path: tuple[Any, ...], found: str, what: str) -> ConfigError:
    return ConfigError(
        f"{what}: not a JSON schema: {json_path(path)} holds {found}, which JSON does not have"
    )


def _not_a_schema(error: Any, schema: Any, what: str) -> ConfigError:
    if found := _OUTSIDE.search(error.message):
        where, _ = _holder(schema, found[1])
        return ConfigError(
            f"{what}: not a JSON schema by itself: {where} refers to '{found[1]}', which is outside the schema",
            hint="Nothing is fetched. Put that schema under $defs, and refer to it with '#/$defs/NAME'.",
        )
    if found := _NOWHERE.search(error.message):
        where, reference = _holder(schema, found[1])
        return ConfigError(
            f"{what}: not a JSON schema: {where} refers to '{reference}', which does not exist in the schema"
        )
    if found := _DRAFT.search(error.message):
        return ConfigError(
            f"{what}: not a JSON schema: $schema names '{found[1]}', which is not a known draft", hint=_DRAFTS
        )
    path = tuple(error.instance_path)
    hint = None
    if path and path[-1] == "items" and isinstance(error.instance, list):
        hint = 'Lists of schemas are `prefixItems` from 2020-12 on. For older drafts write "$schema", see the guide.'
    return ConfigError(f"{what}: not a JSON schema: {'; '.join(_sentences(error))}", hint=hint)


def _holder(schema: Any, target: str) -> tuple[str, str]:
    """The path of the first reference to `target`, and the reference as written, for a message."""
    level: list[tuple[tuple[str | int, ...], Any]] = [((), schema)]
    while level:
        inner: list[tuple[tuple[str | int, ...], Any]] = []
        for path, item in level:
            if not isinstance(item, Mapping):
                continue
            for key in ("$ref", "$dynamicRef", "$recursiveRef"):
                if isinstance(item.get(key), str) and target.rpartition("/")[2] in item[key]:
                    return json_path((*path, key)), item[key]
            inner += [((*path, *way), child) for way, child in children(item)]
        level = inner
    return "a reference", target


def problems(validator: Any, value: Any, known: Iterable[str] = ()) -> list[str]:
    """Every way in which the value breaks the schema, one sentence each with its JSON path; empty when it fits.

    `known` are the keys of the outermost object, for a "did you mean"."""
    try:
        if validator.is_valid(value):
            return []
        errors = _first(validator, value) if _is_large(value) else validator.iter_errors(value)
        return capped(s for error in errors for s in _sentences(error, tuple(known)))
    except (ValueError, TypeError) as error:  # not JSON at all: a key that is not text, bytes
        return [f"$: {str(error).partition(chr(10))[0]}"]


def _is_large(value: Any) -> bool:
    """Whether a value has so many parts that all of their errors would take seconds: they are made before the first is seen."""
    left, count = [value], 0
    while left:
        item = left.pop()
        if isinstance(item, Mapping | list | tuple):
            count += len(item)
            if count > _LARGE:
                return True
            left += item.values() if isinstance(item, Mapping) else item
    return False


def _first(validator: Any, value: Any) -> list[Any]:
    from jsonschema_rs import ValidationError

    try:
        validator.validate(value)
    except ValidationError as error:
        return [error]
    return []


def capped(sentences: Iterable[str]) -> list[str]:
    """The first of them: a model that gets hundreds of things wrong is not helped by hundreds of lines."""
    found = list(islice(sentences, _MOST + 1))
    return found if len(found) <= _MOST else [*found[:_MOST], "$: and more"]


def _sentences(error: Any, known: tuple[str, ...] = (), depth: int = 0) -> Iterator[str]:
    where = json_path(tuple(error.instance_path))
    kind = error.kind
    match kind.name:
        case "required":
            yield f"{where}: missing {json.dumps(kind.property, ensure_ascii=False)}"
        case "additionalProperties" | "unevaluatedProperties":
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
            fitting = [str(number) for number, wrong in enumerate(kind.context) if not wrong]
            if len(fitting) > 1:
                listed = f"{', '.join(fitting[:-1])} and {fitting[-1]}"
                yield f"{where}: {shown(error.instance)} matches more than one of {kind.name}: {listed}"
            else:
                reasons = f" ({_alternatives(error, depth)})" if depth < _NESTED else ""
                yield f"{where}: {shown(error.instance)} fits none of the alternatives{reasons}"
        case _:
            message = error.message
            yield f"{where}: {message if len(message) <= 3 * _LONGEST else message[: 3 * _LONGEST] + '...'}"


def _alternatives(error: Any, depth: int) -> str:
    """Why each alternative does not fit; the nearest ones, those that fail deepest, where there are many."""
    reasons: list[str] = []
    branches = sorted(
        _meant(error), key=lambda branch: -max((len(e.instance_path) for e in branch), default=0)
    )
    for branch in branches[:4]:
        reason = " and ".join(
            sentence for item in branch[:3] for sentence in _sentences(item, depth=depth + 1)
        )
        if reason and reason not in reasons:
            reasons.append(reason)
    return "; or ".join(reasons)


def _meant(error: Any) -> list[Any]:
    """The alternatives that a value may have been meant for. One property often says which: those whose property must have
    another value are left out, unless nothing but values of another type is left."""
    every = list(error.kind.context)
    here = len(error.instance_path)
    others = [
        branch
        for branch in every
        if not any(
            one.kind.name in ("const", "enum") and len(one.instance_path) == here + 1 for one in branch
        )
    ]
    typed = [
        branch
        for branch in others
        if not any(one.kind.name == "type" and len(one.instance_path) == here for one in branch)
    ]
    return every if len(others) == len(every) else typed or every


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
    except (TypeError, ValueError, RecursionError):
        text = reprlib.repr(value)  # bounded in depth, too
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _article(types: list[str]) -> str:
    if types == ["null"]:
        return "null"
    return " or ".join(
        "null" if name == "null" else f"{'an' if name[0] in 'aio' else 'a'} {name}" for name in types
    )
