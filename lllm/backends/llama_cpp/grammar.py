"""JSON schemas as llama.cpp's own converter takes them, and what it leaves unsaid.

The converter turns a schema into a grammar. Some keywords it ignores without a word, others it gets wrong (a lower bound
alone, tuples with more items, names that clash). `express` rewrites a schema with what the converter does well, so that
every reply fits it, and names the keywords that are left to validation.

    express({"type": "number", "minimum": 3})     Expressed({"type": "number"}, ("minimum",))

A rewritten schema may be narrower than the given one where JSON Schema is wider than anybody means: an object has the
properties that are declared and no others, a value has the type that its keywords are about.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": (
        "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains",
        "minContains", "maxContains", "unevaluatedItems",
    ),
    "object": (
        "properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties",
        "propertyNames", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    ),
}  # fmt: skip
"""The keywords that say something about values of one type."""
_TYPE_OF: Final = {keyword: kind for kind, keywords in _ABOUT.items() for keyword in keywords}
_COMBINING: Final = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "const", "enum", "type")
_SAYS: Final = frozenset((*_TYPE_OF, *_COMBINING))
"""Every keyword that a value can break. All others are remarks."""
_FORMATS: Final = ("date", "time", "date-time", "uuid")
_LONGEST: Final = 1000
"""Repetitions that a grammar can count."""
_FAR: Final = 999_999_999_999_999
"""The bound of an integer that has one on its other side only: the converter's rules for one bound let others through."""
_DEEPEST: Final = 40
"""Schemas within schemas that are merged."""
_ANY: Final[Mapping[str, Any]] = {"description": "any value"}
_NAME: Final = "lllm-"


class Expressed(NamedTuple):
    """Attributes: schema: what the converter is given. dropped: the keywords that it does not hold a reply to, sorted."""

    schema: Mapping[str, Any]
    dropped: tuple[str, ...]

    @property
    def enforced(self) -> str:
        """See `lllm.models.Reply.enforced`."""
        return f"grammar except {', '.join(self.dropped)}" if self.dropped else "grammar"


class Unfit(Exception):
    """No grammar can say this."""


def express(schema: Any) -> Expressed | None:
    """A JSON schema for the converter; None where no grammar can say it (a reference to elsewhere, a schema that no value
    fits, a schema that holds nothing but itself).

    Raises ValueError for what is no JSON schema.
    """
    writer = _Writer(schema)
    try:
        written = writer.write(schema)
        defs = writer.definitions()
    except (Unfit, RecursionError):
        return None
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"the schema is malformed: {error}") from error
    if defs:
        written = {**written, "$defs": defs}
    return Expressed(written, tuple(sorted(writer.dropped)))


