"""Schemas that the endpoints of a proxy share: `"$ref": "#/$defs/NAME"`, in a parameter, is `schemas["NAME"]` of its class.

A schema may refer to itself. An endpoint's schema gets what it refers to, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LEAD: Final = "#/$defs/"
MOST: Final = 2000


def with_shared(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with those of `shared` that it refers to in its `$defs`. Its own `$defs` come first."""
    own: Mapping[str, Any] = schema.get("$defs", {})
    found: dict[str, Any] = {}
    open_: list[Any] = [schema]
    while open_ and shared:
        item = open_.pop()
        if isinstance(item, Mapping):
            name = item.get("$ref")
            if isinstance(name, str) and name.startswith(LEAD):
                name = name[len(LEAD) :].replace("~1", "/").replace("~0", "~")
                if name in shared and name not in own and name not in found:
                    found[name] = shared[name]
                    open_.append(found[name])
            open_ += item.values()
        elif isinstance(item, list | tuple):
            open_ += item
    if not found:
        return dict(schema)
    return {**schema, "$defs": {**dict(sorted(found.items())), **own}}


def inlined(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with those of `shared` in place of the references to them. One that leads to itself stays a reference into
    `$defs`, and so does every one where the whole would have more than MOST parts."""
    known = {**shared, **schema.get("$defs", {})}
    kept: set[str] = set()
    parts = 0

    def resolved(item: Any, within: tuple[str, ...]) -> Any:
        nonlocal parts
        parts += 1
        if parts > MOST:
            return None
        if isinstance(item, list | tuple):
            return [resolved(one, within) for one in item]
        if not isinstance(item, Mapping):
            return item
        ref = item.get("$ref")
        name = ref[len(LEAD) :].replace("~1", "/").replace("~0", "~") if isinstance(ref, str) else ""
        if not isinstance(ref, str) or not ref.startswith(LEAD) or name not in known:
            return {key: resolved(value, within) for key, value in item.items()}
        if name in within:
            kept.add(name)
            return dict(item)
        beside = {key: resolved(value, within) for key, value in item.items() if key != "$ref"}
        target = resolved(known[name], (*within, name))
        return {**target, **beside} if isinstance(target, dict) else target

    found: dict[str, Any] = resolved({key: value for key, value in schema.items() if key != "$defs"}, ())
    if kept:
        found["$defs"] = {}
        while missing := sorted(kept - found["$defs"].keys()):
            found["$defs"][missing[0]] = resolved(known[missing[0]], (missing[0],))
    return found if parts <= MOST else with_shared(schema, shared)
