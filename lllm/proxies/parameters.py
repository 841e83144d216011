"""Parameters of an endpoint: what a caller gives, and where each goes in the request.

    params={
        "query*": (str, "AAPL"),                     # required, with an example
        "$ticker*": (str, "AAPL"),                   # part of the path
        "limit": {"type": int, "default": 10, "minimum": 1, "description": "How many."},
        "since": {"type": datetime.date, "place": "header", "name": "X-Since"},
    }

or the typed signature of the method, whose annotations and docstring say the same. Entries of `params` are laid over those of
the signature.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from lllm.errors import ConfigError, UnknownKeyError, listing

Place = Literal["path", "query", "header", "cookie", "body", "content"]
PLACES: Final = get_args(Place)
"""`body`: a property of the body, which is an object or a form. `content`: the whole body."""

TYPES: Final[Mapping[Any, Mapping[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    type(None): {"type": "null"},
    Any: {},
    bytes: {"type": "string", "format": "binary"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    **{
        name: {"type": name} for name in ("string", "integer", "number", "boolean", "array", "object", "null")
    },
}

_OWN: Final = (
    "type",
    "required",
    "place",
    "name",
    "example",
    "style",
    "explode",
    "media_type",
    "until",
    "allow_reserved",
    "schema",
)
KEYWORDS: Final = frozenset(
    """
    description title default enum const format pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
    minLength maxLength minItems maxItems uniqueItems items prefixItems contains properties required
    additionalProperties patternProperties propertyNames minProperties maxProperties unevaluatedProperties
    anyOf oneOf allOf not if then else $ref $defs discriminator nullable examples deprecated readOnly writeOnly
    contentEncoding contentMediaType dependentRequired dependentSchemas
    """.split()
)
"""Keywords of JSON Schema that may stand beside those of a parameter; others go into `schema`."""
_ARGUMENT: Final = re.compile(r"[^0-9A-Za-z_]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an endpoint.

    Attributes:
        name: the argument's name, an identifier. wire: its name in the request.
        schema: its JSON schema, with description, default and examples.
        required: whether a call must give it. place: see PLACES.
        style, explode: how lists and objects are written, as in OpenAPI; "" and None for the place's default.
        media_type: of a part of a multipart body.
        until: whether it is the end of a period: with a cutoff date, it is that date unless it is given.
        sent_default: whether its default is sent where it is not given: that of a signature is, while that of `params` is
            what the server does by itself.
        allow_reserved: whether characters with a meaning in URLs stay as they are: `/` in a path, `:/?[]@!$'()*,;=` in a query.
    """

    name: str
    wire: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False
    place: Place = "query"
    style: str = ""
    explode: bool | None = None
    media_type: str = ""
    until: bool = False
    sent_default: bool = False
    allow_reserved: bool = False

    @property
    def dated(self) -> bool:
        """True if its value is a date or a time, or a list of such."""
        each = [self.schema, *self.schema.get("anyOf", ()), *self.schema.get("oneOf", ())]
        each += [one["items"] for one in each if isinstance(one, Mapping) and "items" in one]
        return any(one.get("format") in ("date", "date-time") for one in each if isinstance(one, Mapping))

    @property
    def example(self) -> Any:
        """A value to try it with: its first example, default or enum; None where none is known."""
        for found in (self.schema.get("examples"), self.schema.get("enum")):
            if isinstance(found, list | tuple) and found:
                return found[0]
        return self.schema.get("default", self.schema.get("const"))


def read(params: Mapping[str, Any] | None, where: str, usual: Place) -> list[Parameter]:
    """Reads the notation above. `usual` is the place of those that name none.

    Raises:
        ConfigError: an entry that cannot be read. UnknownKeyError: a key that nobody reads.
    """
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"{where}: params must be a mapping, got {type(params).__name__}")
    return [
        _one(str(key), value, f"{where}: parameter '{key}'", usual) for key, value in (params or {}).items()
    ]


def laid_over(base: Iterable[Parameter], params: Mapping[str, Any] | None, where: str) -> list[Parameter]:
    """Parameters of a signature, with the entries of `params` for some of them."""
    found = {one.name: one for one in base}
    for key, value in (params or {}).items():
        name = str(key).strip("$*")
        if (one := found.get(name)) is None:
            raise ConfigError(
                f"{where}: params has '{name}', which its signature has not",
                hint=f"The signature has {listing(found) or 'none'}.",
            )
        given = _one(str(key), value, f"{where}: parameter '{name}'", one.place)
        schema = {**one.schema, **given.schema}
        if "type" in given.schema and isinstance(value, tuple) and "type" not in one.schema:
            schema.pop("type")  # the annotation is more exact than the type beside an example
        found[name] = replace(
            given,
            name=one.name,
            wire=given.wire if given.wire != _argument(name) else one.wire,
            schema=schema,
            required=one.required or given.required,
        )
    return list(found.values())