class _Writer:
    """One schema that is being rewritten."""

    def __init__(self, root: Any) -> None:
        self.dropped: set[str] = set()
        self._root = root
        self._names: dict[str, str] = {}
        self._depth = 0

    def definitions(self) -> dict[str, Any]:
        """What was referred to, each under a name of its own."""
        done: dict[str, Any] = {}
        while missing := [ref for ref, name in self._names.items() if name not in done]:
            for ref in missing:
                self._lands(ref)
                done[self._names[ref]] = self.write(self._target(ref))
        return done

    def write(self, schema: Any) -> dict[str, Any]:
        if schema is True:
            return dict(_ANY)
        if schema is False:
            raise Unfit("false")
        if not isinstance(schema, Mapping):
            raise ValueError(f"{schema!r} stands where a schema is due")
        if "$dynamicRef" in schema or "$recursiveRef" in schema:
            raise Unfit("a dynamic reference")
        said = {key: value for key, value in schema.items() if key in _SAYS}
        if set(said) == {"$ref"}:
            name = self._names.setdefault(said["$ref"], f"{_NAME}{len(self._names)}")
            self._target(said["$ref"])  # Unfit here and not later
            return {"$ref": f"#/$defs/{name}"}
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unfit("too deep")
        try:
            return self._write(self._flat(said))
        finally:
            self._depth -= 1

    def _flat(self, said: dict[str, Any]) -> dict[str, Any]:
        """The schema with what it refers to, and all of `allOf`, written into it."""
        parts = list(said.pop("allOf", ()))
        if ref := said.pop("$ref", None):
            parts.append({"$ref": ref})
        seen: set[str] = set()
        while parts:
            part = parts.pop(0)
            if part is True:
                continue
            if part is False:
                raise Unfit("false")
            part = {key: value for key, value in part.items() if key in _SAYS}
            if ref := part.pop("$ref", None):
                if ref in seen:
                    continue
                seen.add(ref)
                parts.append(self._target(ref))
            parts += part.pop("allOf", ())
            said = self._both(said, part)
        return said

    def _both(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        """A schema for values that fit two."""
        out = dict(one)
        for key, value in other.items():
            if key not in out or out[key] == value:
                out[key] = value
            elif merge := _MERGES.get(key):
                out[key] = merge(out[key], value)
            elif key == "properties":
                mine = dict(out[key])
                for name, schema in value.items():
                    mine[name] = {"allOf": [mine[name], schema]} if name in mine else schema
                out[key] = mine
            elif key in ("items", "additionalProperties") and not isinstance(value, list):
                out[key] = {"allOf": [out[key], value]}
            else:
                self.dropped.add("allOf")
        return out

    def _write(self, said: dict[str, Any]) -> dict[str, Any]:
        for key in ("not", "if", "then", "else"):
            if key in said:
                if key in ("not", "if"):
                    self.dropped.add(key)
                del said[key]
        for key in ("anyOf", "oneOf"):
            if key in said:
                return self._union(key, said)
        if "const" in said or "enum" in said:
            return self._listed(said)
        kinds = self._kinds(said)
        if len(kinds) > 1:
            return {"anyOf": [self._typed(kind, said) for kind in kinds]}
        return self._typed(kinds[0], said) if kinds else dict(_ANY)

    def _union(self, key: str, said: dict[str, Any]) -> dict[str, Any]:
        ways = list(said.pop(key))
        written, kept = [], []
        for way in ways:
            if way is False:
                continue
            whole = said if way is True else self._both(said, way) if said else way
            try:
                written.append(self.write(whole))
                kept.append(way)
            except Unfit:
                if not isinstance(way, Mapping) or "$ref" in way:
                    raise
        if not written:
            raise Unfit(f"an empty {key}")
        if key == "oneOf" and not self._apart(kept):
            self.dropped.add("oneOf")
        return written[0] if len(written) == 1 else {"anyOf": written}

    def _apart(self, ways: Sequence[Any]) -> bool:
        """Whether no value fits two of these schemas, as far as can be told easily."""
        told = [self._looks(way) for way in ways]
        return all(_differ(one, other) for number, one in enumerate(told) for other in told[number + 1 :])

    def _looks(self, way: Any) -> Mapping[str, Any]:
        for _ in range(_DEEPEST):
            if isinstance(way, Mapping) and "$ref" in way:
                way = self._target(way["$ref"])
        return way if isinstance(way, Mapping) else {}

    def _listed(self, said: dict[str, Any]) -> dict[str, Any]:
        values = list(said.pop("enum")) if "enum" in said else [said["const"]]
        if "const" in said:
            const = said.pop("const")
            values = [value for value in values if _same(value, const)]
        if (kinds := said.pop("type", None)) is not None:
            known = _as_list(kinds)
            values = [value for value in values if any(_is(value, kind) for kind in known)]
        if not values:
            raise Unfit("nothing is allowed")
        self.dropped |= said.keys()
        return {"enum": values}

    def _kinds(self, said: Mapping[str, Any]) -> list[str]:
        if (given := said.get("type")) is None:
            return list(dict.fromkeys(_TYPE_OF[key] for key in said if key in _TYPE_OF))
        kinds = _as_list(given)
        if not kinds:
            raise Unfit("no type")
        for kind in kinds:
            if kind not in TYPES:
                raise ValueError(f"type is {kind!r}; it is one of {', '.join(TYPES)}")
        return kinds

    def _typed(self, kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
        family = "number" if kind == "integer" else kind
        part = {key: said[key] for key in _ABOUT.get(family, ()) if key in said}
        return getattr(self, f"_{kind}")(part) if part else {"type": kind}

    # --- values of one type

    def _string(self, said: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "string"}
        if "pattern" in said and (pattern := _pattern(said["pattern"])) is not None:
            out["pattern"] = pattern
        elif said.get("format") in _FORMATS:
            out["format"] = said["format"]
        else:
            least, most = said.get("minLength", 0), said.get("maxLength", math.inf)
            if least > most:
                raise Unfit("no length")
            for key, value in (("minLength", least), ("maxLength", most)):
                if key in said and value <= _LONGEST:
                    out[key] = int(value)
        self._drop(said, out)
        return out

    def _number(self, said: dict[str, Any]) -> dict[str, Any]:
        self._drop(said, {})
        return {"type": "number"}

    def _integer(self, said: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "integer"}
        said = _exclusive(said)
        low, high = said.get("minimum", -math.inf), said.get("maximum", math.inf)
        low = max(low, said.get("exclusiveMinimum", -math.inf))
        high = min(high, said.get("exclusiveMaximum", math.inf))
        bounds = [key for key in said if key != "multipleOf"]
        if bounds:
            least = -_FAR if low == -math.inf else math.ceil(low)
            most = _FAR if high == math.inf else math.floor(high)
            least += least == said.get("exclusiveMinimum")
            most -= most == said.get("exclusiveMaximum")
            if least > most and (low > high or max(abs(least), abs(most)) <= _FAR):
                raise Unfit("no number")
            if max(abs(least), abs(most)) <= _FAR:
                out |= {"minimum": least, "maximum": most}
                said = {key: value for key, value in said.items() if key not in bounds}
        if said.get("multipleOf") in (1, None):
            said = {key: value for key, value in said.items() if key != "multipleOf"}
        self._drop(said, {})
        return out

    def _array(self, said: dict[str, Any]) -> dict[str, Any]:
        items = said.get("items", True)
        first = said.get("prefixItems", ())
        if isinstance(items, list):  # how drafts before 2020-12 write it
            first, items = items, said.get("additionalItems", True)
        least, most = int(said.get("minItems", 0)), said.get("maxItems", math.inf)
        if items is False:
            most = min(most, len(first))
        if least > most:
            raise Unfit("no number of items")
        out: dict[str, Any] = {"type": "array"}
        held = {"items", "prefixItems", "additionalItems", "minItems", "maxItems"}
        if first or most == 0:
            size = int(min(max(least, len(first)), most))
            out["prefixItems"] = [self.write(item) for item in [*first, *[items] * size][:size]]
        else:
            out["items"] = self.write(items)
            for key, value in (("minItems", least), ("maxItems", most)):
                if key in said and value <= _LONGEST:
                    out[key] = int(value)
                elif key in said:
                    held.discard(key)
        if not said.get("uniqueItems") or most <= 1 or len(out.get("prefixItems", "ab")) <= 1:
            held.add("uniqueItems")
        if "contains" not in said:
            held |= {"minContains", "maxContains"}
        self._drop(said, held)
        return out

    def _object(self, said: dict[str, Any]) -> dict[str, Any]:
        required = list(said.get("required", ()))
        closed = said.get("additionalProperties") is False or said.get("unevaluatedProperties") is False
        declared = dict(said.get("properties", {}))
        more = said.get("additionalProperties", True)
        for name in required:  # it comes whether or not somebody has said what it is
            if name not in declared:
                if closed:
                    raise Unfit(f"{name} is required and forbidden")
                declared[name] = more
        properties = {}
        for name, schema in declared.items():
            try:
                if not name:
                    raise Unfit("a name of no letters is the converter's root")
                properties[name] = self.write(schema)
            except Unfit:
                if name in required or (schema is not False and name):
                    raise
        out: dict[str, Any] = {"type": "object"}
        held = {"properties", "required", "additionalProperties"}
        if properties or closed or declared:
            out |= {"properties": properties, "required": [name for name in properties if name in required]}
            out["additionalProperties"] = False
            held.add("unevaluatedProperties")
            if len(properties) <= said.get("maxProperties", math.inf):
                held.add("maxProperties")
        elif isinstance(more, Mapping):
            out["additionalProperties"] = self.write(more)
        if len(required) >= said.get("minProperties", 0):
            held.add("minProperties")
        self._drop(said, held)
        return out

    def _drop(self, said: Mapping[str, Any], held: Any) -> None:
        self.dropped |= {key for key in said if key not in held}

    # --- references

    def _target(self, ref: Any) -> Any:
        """What a reference within the schema stands for. Unfit for one that leads elsewhere, ValueError for nowhere."""
        if not isinstance(ref, str) or (ref != "#" and not ref.startswith("#/")):
            raise Unfit(f"$ref {ref!r}")
        found = self._root
        for step in ref[2:].split("/") if len(ref) > 1 else ():
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (LookupError, TypeError, ValueError):
                raise ValueError(f"$ref {ref!r} leads nowhere") from None
        return found

    def _lands(self, ref: str) -> None:
        """Unfit for a reference that goes round in circles without ever saying anything."""
        seen: set[str] = set()
        while True:
            if ref in seen:
                raise Unfit(f"$ref {ref!r} says nothing")
            seen.add(ref)
            target = self._target(ref)
            if not isinstance(target, Mapping) or set(target) & _SAYS != {"$ref"}:
                return
            ref = target["$ref"]


def _exclusive(said: dict[str, Any]) -> dict[str, Any]:
    """Exclusive bounds as numbers: in draft 4 they are flags of the inclusive bound."""
    out = dict(said)
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(key), bool) and out.pop(key) and bound in out:
            out[key] = out.pop(bound)
    return out


def _as_list(kinds: Any) -> list[str]:
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _merge_types(one: Any, other: Any) -> list[str]:
    first, second = _as_list(one), _as_list(other)
    kept = [kind for kind in first if kind in second]
    if "integer" not in kept and "integer" in {*first, *second} and "number" in {*first, *second}:
        kept.append("integer")
    return kept


_MERGES: Final[Mapping[str, Any]] = {
    "type": _merge_types,
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "enum": lambda one, other: [value for value in one if any(_same(value, item) for item in other)],
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "uniqueItems": lambda one, other: one or other,
}
"""How two values of a keyword become one that says both."""


def _same(one: Any, other: Any) -> bool:
    # 1 is true in Python and not in JSON
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and value == int(value))
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value)) == kind


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = _values(one), _values(other)
    if first is not None and second is not None:
        return not any(_same(value, item) for value in first for item in second)
    kinds, others = _types(one), _types(other)
    if kinds and others and not {*kinds} & {*others}:
        return True
    if kinds == others == {"object"}:
        names = {*one.get("required", ())} & {*other.get("required", ())}
        mine, theirs = one.get("properties", {}), other.get("properties", {})
        return any(
            isinstance(mine.get(name), Mapping)
            and isinstance(theirs.get(name), Mapping)
            and _differ(mine[name], theirs[name])
            for name in names
        )
    return False


