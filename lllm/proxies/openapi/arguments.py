"""The parameters of an operation: those of its path item, and its own."""

from __future__ import annotations

import re
from typing import Any, Final

from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.parts import Argument
from lllm.proxies.openapi.problems import Unusable, kind_of, mapping, shown
from lllm.proxies.openapi.schemas import Schemas
from lllm.proxies.openapi.texts import clean, cut

STYLES: Final = {
    # place: its styles, the default first
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_IGNORED: Final = ("accept", "content-type", "authorization")
"""Header parameters that have no meaning, by the specification."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset(
    "host content-length transfer-encoding connection keep-alive upgrade te trailer expect".split()
)
_IN_PATH: Final = re.compile(r"\{([^{}]+)\}")
DESCRIPTION: Final = 300


def read_arguments(
    item: Place, operation: Place, path: str, hidden: set[tuple[str, str]], schemas: Schemas, notes: list[str]
) -> tuple[Argument, ...]:
    """Reads the parameters. `hidden`: place and name of those that carry a credential.

    Raises:
        Unusable: one cannot be read, or the path is not as they say.
    """
    found: dict[tuple[str, str], Argument] = {}
    for holder in (item, operation):
        listed = holder.value.get("parameters")
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise Unusable(f"parameters must be a list, got {kind_of(listed)}")
        for n in range(len(listed)):
            one = _read(holder.at("parameters", n), f"parameters/{n}", schemas, notes)
            if one is None:
                continue
            key = (one.place, one.wire.lower() if one.place == "header" else one.wire)
            if key in hidden:
                continue
            found[key] = one
    if "://" in path.partition("?")[0]:
        raise Unusable("its path is an address of its own")  # it must not lead to another server
    in_path = list(dict.fromkeys(_IN_PATH.findall(path)))
    if "{" in _IN_PATH.sub("", path) or "}" in _IN_PATH.sub("", path):
        raise Unusable("its path has a '{' or '}' without the other")
    for place, wire in found:
        if place == "path" and wire not in in_path:
            raise Unusable(f"the path parameter '{shown(wire)}' does not stand in the path")
    for name in in_path:
        if ("path", name) not in found:
            notes.append(f"'{shown(name)}' stands in the path and is not declared: it is taken for text")
            found["path", name] = Argument(name, "path", {"type": "string"}, True)
    return tuple(found.values())


def _read(place: Place, at: str, schemas: Schemas, notes: list[str]) -> Argument | None:
    ref = place.value.get("$ref") if isinstance(place.value, dict) else None
    place = place.document.follow(place)
    value = mapping(place.value, at)
    wire, where = value.get("name"), value.get("in")
    if not isinstance(wire, str) or not wire:
        raise Unusable(f"{at} has no name")
    if where not in tuple(STYLES):  # which may be a list: a tuple is looked through by ==
        raise Unusable(f"{at}: in must be path, query, header or cookie, got {shown(where)}")
    if where == "header":
        if wire.lower() in _IGNORED:
            notes.append(f"the header parameter {wire} is left out, as OpenAPI says")
            return None
        if not _TOKEN.fullmatch(wire) or wire.lower() in _FRAMING:
            raise Unusable(f"{at}: {shown(wire)!r} cannot be the name of a header")
    style, explode = value.get("style"), value.get("explode")
    default = STYLES[where][0]
    if style is not None and style not in STYLES[where]:
        raise Unusable(f"{at}: unknown style {shown(style)!r} for in: {where}")
    if explode is not None and not isinstance(explode, bool):
        raise Unusable(f"{at}: explode must be true or false, got {kind_of(explode)}")
    style = style or default
    schema, style = _schema(place, at, schemas, style)
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if text := cut(clean(value.get("description")), DESCRIPTION):
        schema = {**schema, "description": text}
    if value.get("deprecated") is True:
        schema = {**schema, "deprecated": True}
    if explode == (style in ("form", "deepObject")) or style == "content":
        explode = None
    return Argument(
        wire,
        where,
        schema,
        where == "path" or value.get("required") is True,
        "" if style == default else style,
        explode,
        value.get("allowReserved") is True,
        example=_example(place),
        component=_component(ref),
    )


def _schema(place: Place, at: str, schemas: Schemas, style: str) -> tuple[Any, str]:
    """The schema of a parameter, and its style: `content` where it is written as JSON."""
    content = place.value.get("content")
    if content is None:
        return (schemas.convert(place.at("schema")) if "schema" in place.value else {}), style
    name = next(iter(mapping(content, f"{at}/content")), None)
    if name is None:
        raise Unusable(f"{at}/content has no media type")
    media = place.at("content", name)
    mapping(media.value, f"{at}/content/{name}")
    found = schemas.convert(media.at("schema")) if "schema" in media.value else {}
    is_json = name.partition(";")[0].strip().lower().endswith(("/json", "+json"))
    return found, "content" if is_json else style


def _example(place: Place) -> Any:
    if "example" in place.value:
        return place.value["example"]
    examples = place.value.get("examples")
    for name in examples if isinstance(examples, dict) else ():
        try:
            one = place.document.follow(place.at("examples", name)).value
        except Unusable:
            continue
        if isinstance(one, dict) and "value" in one:
            return one["value"]
    return None


def _component(ref: Any) -> str:
    """The name of the component that a parameter is."""
    lead = "#/components/parameters/"
    return ref[len(lead) :] if isinstance(ref, str) and ref.startswith(lead) else ""
