"""Schemas of a document as JSON Schema 2020-12, which is what arguments are judged by.

A `$ref` stays one: what it leads to becomes a shared schema of the module, once, so that recursion is no problem. Schemas of
plain values are written out where they are used, for they say more there. What is nested deeper than DEEPEST becomes a shared
schema, too: a page of closing brackets helps nobody.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, Final, Literal

from lllm.proxies.openapi import discriminators, keywords
from lllm.proxies.openapi.document import Document, Place, escaped
from lllm.proxies.openapi.identifiers import ascii_of, mark
from lllm.proxies.openapi.objects import object_of
from lllm.proxies.openapi.problems import Unusable, kind_of, mapping, shown
from lllm.proxies.openapi.texts import clean, cut

DEEPEST: Final = 4
"""Levels of objects within one schema of the module."""
DESCRIPTION: Final = 300
"""Characters of a schema's description."""
_SIMPLE: Final = frozenset(
    """
    type enum const format pattern default minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength
    description examples contentEncoding contentMediaType
    """.split()
)
_SIMPLE_SIZE: Final = 400
_GENERIC: Final = frozenset(
    "components schemas paths properties content schema requestBody responses items allOf anyOf oneOf".split()
)
_TOGETHER: Final = (
    "allOf",
    "properties",
    "required",
    "type",
    "additionalProperties",
    "unevaluatedProperties",
)
MOST_WAYS: Final = 100_000
LEAD: Final = "#/$defs/"

Direction = Literal["in", "out"]