def _types(schema: Mapping[str, Any]) -> set[str]:
    if (values := _values(schema)) is not None:
        return {kind for kind in TYPES if any(_is(value, kind) for value in values)}
    if (given := schema.get("type")) is None:
        return set()
    kinds = {*_as_list(given)}
    return kinds | {"integer"} if "number" in kinds else kinds


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


# --- patterns

_PLAIN: Final = r"[A-Za-z0-9 _:;,@#%&=!~<>'`/-]"
_PIECE: Final = re.compile(
    rf"""
    (?P<set> \[ (?: [A-Za-z0-9 _:;,.@#%&=!~<>'`/+*()|?{{}}$] (?:-[A-Za-z0-9])? )+ -? \] )
  | (?P<digit> \\d ) | (?P<word> \\w )
  | \\ (?P<escaped> [-.^$|()\[\]{{}}*+?/] )
  | (?P<open> \( (?:\?:)? ) | (?P<close> \) ) | (?P<or> \| )
  | (?P<times> [*+?] | \{{ (?P<low>[0-9]{{1,3}}) (?:,(?P<high>[0-9]{{0,3}}))? \}} )
  | (?P<plain> {_PLAIN} )
    """,
    re.VERBOSE,
)


def _pattern(pattern: Any) -> str | None:
    """A regular expression that the converter reads as it is meant; None for one that it does not."""
    if not isinstance(pattern, str) or len(pattern) < 3 or pattern[0] != "^" or pattern[-1] != "$":
        return None
    inner, at, depth, last, out = pattern[1:-1], 0, 0, "open", []
    while at < len(inner):
        found = _PIECE.match(inner, at)
        if found is None:
            return None
        kind = found.lastgroup if found.lastgroup not in ("low", "high") else "times"
        text = found[0]
        if kind == "times" and last in ("open", "or", "times"):
            return None  # nothing to repeat, or a lazy quantifier
        if kind == "times" and found["low"] and found["high"] and int(found["low"]) > int(found["high"]):
            return None
        if kind == "or" and (not depth or last in ("open", "or")):
            return None  # `^a|b$` are two patterns, each with one end open
        if kind == "close" and last in ("open", "or"):
            return None
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            return None
        if kind == "digit":
            text = "[0-9]"
        elif kind == "word":
            text = "[A-Za-z0-9_]"
        elif kind == "escaped":
            text = f"[\\x{ord(found['escaped']):02X}]"
        elif kind == "open":
            text = "("
        out.append(text)
        last, at = str(kind), found.end()
    return f"^{''.join(out)}$" if not depth and last != "or" and out else None
