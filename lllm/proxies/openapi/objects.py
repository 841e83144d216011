"""Objects as their properties: those of a schema, and of the schemas in its `allOf`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.keywords import is_sendable, names
from lllm.proxies.openapi.problems import Unusable, kind_of, mapping, shown

if TYPE_CHECKING:
    from lllm.proxies.openapi.schemas import Schemas

_FREE: Final = frozenset(
    """
    oneOf anyOf not if then else patternProperties propertyNames minProperties maxProperties dependentRequired
    dependentSchemas const enum
    """.split()
)
"""Keywords that judge an object as a whole: its properties alone cannot be judged by them."""
_DEEPEST: Final = 50
"""Schemas in the allOf of one another, up to which their properties are put together."""


class Object:
    """The properties that an object may have.

    Attributes:
        properties: by name, the schemas that each must fit. required: names. closed: whether it may have no others.
        null: whether null may take its place.
    """

    def __init__(self) -> None:
        self.properties: dict[str, list[Place]] = {}
        self.required: set[str] = set()
        self.closed = self.null = False
        self._hidden: set[str] = set()
        self._added: set[tuple[int, str]] = set()

    def schema(self, convert: Callable[[Place], Any]) -> dict[str, Any]:
        """The object as one schema."""
        found: dict[str, Any] = {"type": "object"}
        found["properties"] = {
            name: merged([convert(place) for place in places]) for name, places in self.properties.items()
        }
        order = {name: n for n, name in enumerate(dict.fromkeys([*self.properties, *sorted(self.required)]))}
        if required := sorted(self.required - self._hidden, key=order.__getitem__):
            found["required"] = required
        if self.closed:
            found["additionalProperties"] = False
        return found

    def add(self, place: Place, schemas: Schemas, within: tuple[tuple[int, str], ...] = ()) -> bool:
        """Adds what a schema says of an object; False where it says more than properties can."""
        if isinstance(place.value, dict) and "$ref" in place.value:
            beside = {key: item for key, item in place.value.items() if key != "$ref"}
            if schemas.document.minor > 0 and not self.add(
                Place(place.document, place.pointer, beside), schemas, within
            ):
                return False
            place = schemas.target(place)
            if not within and schemas.parents.children(place):
                return False
        key = (id(place.document), place.pointer)
        if key in within:
            raise Unusable(f"allOf leads to itself: {shown(place.pointer)}")
        if key in self._added:
            return True  # once is enough, and parents of parents of parents are reached by very many ways
        self._added.add(key)
        if len(within) >= _DEEPEST:
            return False
        value = place.value
        if not isinstance(value, dict) or "$ref" in value or value.keys() & _FREE:
            return False
        kind = value.get("type", "object")
        kinds = {one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, str)}
        if kinds - {"null"} != {"object"} or (not within and schemas.parents.children(place)):
            return False
        for word in ("additionalProperties", "unevaluatedProperties"):
            if value.get(word, False) is not False:
                return False
            self.closed = self.closed or word in value
        self.null = self.null or "null" in kinds or value.get("nullable") is True
        self._add_properties(place, schemas)
        listed = value.get("allOf", [])
        if not isinstance(listed, list):
            raise Unusable(f"{place.pointer}/allOf must be a list of schemas, got {kind_of(listed)}")
        return all(self.add(place.at("allOf", n), schemas, (*within, key)) for n in range(len(listed)))

    def _add_properties(self, place: Place, schemas: Schemas) -> None:
        properties = mapping(place.value.get("properties", {}), f"{place.pointer}/properties")
        self.required |= set(names(place.value.get("required", []), f"{place.pointer}/required"))
        for name in properties:
            below = place.at("properties", name)
            if schemas.hides(below) or not is_sendable(name):
                self._hidden.add(name)
            else:
                self.properties.setdefault(name, []).append(below)


def object_of(place: Place, schemas: Schemas) -> Object | None:
    """The properties of a schema, with those of the schemas in its `allOf`; None where it has none, or says more."""
    found = Object()
    return found if found.add(place, schemas) and found.properties else None


def merged(each: list[Any]) -> Any:
    """One property that several schemas describe: it must fit all of them."""
    found = each[0]
    for one in each[1:]:
        if one == found:
            continue
        same = (
            isinstance(found, dict)
            and isinstance(one, dict)
            and all(
                found[key] == one[key]
                for key in found.keys() & one.keys()
                if key not in ("description", "examples")
            )
        )
        found = {**found, **one} if same else {"allOf": [found, one]}
    return found
