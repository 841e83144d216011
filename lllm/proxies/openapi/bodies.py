"""Request bodies: an object's properties as arguments, anything else as one."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.objects import merged, object_of
from lllm.proxies.openapi.parts import Argument
from lllm.proxies.openapi.problems import Unusable, mapping, shown
from lllm.proxies.openapi.schemas import Schemas

_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")
_AS_JSON: Final = ("text/json", "application/x-json", "text/x-json")
"""Older names of JSON; it is sent by its own."""
_TEXTS: Final = ("xml", "yaml", "javascript", "graphql", "jsonl", "ndjson", "json-seq", "sql", "csv", "toml")
BINARY: Final = {"type": "string", "format": "binary"}


class Body(NamedTuple):
    """A body as arguments. `content`: its media type. `optional`: whether nothing is sent where no property is given."""

    content: str = "application/json"
    arguments: tuple[Argument, ...] = ()
    optional: bool = False


def read_body(place: Place, schemas: Schemas, notes: list[str]) -> Body:
    """Reads a `requestBody`.

    Raises:
        Unusable: it cannot be read, or is of a media type that arguments cannot be written in.
    """
    place = place.document.follow(place)
    value = mapping(place.value, "requestBody")
    content = mapping(value.get("content", {}), "requestBody/content")
    if not content:
        return Body()
    required = value.get("required") is True
    name = _preferred(content)
    if len(content) > 1:
        notes.append(
            f"its body is sent as {shown(name)}; also possible: {shown(', '.join(k for k in content if k != name))}"
        )
    media = place.at("content", name)
    mapping(media.value, f"requestBody/content/{name}")
    kind = _kind(name)
    content_type = "application/json" if "*" in name or _base(name) in _AS_JSON else name
    if not content_type.isascii() or not content_type.isprintable():
        raise Unusable(f"requestBody/content: {shown(name)!r} is not a media type")
    schema = media.at("schema") if "schema" in media.value else None
    text = _description(value)
    if kind in ("binary", "text"):
        return Body(content_type, (_raw(schema, schemas, kind, name, required, text),))
    flat = object_of(schema, schemas) if schema is not None else None
    if flat is None:
        found = (
            schemas.convert(schema) if schema is not None else {"type": "object"} if kind == "form" else {}
        )
        if text and isinstance(found, dict) and "description" not in found:
            found = {**found, "description": text}
        return Body(content_type, (Argument("body", "content", found, required, example=_example(media)),))
    encoding = media.value.get("encoding")
    arguments = []
    whole = _example(media)
    for wire, places in flat.properties.items():
        argument = Argument(
            wire, "body", merged([schemas.convert(each) for each in places]), wire in flat.required
        )
        if isinstance(whole, dict) and wire in whole:
            argument = argument._replace(example=whole[wire])
        if kind == "form" and isinstance(encoding, dict) and isinstance(encoding.get(wire), dict):
            argument = _encoded(argument, encoding[wire], _base(name) == _FORMS[0], notes)
        arguments.append(argument)
    if not required and any(one.required for one in arguments):
        notes.append("its body is optional, but has required properties: these are required arguments")
    return Body(content_type, tuple(arguments), not required and not any(one.required for one in arguments))


def _preferred(content: dict[str, Any]) -> str:
    """JSON first, then forms, text, and bytes; XML of an object last, for it cannot be written."""
    order = ("json", "form", "text", "binary")

    def rank(name: str) -> tuple[int, int, bool, int]:
        media = content[name]
        schema = media.get("schema") if isinstance(media, dict) else None
        kind = _kind(name)
        nested = kind in ("text", "binary") and isinstance(schema, dict) and not _is_plain(schema)
        return nested, order.index(kind), not _base(name).startswith(("application/json", *_FORMS[:1])), 0

    return min(content, key=rank)


def _base(name: str) -> str:
    """A media type without its parameters."""
    return name.partition(";")[0].strip().lower()


def _kind(name: str) -> str:
    kind = _base(name)
    if kind in ("application/json", "*/*", "application/*", *_AS_JSON) or kind.endswith("+json"):
        return "json"
    if kind in _FORMS:
        return "form"
    return "text" if kind.startswith("text/") or kind.endswith(_TEXTS) else "binary"


def _is_plain(schema: dict[str, Any]) -> bool:
    """True if it can be a text or bytes, as far as can be seen without following references."""
    return schema.get("type", "string") not in ("object", "array") and not any(
        key in schema for key in ("properties", "items", "$ref", "allOf", "oneOf", "anyOf")
    )


def _raw(schema: Place | None, schemas: Schemas, kind: str, name: str, required: bool, text: str) -> Argument:
    """A body of text or bytes."""
    found: Any = schemas.convert(schema) if schema is not None else {}
    nested = isinstance(found, dict) and (
        found.get("type", "string") in ("object", "array")
        or any(key in found for key in ("$ref", "properties", "items"))
    )
    if nested or not isinstance(found, dict):
        raise Unusable(f"its body is {shown(name)}: an object or list cannot be written so")
    if kind == "binary":
        found = {**BINARY, **{key: item for key, item in found.items() if key == "description"}}
    elif "type" not in found:
        found = {"type": "string", **found}
    if text and "description" not in found:
        found = {**found, "description": text}
    return Argument("body", "content", found, required)


def _description(value: dict[str, Any]) -> str:
    from lllm.proxies.openapi.texts import clean, cut

    return cut(clean(value.get("description")), 200)


def _example(media: Place) -> Any:
    """The first example of a body."""
    if "example" in media.value:
        return media.value["example"]
    examples = media.value.get("examples")
    for name in examples if isinstance(examples, dict) else ():
        try:
            one = media.document.follow(media.at("examples", name)).value
        except Unusable:
            continue
        if isinstance(one, dict) and "value" in one:
            return one["value"]
    return None


def _encoded(argument: Argument, encoding: dict[str, Any], multipart: bool, notes: list[str]) -> Argument:
    """A field of a form, as its `encoding` says."""
    kind = encoding.get("contentType")
    if (
        multipart
        and isinstance(kind, str)
        and "," not in kind
        and "*" not in kind
        and kind.isascii()
        and kind.isprintable()
    ):
        argument = argument._replace(media_type=kind)
    if multipart and encoding.get("headers"):
        notes.append(f"the headers of the part '{shown(argument.wire)}' are not sent")
    if not multipart:
        style, explode = encoding.get("style"), encoding.get("explode")
        if style in ("form", "spaceDelimited", "pipeDelimited", "deepObject"):
            argument = argument._replace(style=style)
        if isinstance(explode, bool):
            argument = argument._replace(explode=explode)
        if encoding.get("allowReserved") is True:
            argument = argument._replace(allow_reserved=True)
    return argument
