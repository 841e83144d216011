"""Discriminators: which branch a value belongs to is written into the branches, as a `const` or `enum` of the property.

Without it `oneOf` refuses what fits two branches, and a model does not know what to write. A parent whose children name it in
their `allOf` stands for any of its children.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lllm.proxies.openapi.document import Document, Place
from lllm.proxies.openapi.problems import Unusable

if TYPE_CHECKING:
    from lllm.proxies.openapi.schemas import Schemas

_SCHEMAS = "#/components/schemas/"


class Parents:
    """Schemas with a discriminator whose children name them in their `allOf`."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._children: dict[str, list[str]] | None = None

    def children(self, place: Place) -> list[str]:
        """The pointers of the schemas below a parent; none where it is no parent."""
        if (
            place.document is not self.document
            or not isinstance(place.value, dict)
            or not isinstance(place.value.get("discriminator"), dict)
            or any(key in place.value for key in ("oneOf", "anyOf"))
        ):
            return []
        if self._children is None:
            self._children = self._find()
        return self._children.get(place.pointer, [])

    def _find(self) -> dict[str, list[str]]:
        components = self.document.root.get("components")
        schemas = components.get("schemas") if isinstance(components, dict) else None
        direct: dict[str, list[str]] = {}
        for name, schema in schemas.items() if isinstance(schemas, dict) else ():
            listed = schema.get("allOf") if isinstance(schema, dict) else None
            for one in listed if isinstance(listed, list) else ():
                if isinstance(one, dict) and isinstance(one.get("$ref"), str):
                    direct.setdefault(one["$ref"], []).append(
                        f"{_SCHEMAS}{name.replace('~', '~0').replace('/', '~1')}"
                    )
        found = {}
        for parent in direct:
            below: dict[str, None] = {}
            open_ = list(reversed(direct[parent]))
            while open_:
                child = open_.pop()
                if child not in below and child != parent:
                    below[child] = None
                    open_ += reversed(direct.get(child, []))
            found[parent] = list(below)
        return found


def any_of(schemas: Schemas, place: Place) -> dict[str, Any]:
    """A parent as a choice between its children."""
    discriminator = place.value["discriminator"]
    branches = []
    for pointer in schemas.parents.children(place):
        target = place.document.resolve(pointer)
        if not schemas.parents.children(target):
            branches.append(_branch(schemas, target, discriminator))
    if not branches:
        raise Unusable(f"{place.pointer}: its discriminator has no schema without children")
    found: dict[str, Any] = {"oneOf": branches}
    schemas.annotate(place.value, found)
    return found


def mark_branches(schemas: Schemas, place: Place, found: dict[str, Any]) -> None:
    """Writes the property's values into the branches of `oneOf` or `anyOf`."""
    discriminator = place.value["discriminator"]
    if not isinstance(discriminator, dict) or not isinstance(discriminator.get("propertyName"), str):
        return  # it decides nothing that the branches do not
    for key in ("oneOf", "anyOf"):
        given = place.value.get(key)
        if not isinstance(given, list):
            continue
        for n, branch in enumerate(given):
            if isinstance(branch, dict) and isinstance(branch.get("$ref"), str):
                target = place.document.resolve(branch["$ref"])
                found[key][n] = _branch(schemas, target, discriminator)


def _branch(schemas: Schemas, target: Place, discriminator: dict[str, Any]) -> dict[str, Any]:
    name = discriminator.get("propertyName")
    reference = {"$ref": f"#/$defs/{schemas.name_of(schemas.target(target))}"}
    if not isinstance(name, str):
        return reference
    values, own = _values(target, discriminator), _declared(target, name, set())
    if own is not None:
        values = [value for value in values if value in own]
        if not values or (len(own) == len(values) == 1):
            return reference  # the branch says it itself
    said: dict[str, Any] = {"const": values[0]} if len(values) == 1 else {"enum": values}
    return {**reference, "properties": {name: said}, "required": [name]}


def _values(target: Place, discriminator: dict[str, Any]) -> list[str]:
    """The values of the property that lead to a schema: by the mapping, else its name."""
    own = target.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    mapping = discriminator.get("mapping")
    found = []
    for value, ref in mapping.items() if isinstance(mapping, dict) else ():
        if ref in (own, target.pointer) or ref == f"{_SCHEMAS}{own}":
            found.append(value)
    return found or [own]


def _declared(place: Place, name: str, seen: set[int]) -> list[Any] | None:
    """The values that a schema itself allows for the property; None where it says nothing."""
    try:
        value = place.document.follow(place).value
    except Unusable:
        return None
    if not isinstance(value, dict) or id(value) in seen or len(seen) > 100:
        return None
    seen.add(id(value))
    properties = value.get("properties")
    one = properties.get(name) if isinstance(properties, dict) else None
    if isinstance(one, dict) and "const" in one:
        return [one["const"]]
    if isinstance(one, dict) and isinstance(one.get("enum"), list):
        return list(one["enum"])
    listed = value.get("allOf")
    for item in listed if isinstance(listed, list) else ():
        if (found := _declared(Place(place.document, "", item), name, seen)) is not None:
            return found
    return None
