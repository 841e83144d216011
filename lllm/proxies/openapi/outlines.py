"""Outlines of answers' schemas: names, types and alternatives, within a budget, without texts and limits.

A component that an answer consists of, or that refers to itself, stays a `$ref`, and its outline becomes a shared schema of the
module; every other reference is resolved. What is deeper than the budget allows is given by its type alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from lllm.proxies.openapi.schemas import LEAD, Schemas

LONGEST: Final = 1500
"""Characters of JSON of an outline, with the shared schemas that it refers to."""
SHARED: Final = "_answer"
"""The end of the name of a shared outline: arguments may need more of the same component."""
_DEEPEST: Final = 6
_ENUM: Final = 12
_KEPT: Final = ("type", "const", "contentEncoding", "contentMediaType")
_KINDS: Final = ("object", "array", "string", "integer", "number", "boolean", "null")


def outline(schema: Any, schemas: Schemas) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The outline of a converted schema, and the shared outlines that it refers to: as many levels as LONGEST allows, from the
    type alone on. None where nothing can be said of the answer."""
    found: dict[str, Any] | None = None
    shared: dict[str, Any] = {}
    for depth in range(_DEEPEST + 1):
        made = _Outlines(schemas, depth)
        new = made.root(schema)
        if not _says_something(new) or made.left < 0 or len(json.dumps([new, made.shared])) > LONGEST:
            break
        if depth and found == new and shared == made.shared:
            break
        found, shared = new, made.shared
    return found, shared


def _says_something(schema: Mapping[str, Any]) -> bool:
    return any(key in schema for key in ("$ref", "anyOf", "allOf")) or schema.get("type") in _KINDS


class _Outlines:
    """Outlines to one depth.

    Attributes:
        shared: those that stay references, by name. left: schemas that may still be read: of more, the outline is too long.
    """

    def __init__(self, schemas: Schemas, depth: int) -> None:
        self.schemas, self.depth, self.left = schemas, depth, LONGEST
        self.shared: dict[str, Any] = {}
        self._wanted: set[str] = set()

    def root(self, schema: Any) -> dict[str, Any]:
        """The outline of an answer: of a component, or of a list of one, a reference to it."""
        items = schema.get("items") if isinstance(schema, dict) and schema.get("type") == "array" else None
        if (name := _component(items)) is not None:
            found = {"type": "array", "items": self._refer(name)}
        elif (name := _component(schema)) is not None:
            found = self._refer(name)
        else:
            found = self.of(schema, self.depth)
        while self._wanted - self.shared.keys():
            name = min(self._wanted - self.shared.keys())
            self.shared[name] = {}
            self.shared[name] = self.of(self.schemas.shared.get(name, {}), self.depth)
        self.shared = {self._label(name): one for name, one in sorted(self.shared.items())}
        return found

    def _refer(self, name: str) -> dict[str, Any]:
        self._wanted.add(name)
        return {"$ref": f"{LEAD}{self._label(name)}"}

    def _label(self, name: str) -> str:
        """The name of a component's outline. In a document that was exported it has the end already."""
        bare = name.removesuffix(SHARED)
        return name if bare != name and bare not in self.schemas.components else f"{name}{SHARED}"

    def of(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        """The outline of a schema."""
        self.left -= 1
        if not isinstance(schema, dict) or self.left < 0:
            return {}
        found: dict[str, Any] = {}
        if (name := _component(schema)) is not None:
            if self.schemas.is_recursive(name):
                return self._refer(name)
            found = self.of(self.schemas.shared.get(name, {}), depth)
        found |= {key: schema[key] for key in _KEPT if key in schema}
        if isinstance(schema.get("enum"), list) and len(schema["enum"]) <= _ENUM:
            found["enum"] = schema["enum"]
        if str(schema.get("format", "")).startswith("date"):
            found["format"] = schema["format"]
        for key, kept in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
            # without texts and limits several alternatives may fit at once
            if isinstance(schema.get(key), list):
                each = [self.of(one, depth) for one in schema[key]]
                if kept == "anyOf" and not all(each):
                    continue  # anything fits
                listed = [one for n, one in enumerate(each) if one and one not in each[:n]]
                if len(listed) == 1:
                    found = {**listed[0], **found}
                elif listed:
                    found[kept] = listed
        if depth:
            if isinstance(schema.get("properties"), dict):
                found["properties"] = {
                    name: self.of(one, depth - 1) for name, one in schema["properties"].items()
                }
            for key in ("items", "additionalProperties"):
                if isinstance(schema.get(key), dict) and (below := self.of(schema[key], depth - 1)):
                    found[key] = below
            if isinstance(schema.get("prefixItems"), list):
                found["prefixItems"] = [self.of(one, depth - 1) for one in schema["prefixItems"]]
        return found


def _component(schema: Any) -> str | None:
    """The name of the shared schema that a schema refers to, and says nothing else that matters."""
    name = schema.get("$ref") if isinstance(schema, dict) else None
    return name[len(LEAD) :] if isinstance(name, str) and name.startswith(LEAD) else None


def renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """A schema with other names of shared ones."""
    if isinstance(schema, Mapping):
        found = {key: item if key == "examples" else renamed(item, names) for key, item in schema.items()}
        name = _component(schema)
        return found if name is None or name not in names else {**found, "$ref": f"{LEAD}{names[name]}"}
    return [renamed(item, names) for item in schema] if isinstance(schema, list) else schema
