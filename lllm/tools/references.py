"""Resolves references within a JSON schema, and rewrites the schema so that it can be embedded anywhere.

A reference is resolved by the rules of the schema's own draft (`$id`, `$anchor`, JSON pointers with their escapes,
references to any place) and written as `#/$defs/NAME`, or `#` for the whole. Readers of the result need no base URIs, and
a root schema can be put under a key. A reference whose target depends on how it is reached, or lies outside, raises
Unportable.

    portable({"type": "array", "items": {"$ref": "#/definitions/item"}, "definitions": {"item": {"type": "string"}}}, "value")
    # {"type": "object", "properties": {"value": {"type": "array", "items": {"$ref": "#/$defs/item"}}}, ...}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from lllm.tools.schema import children, is_schema, rebuilt

Pointer = tuple[str | int, ...]


class Dialect(NamedTuple):
    """The differences between the drafts.

    Attributes:
        number: their order in time.
        id: the keyword that names a schema.
        siblings: whether keywords next to `$ref` count.
        dynamic: the keyword of references whose target depends on the path to them, if the draft has one.
        definitions: the keyword that holds named schemas.
    """

    number: int
    id: str
    siblings: bool
    dynamic: str | None
    definitions: str


DIALECTS: Final[Mapping[str, Dialect]] = {
    "draft-04": Dialect(4, "id", False, None, "definitions"),
    "draft-06": Dialect(6, "$id", False, None, "definitions"),
    "draft-07": Dialect(7, "$id", False, None, "definitions"),
    "2019-09": Dialect(8, "$id", True, "$recursiveRef", "$defs"),
    "2020-12": Dialect(9, "$id", True, "$dynamicRef", "$defs"),
}
_SINCE: Final[Mapping[str, int]] = {
    **dict.fromkeys(("const", "contains", "propertyNames"), 6),
    **dict.fromkeys(("if", "then", "else"), 7),
    **dict.fromkeys(
        (
            "dependentRequired",
            "dependentSchemas",
            "unevaluatedItems",
            "unevaluatedProperties",
            "minContains",
            "maxContains",
            "$anchor",
        ),
        8,
    ),
    "prefixItems": 9,
}
"""Keyword -> the number of the draft that introduced it."""
_HOLDERS: Final = ("$defs", "definitions")
_NAMING: Final = frozenset("$schema $id $anchor $dynamicAnchor $recursiveAnchor $vocabulary".split())
REMARKS: Final = frozenset(
    "title description default examples example deprecated readOnly writeOnly $comment".split()
)
"""Keywords that never make a value invalid."""
COMBINING: Final = frozenset("$ref $dynamicRef $recursiveRef allOf anyOf oneOf not enum const".split())
"""Keywords that providers refuse next to the `type` of the outermost object."""


class Unportable(Exception):
    """Raised for a schema with references that have a meaning only in its original place."""


class Portable(NamedTuple):
    """A schema of an object whose references lead to its own `$defs`. `wrapped`: its only property is the one that was
    added."""

    schema: dict[str, Any]
    wrapped: bool


def portable(schema: Mapping[str, Any], key: str) -> Portable:
    """Rewrites a schema that has passed `compile_schema` into the form that providers accept: an object (another kind of
    value is put under `key`), with plain references only. The same values are valid. Unused definitions are left out.

    Raises Unportable.
    """
    document = _Document(schema)
    start = document.landing()
    wrapped = not _is_object(document.value(start))
    if wrapped:
        start = ()
    writer = _Writer(document, start, wrapped)
    written: dict[str, Any] = writer.write(start, outermost=True)
    if start and schema.keys() & REMARKS and document.dialect.siblings:
        written |= {name: schema[name] for name in REMARKS if name in schema}
    if wrapped:
        written = {
            "type": "object",
            "properties": {key: writer.write(()) if () in writer.names else written},
            "required": [key],
            "additionalProperties": False,
        }
    if "$schema" in schema:
        written = {"$schema": schema["$schema"], **written}
    if defs := writer.definitions():
        written[document.dialect.definitions] = defs
    if document.strange and not is_schema(written):
        raise Unportable("it refers to a value that is not a schema")
    return Portable(written, wrapped)


def _is_object(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "object" and not schema.keys() & COMBINING


def _dialect(schema: Mapping[str, Any], otherwise: Dialect) -> Dialect:
    name = schema.get("$schema")
    if isinstance(name, str):
        for key, dialect in DIALECTS.items():
            if key in name:
                return dialect
    return otherwise


class _Place(NamedTuple):
    """A schema within the document. `base` is the URI that its relative references are relative to."""

    schema: Mapping[str, Any]
    base: str
    dialect: Dialect

    @property
    def alone(self) -> bool:
        """True if a reference here makes all keywords next to it ignored."""
        return "$ref" in self.schema and not self.dialect.siblings


class _Document:
    """A schema with all schemas in it, indexed by pointer, URI and anchor."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.dialect = _dialect(root, DIALECTS["2020-12"])
        self.places: dict[Pointer, _Place] = {}
        self._resources: dict[str, Pointer] = {"": ()}
        self._anchors: dict[tuple[str, str], Pointer] = {}
        self._dynamic: dict[str, list[Pointer]] = {}
        self.strange = False
        """True if a reference leads to a place that no keyword makes a schema, and that was therefore not checked."""
        self._visit((), root, "", self.dialect)

    def value(self, at: Pointer) -> Any:
        found: Any = self.root
        for step in at:
            found = found[step]
        return found

    def landing(self) -> Pointer:
        """The target of the root if the root is only a reference; the root otherwise."""
        at: Pointer = ()
        for _ in range(8):
            place = self.places.get(at)
            if place is None or "$ref" not in place.schema:
                return at
            rest = place.schema.keys() - REMARKS - _NAMING - {"$ref", place.dialect.id, *_HOLDERS}
            if rest and not place.alone:
                return at
            at = self.target(place, "$ref")
        return at

    def references(self, at: Pointer) -> Iterator[tuple[str, Pointer]]:
        """Yields the references directly in a schema, each with its target."""
        place = self.places[at]
        for key in ("$ref", place.dialect.dynamic):
            if key is not None and key in place.schema:
                yield key, self.target(place, key)

    def target(self, place: _Place, key: str) -> Pointer:
        """Resolves a reference. Raises Unportable if it leads outside, or not always to the same place."""
        reference = place.schema[key]
        if not isinstance(reference, str):
            raise Unportable(f"{key} is {reference!r}")
        at = self._resolve(reference, place.base)
        if key == "$dynamicRef":
            name = reference.partition("#")[2]
            if at in self._dynamic.get(name, ()) and len(self._dynamic[name]) > 1:
                raise Unportable(f"{key} {reference!r} has several targets")
        elif key == "$recursiveRef" and at in self._dynamic.get("", ()) and len(self._dynamic[""]) > 1:
            raise Unportable(f"{key} {reference!r} has several targets")
        return at

    def _resolve(self, reference: str, base: str) -> Pointer:
        uri, _, fragment = reference.partition("#")
        resource = _join(base, uri) if uri else base
        root = self._resources.get(resource)
        if root is None:
            raise Unportable(f"{reference!r} is outside of the schema")
        fragment = unquote(fragment)
        if not fragment:
            return root
        if not fragment.startswith("/"):
            if (found := self._anchors.get((resource, fragment))) is None:
                raise Unportable(f"{reference!r} leads nowhere")
            return found
        at, value = root, self.value(root)
        for step in fragment[1:].split("/"):
            name: str | int = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list | tuple) and str(name).isdecimal() and int(name) < len(value):
                name = int(name)
            elif not isinstance(value, Mapping) or name not in value:
                raise Unportable(f"{reference!r} leads nowhere")
            at, value = (*at, name), value[name]
        if not isinstance(value, Mapping | bool):
            raise Unportable(f"{reference!r} leads to a value that is not a schema")
        if at not in self.places and isinstance(value, Mapping):
            # a place that no keyword makes a schema: it is one because something refers to it
            self.strange = True
            around = next(
                self.places[at[:size]] for size in range(len(at), -1, -1) if at[:size] in self.places
            )
            self._visit(at, value, around.base, around.dialect)
        return at

    def _visit(self, at: Pointer, schema: Any, base: str, dialect: Dialect) -> None:
        waiting = [(at, schema, base, dialect)]
        while waiting:
            at, schema, base, dialect = waiting.pop()
            if at in self.places or not isinstance(schema, Mapping):
                continue
            dialect = _dialect(schema, dialect) if at else dialect
            place = _Place(schema, base, dialect)
            name = schema.get(self.dialect.id)  # the root's keyword decides, as in the validator
            if isinstance(name, str) and not place.alone:
                uri, _, anchor = name.partition("#")
                if uri:
                    base = _join(base, uri)
                    place = place._replace(base=base)
                    self._resources.setdefault(base, at)
                if anchor and not dialect.siblings:  # how drafts before 2019-09 write an anchor
                    self._anchors.setdefault((base, anchor), at)
            self.places[at] = place
            if dialect.siblings:
                self._note_anchors(at, place)
            waiting += [((*at, *way), item, base, dialect) for way, item in children(schema)]

    def _note_anchors(self, at: Pointer, place: _Place) -> None:
        schema = place.schema
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(schema.get(key), str):
                self._anchors.setdefault((place.base, schema[key]), at)
        if place.dialect.dynamic == "$dynamicRef" and isinstance(schema.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(schema["$dynamicAnchor"], []).append(at)
        if place.dialect.dynamic == "$recursiveRef" and schema.get("$recursiveAnchor") is True:
            self._dynamic.setdefault("", []).append(at)


def _reads_alike(place: _Place, dialect: Dialect) -> bool:
    """True if a schema means the same under another draft, once the writer has left out the keywords its own draft
    ignores."""
    own, schema = place.dialect, place.schema
    if own is dialect:
        return True
    if "$ref" in schema and own.siblings and not dialect.siblings:
        return False
    if own.dynamic in schema or isinstance(schema.get("items"), list) or "additionalItems" in schema:
        return False
    if any(isinstance(schema.get(key), bool) for key in ("exclusiveMinimum", "exclusiveMaximum")):
        return False
    return not any(dialect.number < _SINCE.get(key, 0) <= own.number for key in schema)


def _join(base: str, uri: str) -> str:
    if urlsplit(uri).scheme:
        return uri
    return urljoin(base, uri) or uri


class _Writer:
    """Writes the reachable part of a document, each referenced schema under its own name."""

    def __init__(self, document: _Document, start: Pointer, wrapped: bool) -> None:
        self._document = document
        self._start = start
        self.names = self._name(self._reach(), wrapped)

    def _reach(self) -> list[Pointer]:
        """The referenced places, in order of first appearance."""
        document = self._document
        targets: dict[Pointer, None] = {}
        seen: set[Pointer] = set()
        waiting = [self._start]
        while waiting:
            at = waiting.pop()
            if at in seen or at not in document.places:
                continue
            seen.add(at)
            place = document.places[at]
            if not _reads_alike(place, document.dialect):
                raise Unportable("a part of the schema is of another draft")
            for _, target in document.references(at):
                targets.setdefault(target)
                waiting.append(target)
            if not place.alone:
                waiting += [(*at, *way) for way, _ in children(place.schema) if way[0] not in _HOLDERS]
        return list(targets)

    def _name(self, targets: list[Pointer], wrapped: bool) -> dict[Pointer, str]:
        """Names: `#` for the root if it stays the root, a definition name for all others."""
        names: dict[Pointer, str] = {}
        taken: set[str] = set()
        order: dict[Pointer, int] = {
            (holder, name): number
            for holder in _HOLDERS
            if isinstance(self._document.root.get(holder), Mapping)
            for number, name in enumerate(self._document.root[holder])
        }
        for at in sorted(targets, key=lambda at: (at not in order, order.get(at, 0))):
            if not at and not wrapped and not self._start:
                names[at] = ""
                continue
            words = [step for step in at if isinstance(step, str)]
            plain = (
                re.sub(r"[^A-Za-z0-9_.-]+", "_", words[-1] if words else "reply")[:64].strip("_") or "part"
            )
            name, number = plain, 2
            while name in taken:
                name, number = f"{plain}_{number}", number + 1
            taken.add(name)
            names[at] = name
        return names

    def definitions(self) -> dict[str, Any]:
        return {name: self.write(at, outermost=True) for at, name in self.names.items() if name}

    def write(self, at: Pointer, *, outermost: bool = False) -> Any:
        """The schema at a place, or a reference if the place has a name (unless `outermost`)."""
        if not outermost and at in self.names:
            return {"$ref": self._written(at)}
        place = self._document.places.get(at)
        if place is None:
            return self._document.value(at)  # true or false
        kept = {key: value for key, value in place.schema.items() if self._stays(key, value, place)}
        out = rebuilt(kept, lambda way, _: self.write((*at, *way)))
        for key, target in self._document.references(at):
            if key != "$ref" and "$ref" in out:
                raise Unportable("two references in one schema")
            out["$ref"] = self._written(target)
        if isinstance(mapping := _mapping(out.get("discriminator")), Mapping):
            out["discriminator"] = {
                **out["discriminator"],
                "mapping": {name: self._mapped(value, place) for name, value in mapping.items()},
            }
        return out

    def _stays(self, key: str, value: Any, place: _Place) -> bool:
        dialect = place.dialect
        if place.alone:
            return key == "$ref" or key in REMARKS
        if key in _HOLDERS or key in _NAMING or key == dialect.dynamic:
            return False
        if key == dialect.id and isinstance(value, str):
            return False
        if key in ("enum", "const") and _refers(value):
            raise Unportable("a value looks like a reference, and providers read it as one")
        if _SINCE.get(key, 0) > dialect.number or (key == "additionalItems" and dialect.number >= 9):
            return False
        return key in _MEANING or key == "discriminator" or not _refers(value)

    def _written(self, target: Pointer) -> str:
        name = self.names[target]
        return f"#/{self._document.dialect.definitions}/{name}" if name else "#"

    def _mapped(self, value: Any, place: _Place) -> Any:
        try:
            return self._written(self._document._resolve(value, place.base)) if "#" in value else value
        except (Unportable, KeyError, TypeError):
            return value


_MEANING: Final = frozenset(
    "$ref properties patternProperties dependentSchemas dependencies items additionalItems unevaluatedItems contains "
    "additionalProperties unevaluatedProperties propertyNames not if then else anyOf oneOf allOf prefixItems enum const "
    "contentSchema".split()
)
"""Keywords whose values are rewritten, or are data; a reference in any other keyword is not one."""


def _mapping(discriminator: Any) -> Any:
    return discriminator.get("mapping") if isinstance(discriminator, Mapping) else None


def _refers(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            if "$ref" in item:
                return True
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return False
