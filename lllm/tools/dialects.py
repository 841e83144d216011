"""What providers make of JSON schemas: a tool's schema as each of them takes it.

A dialect is a row of DIALECTS. What it does not know is left out of what is sent, or said in words it knows; arguments are
always validated against the tool's own schema. `adapted` says what was changed.

Sources: https://ai.google.dev/gemini-api/docs/function-calling (the subset of OpenAPI 3.0 that Gemini takes),
https://platform.openai.com/docs/guides/structured-outputs#supported-schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_KNOWN: Final = frozenset(
    """
    type title description enum items properties required nullable anyOf format default
    minimum maximum minItems maxItems minLength maxLength minProperties maxProperties pattern example propertyOrdering
    """.split()
)


class Dialect(NamedTuple):
    """What one kind of endpoint takes.

    Attributes:
        known: keywords; None for all. formats: values of `format`; None for all.
        references: whether `$ref` and `$defs` are taken. type_lists: whether `type` may be a list.
        deepest: how often a recursive reference is written out, where references are not taken.
    """

    known: frozenset[str] | None = None
    formats: frozenset[str] | None = None
    references: bool = True
    type_lists: bool = True
    deepest: int = 2


PLAIN: Final = Dialect()
DIALECTS: Final[Mapping[str, Dialect]] = {
    # family of the model: what it takes, behind whatever gateway
    "gemini": Dialect(
        _KNOWN, frozenset(("enum", "date-time", "int32", "int64", "float", "double")), False, False
    ),
}


class Adapted(NamedTuple):
    """A schema for a dialect, and what was changed, one sentence each."""

    schema: Mapping[str, Any]
    changes: tuple[str, ...]


def dialect_of(family: str | None) -> Dialect:
    """The dialect of a family of models."""
    return DIALECTS.get(family or "", PLAIN)


def adapted(schema: Mapping[str, Any], dialect: Dialect) -> Adapted:
    """A schema in a dialect. The same schema where nothing has to be changed."""
    if dialect == PLAIN:
        return Adapted(schema, ())
    writer = _Writer(schema, dialect)
    made = writer.schema(schema, "", {})
    return Adapted(made, tuple(dict.fromkeys(writer.changes))) if writer.changes else Adapted(schema, ())


class _Writer:
    def __init__(self, whole: Mapping[str, Any], dialect: Dialect) -> None:
        self.whole, self.dialect = whole, dialect
        self.changes: list[str] = []

    def schema(self, schema: Any, place: str, seen: Mapping[str, int]) -> dict[str, Any]:
        """One schema, and those within it."""
        if schema is True or schema is False or not isinstance(schema, Mapping):
            self.say(place, "a schema that is true or false became one for anything")
            return {}
        if not self.dialect.references and "$ref" in schema:
            return self.referred(schema, place, seen)
        out = self.united(dict(schema), place)
        known = self.dialect.known
        for key in list(out):
            if key in ("$defs", "definitions") and not self.dialect.references:
                del out[key]
            elif key == "properties" and isinstance(out[key], Mapping):
                out[key] = {name: self.schema(one, f"{place}/{name}", seen) for name, one in out[key].items()}
            elif key == "items" and isinstance(out[key], Mapping | bool):
                out[key] = self.schema(out[key], f"{place}/items", seen)
            elif key in ("anyOf", "oneOf", "allOf") and isinstance(out[key], list):
                out[key] = [self.schema(one, f"{place}/{key}", seen) for one in out[key]]
            elif known is not None and key not in known:
                self.say(place, f"'{key}' is not sent")
                del out[key]
            elif (
                key == "format" and self.dialect.formats is not None and out[key] not in self.dialect.formats
            ):
                self.say(place, f"the format '{out[key]}' is not sent")
                del out[key]
        return out

    def referred(self, schema: Mapping[str, Any], place: str, seen: Mapping[str, int]) -> dict[str, Any]:
        """What a reference leads to, in its place."""
        name = str(schema["$ref"])
        target: Any = self.whole
        for part in name.removeprefix("#/").split("/") if name != "#" else ():
            part = part.replace("~1", "/").replace("~0", "~")
            target = target.get(part) if isinstance(target, Mapping) else None
        times = seen.get(name, 0)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        if not isinstance(target, Mapping) or times >= self.dialect.deepest:
            self.say(place, f"the reference {name} was cut off: it goes on in itself")
            kind = target.get("type", "object") if isinstance(target, Mapping) else "object"
            return {"type": kind if isinstance(kind, str) else "object"}
        self.say(place, f"the reference {name} was written out")
        return self.schema({**target, **rest}, place, {**seen, name: times + 1})

    def united(self, out: dict[str, Any], place: str) -> dict[str, Any]:
        """Keywords that the dialect can say in other words."""
        known = self.dialect.known
        if known is None:
            return out
        if "const" in out:
            out.setdefault("enum", [out.pop("const")])
            out.setdefault("type", _type(out["enum"]))
            self.say(place, "'const' became 'enum'")
        for old, new, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            if isinstance(out.get(old), int | float) and not isinstance(out[old], bool) and new not in out:
                bound = out.pop(old)
                out[new] = bound + step if out.get("type") == "integer" else bound
                self.say(place, f"'{old}' became '{new}'")
        for old in ("oneOf", "allOf"):
            if isinstance(out.get(old), list) and old not in known:
                self.merge(out, old, place)
        if isinstance(out.get("type"), list) and not self.dialect.type_lists:
            self.one_type(out, place)
        if isinstance(choices := out.get("anyOf"), list):
            self.nullable(out, choices, place)
        if isinstance(values := out.get("enum"), list) and any(not isinstance(one, str) for one in values):
            out["enum"] = [str(one) for one in values if one is not None]
            if out.get("type") not in (None, "string"):
                out["type"] = "string"
            self.say(place, "the values of 'enum' became texts")
        return out

    def merge(self, out: dict[str, Any], key: str, place: str) -> None:
        parts = out.pop(key)
        if key == "oneOf":
            out.setdefault("anyOf", parts)
            self.say(place, "'oneOf' became 'anyOf'")
            return
        for part in parts:
            one = part if isinstance(part, Mapping) else {}
            if "$ref" in one and not self.dialect.references:
                one = self.referred(one, place, {})
            out["properties"] = {**out.get("properties", {}), **one.get("properties", {})}
            out["required"] = list(dict.fromkeys([*out.get("required", ()), *one.get("required", ())]))
            out |= {name: value for name, value in one.items() if name not in ("properties", "required")}
        for name in ("properties", "required"):
            if not out.get(name):
                out.pop(name, None)
        self.say(place, "'allOf' was merged")

    def one_type(self, out: dict[str, Any], place: str) -> None:
        kinds = [one for one in out["type"] if one != "null"]
        if "null" in out["type"]:
            out["nullable"] = True
        if len(kinds) == 1:
            out["type"] = kinds[0]
        else:
            del out["type"]
            out["anyOf"] = [{"type": one} for one in kinds]
        self.say(place, "a list of types became one type")

    def nullable(self, out: dict[str, Any], choices: list[Any], place: str) -> None:
        rest = [one for one in choices if not (isinstance(one, Mapping) and one.get("type") == "null")]
        if len(rest) == len(choices):
            return
        out["nullable"] = True
        if len(rest) == 1 and isinstance(rest[0], Mapping):
            del out["anyOf"]
            for key, value in rest[0].items():
                out.setdefault(key, value)
        else:
            out["anyOf"] = rest
        self.say(place, "'null' among the choices became 'nullable'")

    def say(self, place: str, words: str) -> None:
        self.changes.append(f"{place.lstrip('/') or 'the parameters'}: {words}")


def _type(values: list[Any]) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return kinds.get(type(values[0]), "string")