class Schemas:
    """The schemas of one import.

    Arguments:
        direction: `in` for arguments, which have no `readOnly` properties; `out` for answers, which have no `writeOnly` ones.

    Attributes:
        shared: by name, those that others refer to.
    """

    def __init__(self, document: Document, direction: Direction = "in") -> None:
        self.document = document
        self.hidden = "readOnly" if direction == "in" else "writeOnly"
        self.shared: dict[str, Any] = {}
        self._failed: dict[str, Unusable] = {}
        self._names: dict[tuple[int, str, bool], str] = {}
        self._taken: set[str] = set()
        self._waiting: list[tuple[str, Place, bool]] = []
        self._checked: dict[str, int] = {}
        """By name, in how many ways a value may be judged by a schema."""
        self._recursive: dict[str, bool] = {}
        self.parents = discriminators.Parents(document)

    @cached_property
    def components(self) -> frozenset[str]:
        """The names that the document's components have as shared schemas."""
        listed = self.document.top("components")
        schemas = listed.get("schemas") if isinstance(listed, dict) else None
        named = schemas if isinstance(schemas, dict) else {}
        return frozenset(_name(f"#/components/schemas/{escaped(str(name))}") for name in named)

    # --- from outside

    def convert(self, place: Place) -> Any:
        """A schema, with references to shared ones.

        Raises:
            Unusable: it is not one, or refers to one that is not, or nowhere.
        """
        found = self._convert(place, 0)
        self._complete(found)
        return found

    def closure(self, schema: Any) -> dict[str, Any]:
        """The shared schemas that a converted one refers to, directly or not."""
        found: dict[str, Any] = {}
        open_ = _names_in(schema)
        while open_:
            name = open_.pop()
            if name not in found and name in self.shared:
                found[name] = self.shared[name]
                open_ += _names_in(found[name])
        return found

    def is_recursive(self, name: str) -> bool:
        """True if a shared schema refers to itself, directly or not."""
        if name not in self._recursive:
            self._recursive[name] = name in self.closure(self.shared.get(name))
        return self._recursive[name]

    # --- shared schemas

    def _complete(self, schema: Any) -> None:
        """Converts what waits. Unusable where something that the schema refers to has failed."""
        while self._waiting:
            name, place, base = self._waiting.pop()
            try:
                self.shared[name] = (
                    discriminators.any_of(self, place)
                    if not base and self.parents.children(place)
                    else self._convert(place, 0)
                )
            except Unusable as problem:
                self._failed[name] = problem
        seen: set[str] = set()
        open_ = _names_in(schema)
        while open_:
            name = open_.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._failed:
                raise self._failed[name]
            self._check_circle(name)
            open_ += _names_in(self.shared[name])

    def _check_circle(self, name: str) -> None:
        """Unusable where a schema judges a value by itself: no value can be judged so."""
        if self._checked.get(name, MOST_WAYS + 1) <= MOST_WAYS:
            return
        path: dict[str, None] = {}
        open_: list[tuple[str, bool]] = [(name, True)]
        while open_:
            one, enter = open_.pop()
            if not enter:
                path.pop(one, None)
                self._checked[one] = 1 + sum(self._checked.get(other, 1) for other in self._in_place(one))
                if self._checked[one] > MOST_WAYS:
                    raise Unusable(
                        f"{shown(one)}: its alternatives have alternatives, more than a value can be judged by"
                    )
                continue
            if one in path:
                circle = ", ".join((*list(path)[list(path).index(one) :], one))
                raise Unusable(f"allOf or the like leads to itself: {shown(circle)}")
            if one in self._checked or one not in self.shared:
                if self._checked.get(one, 0) > MOST_WAYS:
                    raise Unusable(
                        f"{shown(one)}: its alternatives have alternatives, more than a value can be judged by"
                    )
                continue
            path[one] = None
            open_.append((one, False))
            open_ += [(other, True) for other in self._in_place(one)]

    def _in_place(self, name: str) -> list[str]:
        """The shared schemas that a shared one judges the same value by."""
        return _names_in(self.shared.get(name), in_place=True)

    def name_of(self, place: Place, base: bool = False) -> str:
        """The name of a shared schema. `base`: of a parent with a discriminator, without its children."""
        base = base and bool(self.parents.children(place))
        key = (id(place.document), place.pointer, base)
        if (known := self._names.get(key)) is not None:
            return known
        name = _name(place.pointer) + ("_base" if base else "")
        if name in self._taken:
            file = "" if place.document is self.document else place.document.label
            name = f"{name}_{mark(file + place.pointer)}"
        self._names[key] = name
        self._taken.add(name)
        self._waiting.append((name, place, base))
        return name

    # --- conversion

    def _convert(self, place: Place, depth: int, base: bool = False) -> Any:
        """`base`: within the allOf of another schema, where a parent stands for itself."""
        value = place.value
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            raise Unusable(f"{place.pointer}: a schema must be an object, got {kind_of(value)}")
        if "$ref" in value:
            return self._reference(place, depth, base)
        if depth > DEEPEST and _is_nested(value):
            return {"$ref": f"{LEAD}{self.name_of(place)}"}
        found = self._keywords(place, depth)
        return self._nullable(value, found)

    def _reference(self, place: Place, depth: int, base: bool) -> Any:
        target = self.target(place)
        if isinstance(target.value, bool):
            return target.value
        if not isinstance(target.value, dict):
            raise Unusable(
                f"'{shown(place.value['$ref'])}' leads to no schema, but to {kind_of(target.value)}"
            )
        beside = {key: item for key, item in place.value.items() if key != "$ref"}
        if self.document.minor == 0:
            beside = {key: item for key, item in beside.items() if key in ("description", "nullable")}
        rest = self._keywords(Place(place.document, place.pointer, beside), depth) if beside else {}
        simple = self._simple(target)
        if simple is None:
            found: dict[str, Any] = {"$ref": f"{LEAD}{self.name_of(target, base)}", **rest}
        elif any(
            key in simple and simple[key] != item
            for key, item in rest.items()
            if key not in ("description", "default", "examples")
        ):
            found = {"allOf": [simple, rest]}
        else:
            found = {**simple, **rest}
        return self._nullable(beside, found)

    def target(self, place: Place) -> Place:
        """Returns the end of a chain of references: a schema that says something itself."""
        seen: set[tuple[int, str]] = set()
        while isinstance(place.value, dict) and "$ref" in place.value:
            if seen and self.document.minor > 0 and len(place.value) > 1:
                break
            key = (id(place.document), place.pointer)
            if key in seen:
                raise Unusable(f"the reference '{shown(place.value['$ref'])}' refers to itself")
            seen.add(key)
            place = place.document.resolve(place.value["$ref"])
        return place

    def _simple(self, place: Place) -> dict[str, Any] | None:
        """The schema of plain values that is written out where it is used; None for others."""
        if _is_nested(place.value) or "discriminator" in place.value or "$ref" in place.value:
            return None
        found = self._nullable(place.value, self._keywords(place, 0))
        if (
            not isinstance(found, dict)
            or not found.keys() <= _SIMPLE
            or len(json.dumps(found)) > _SIMPLE_SIZE
        ):
            return None
        return found

    def _keywords(self, place: Place, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = place.value
        found: dict[str, Any] = {}
        dropped: set[str] = set()
        together = self._merge_all_of(place, depth)
        if together is not None:
            value = {key: item for key, item in value.items() if key not in _TOGETHER}
            found = together
        for key, item in value.items():
            at = f"{place.pointer}/{key}"
            below = Place(place.document, at, item)
            if key == "properties":
                found[key], dropped = self._properties(below, depth)
            elif key in keywords.SCHEMAS:
                found[key] = {name: self._convert(below.at(name), depth + 1) for name in mapping(item, at)}
            elif key in keywords.SCHEMA_LISTS or (key == "items" and isinstance(item, list)):
                if not isinstance(item, list) or not item:
                    raise Unusable(f"{at} must be a list of schemas, got {kind_of(item)}")
                listed = [
                    self._convert(below.at(n), depth + 1, base=key == "allOf") for n in range(len(item))
                ]
                found["prefixItems" if key == "items" else key] = listed
            elif key in keywords.SCHEMA:
                found[key] = self._convert(below, depth + 1)
            elif key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(item, bool):
                continue  # JSON Schema draft 4, as in OpenAPI 3.0: see below
            elif key == "default" and not keywords.is_sendable(item):
                continue
            elif (check := keywords.PLAIN.get(key)) is not None:
                found[key] = check(item, at)
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if value.get(exclusive) is True and bound in found:
                found[exclusive] = found.pop(bound)
        if (pattern := found.get("pattern")) is not None:
            found["pattern"] = _pattern(pattern, f"{place.pointer}/pattern")
        if dropped and "required" in found:
            found["required"] = [name for name in found["required"] if name not in dropped]
        if found.get("required") == []:
            del found["required"]
        if "discriminator" in value:
            discriminators.mark_branches(self, place, found)
        if found.keys() == {"allOf"} and len(found["allOf"]) == 1 and isinstance(found["allOf"][0], dict):
            found = dict(found["allOf"][0])
        self.annotate(value, found)
        return found

    def _merge_all_of(self, place: Place, depth: int) -> dict[str, Any] | None:
        """Several objects in `allOf` as one; None where they are not such. Each that allows no other properties would refuse
        those of the others, which nobody means."""
        listed = place.value.get("allOf")
        if not isinstance(listed, list) or (len(listed) < 2 and "properties" not in place.value):
            return None
        together = object_of(place, self)
        if together is None or (together.null and place.value.get("nullable") is not True):
            return None
        return together.schema(lambda below: self._convert(below, depth + 1))

    def _properties(self, place: Place, depth: int) -> tuple[dict[str, Any], set[str]]:
        """The properties, and the names of those that are left out."""
        found, dropped = {}, set()
        for name in mapping(place.value, place.pointer):
            below = place.at(name)
            if self.hides(below) or not keywords.is_sendable(name):
                dropped.add(name)
            else:
                found[name] = self._convert(below, depth + 1)
        return found, dropped

    def hides(self, place: Place) -> bool:
        """True if a property is `readOnly` (for answers: `writeOnly`)."""
        value = place.value
        if isinstance(value, dict) and "$ref" in value and self.hidden not in value:
            try:
                value = place.document.follow(place).value
            except Unusable:
                return False
        return isinstance(value, dict) and value.get(self.hidden) is True

    def annotate(self, value: dict[str, Any], found: dict[str, Any]) -> None:
        """Description and examples."""
        if text := cut(clean(value.get("description")), DESCRIPTION):
            found["description"] = text
        if value.get("deprecated") is True:
            found["deprecated"] = True
        examples = value.get("examples")
        example = value.get("example", examples[0] if isinstance(examples, list) and examples else None)
        if example is not None and keywords.is_sendable(example) and len(json.dumps(example)) <= DESCRIPTION:
            found["examples"] = [example]

    def _nullable(self, value: dict[str, Any], found: Any) -> Any:
        """`nullable: true` of OpenAPI 3.0 as a type. An enum without null gets it: servers follow that custom."""
        if value.get("nullable") is not True or not isinstance(found, dict):
            return found
        kind = found.get("type")
        if kind is not None:
            each = kind if isinstance(kind, list) else [kind]
            found = {**found, "type": [*each, *(["null"] if "null" not in each else [])]}
            if isinstance(found.get("enum"), list) and None not in found["enum"]:
                found["enum"] = [*found["enum"], None]
            if "const" in found:
                found["enum"] = [found.pop("const"), None]
            return found
        outer = {
            key: found[key] for key in ("description", "default", "examples", "deprecated") if key in found
        }
        inner = {key: item for key, item in found.items() if key not in outer}
        return {"anyOf": [inner, {"type": "null"}], **outer} if inner else found


def _is_nested(value: dict[str, Any]) -> bool:
    return any(key in value for key in (*keywords.SCHEMA, *keywords.SCHEMAS, *keywords.SCHEMA_LISTS))


_BRACE: Final = re.compile(r"(\\.)|\{(?!\d+(?:,\d*)?\})|(?<![\d,])\}")


def _pattern(pattern: str, at: str) -> str:
    """A pattern as the validator reads it: of JavaScript's, that with braces that stand for themselves differs."""
    from jsonschema_rs import Draft202012Validator

    for form in (pattern, _BRACE.sub(lambda found: found[1] or f"\\{found[0]}", pattern)):
        try:
            Draft202012Validator({"pattern": form})
        except ValueError:
            continue
        return form
    raise Unusable(f"{at} is not a regular expression: {shown(pattern)}")


def _name(pointer: str) -> str:
    """The name of what a pointer leads to: the schema's own, or the last names on the way."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if parts[:2] == ["components", "schemas"]:
        parts = parts[2:]
    own = [part for part in parts if part not in _GENERIC and not part.isdigit()] or parts
    words = [
        re.sub(r"[^0-9A-Za-z_.-]+", "_", ascii_of(part)).strip("_")
        for part in (own if len(own) < 4 else own[-3:])
    ]
    name = "_".join(filter(None, words))[:60]
    return name or f"schema_{mark(pointer)}"


def _names_in(schema: Any, in_place: bool = False) -> list[str]:
    """The shared schemas that a schema refers to; `in_place`: those that judge the same value."""
    found: list[str] = []
    open_: list[Any] = [schema]
    while open_:
        item = open_.pop()
        if isinstance(item, dict):
            name = item.get("$ref")
            if isinstance(name, str) and name.startswith(LEAD):
                found.append(name[len(LEAD) :])
            open_ += (
                [below for key, below in item.items() if key in keywords.IN_PLACE]
                if in_place
                else item.values()
            )
            if in_place and isinstance(item.get("dependentSchemas"), dict):
                open_ += item["dependentSchemas"].values()
        elif isinstance(item, list):
            open_ += item
    return found
