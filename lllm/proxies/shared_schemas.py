"""Schemas that the endpoints of a proxy share: `"$ref": "#/$defs/NAME"`, in a parameter, is `schemas["NAME"]` of its class.

A schema may refer to itself. An endpoint's schema gets what it refers to, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LEAD: Final = "#/$defs/"


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
