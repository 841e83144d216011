"""Parameters of tools in the form that providers accept.

OpenAI, Anthropic and others refuse a whole request if a tool's schema has `anyOf`, `oneOf`, `allOf`, `not`, `enum` or
`const` next to its outermost `type`. Such a tool is sent with a wider schema: the properties of all alternatives,
required only if every valid argument object has them. The arguments are still validated against the tool's own schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REFUSED: Final = frozenset(("anyOf", "oneOf", "allOf", "not", "enum", "const"))
_DEEPEST: Final = 8


def acceptable(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tool in an accepted form; the same object if its parameters are already accepted."""
    function = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, Mapping) else None
    if (
        not isinstance(function, Mapping)
        or not isinstance(parameters, Mapping)
        or not parameters.keys() & REFUSED
    ):
        return tool
    # strict mode does not support these either
    wider = {key: value for key, value in function.items() if key != "strict"} | {
        "parameters": widened(parameters)
    }
    return {**tool, "function": wider}


def widened(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A wider schema without the refused keywords; every object valid for the given schema is valid for it."""
    reading = _Reading(parameters)
    properties = reading.properties()
    own = _part(parameters, "properties", Mapping)
    out = {key: value for key, value in parameters.items() if key not in REFUSED}
    out["properties"] = {
        name: own[name] if name in own else found[0] if len(found) == 1 else {"anyOf": found}
        for name, found in properties.items()
    }
    required = reading.required(parameters)
    if names := [name for name in properties if name in required]:
        out["required"] = names
    return out


class _Reading:
    """The properties of an object according to a schema and its alternatives. Each schema is read once, even if
    recursive."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._required: dict[int, set[str]] = {}

    def properties(self) -> dict[str, list[Any]]:
        """The schemas of each named property, in order."""
        found: dict[str, list[Any]] = {}
        seen: set[int] = set()
        waiting: list[Any] = [self._root]
        while waiting:
            schema = self._landed(waiting.pop(0))
            if id(schema) in seen:
                continue
            seen.add(id(schema))
            for name, part in _part(schema, "properties", Mapping).items():
                if part not in found.setdefault(name, []):
                    found[name].append(part)
            waiting += [way for key in ("allOf", "anyOf", "oneOf") for way in _part(schema, key, list)]
        return found

    def required(self, schema: Any) -> set[str]:
        """The properties that every valid object has."""
        schema = self._landed(schema)
        if id(schema) not in self._required:
            self._required[id(schema)] = set()  # while being read, it requires nothing of itself
            found = {*_part(schema, "required", list)}
            for way in _part(schema, "allOf", list):
                found |= self.required(way)
            for key in ("anyOf", "oneOf"):
                if ways := _part(schema, key, list):
                    found |= set.intersection(*(self.required(way) for way in ways))
            self._required[id(schema)] = found
        return self._required[id(schema)]

    def _landed(self, schema: Any) -> Mapping[str, Any]:
        """The definition that a reference stands for."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            _, holder, name = (*str(schema["$ref"]).split("/", 2), "", "")[:3]
            schema = _part(self._root, holder, Mapping).get(name)
        return schema if isinstance(schema, Mapping) else {}


def _part(schema: Mapping[str, Any], key: str, kind: type) -> Any:
    found = schema.get(key)
    return found if isinstance(found, kind) else kind() if kind is list else {}