IN_BASE64: Final = "The file's bytes in base64, or a data: URL."


def is_file(schema: Mapping[str, Any]) -> bool:
    """True if a schema says that a value is, or may be, bytes: `format: binary` (OpenAPI 3.0), or `contentMediaType` without
    `contentEncoding` (3.1)."""
    each = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return any(_is_bytes(one) for one in each if isinstance(one, Mapping))


def _is_bytes(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "binary" or (
        "contentMediaType" in schema and "contentEncoding" not in schema
    )


def in_base64(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema whose files are text, as those who can only write text are told: in base64."""
    found = dict(schema)
    if _is_bytes(found):
        found.pop("format", None)
        said = str(found.get("description") or "").rstrip()
        return {**found, "contentEncoding": "base64", "description": f"{said} {IN_BASE64}".strip()}
    if isinstance(found.get("items"), Mapping):
        found["items"] = in_base64(found["items"])
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(found.get(key), list):
            found[key] = [in_base64(one) if isinstance(one, Mapping) else one for one in found[key]]
    return found


def arguments_schema(parameters: Iterable[Parameter], *, sent: bool = False) -> dict[str, Any]:
    """The JSON schema of an endpoint's arguments. `sent`: they become a request, for which files may be given in base64."""
    properties: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    required = []
    for one in parameters:
        schema = in_base64(one.schema) if sent else dict(one.schema)
        shared.update(schema.pop("$defs", {}))
        properties[one.name] = schema
        if one.required:
            required.append(one.name)
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        found["required"] = required
    found["additionalProperties"] = False
    if shared:
        found["$defs"] = shared
    return found


def _one(key: str, value: Any, where: str, usual: Place) -> Parameter:
    required, in_path = key.endswith("*"), key.startswith("$")
    wire = key.removesuffix("*").removeprefix("$")
    place: Any = "path" if in_path else usual
    if isinstance(value, Mapping):
        schema = _schema(value, where)
        wire = value.get("name", wire)
        place = value.get("place", place)
        if place not in PLACES:
            raise ConfigError(f"{where}: unknown place {place!r}", hint=f"Known: {listing(PLACES)}.")
        wanted = value.get("required", False)
        required = required or wanted is True or place == "path"
        return Parameter(
            _argument(key.removesuffix("*").removeprefix("$")),
            wire,
            schema,
            required,
            place,
            style=value.get("style", ""),
            explode=value.get("explode"),
            media_type=value.get("media_type", ""),
            until=bool(value.get("until", False)),
            allow_reserved=bool(value.get("allow_reserved", False)),
        )
    schema = {}
    if isinstance(value, tuple) and 1 <= len(value) <= 3 and not isinstance(value[0], tuple):
        schema = schema_of(value[0], where)
        if len(value) > 1 and value[1] is not None:
            schema["examples"] = [_plain(value[1])]
        if len(value) > 2:
            schema["description"] = str(value[2])
    else:
        schema = schema_of(value, where)
    return Parameter(_argument(wire), wire, schema, required or in_path, place)


def _schema(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key in value:
        if key not in _OWN and key not in KEYWORDS and not str(key).startswith("x-"):
            raise UnknownKeyError(str(key), (*_OWN, *sorted(KEYWORDS)), where=where)
    schema = dict(value.get("schema", {}))
    if "type" in value:
        schema |= schema_of(value["type"], where)
    schema |= {
        key: _plain(item)
        for key, item in value.items()
        if key in KEYWORDS and not (key == "required" and isinstance(item, bool))
    }
    if "example" in value:
        schema["examples"] = [_plain(value["example"])]
    return schema


def schema_of(kind: Any, where: str) -> dict[str, Any]:
    """The JSON schema of a type: Python's, JSON's by name, or any annotation that pydantic knows."""
    try:
        if (known := TYPES.get(kind)) is not None:
            return dict(known)
    except TypeError:  # an unhashable annotation, or a list of types
        if isinstance(kind, list) and all(isinstance(one, str) for one in kind):
            return {"type": kind}
    if isinstance(kind, Mapping):
        return dict(kind)
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(kind).json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise ConfigError(
            f"{where}: unknown type {kind!r}",
            hint="Write a Python type, as in (str, 'AAPL'), a JSON type, as in 'string', or a JSON schema.",
        ) from error


def _plain(value: Any) -> Any:
    """A value of a declaration as JSON."""
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value


def _argument(wire: str) -> str:
    """An identifier for a name in a request: `X-Since` -> `X_Since`."""
    from keyword import iskeyword

    name = _ARGUMENT.sub("_", wire).strip("_") or "value"
    if name[0].isdigit():
        name = f"n{name}"
    return f"{name}_" if iskeyword(name) else name
