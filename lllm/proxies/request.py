"""An endpoint's arguments as an HTTP request. Lists and objects are written as OpenAPI 3.1 says (`style`, `explode`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from lllm.errors import ConfigError, ToolError
from lllm.models.parts import File, Image
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.parameters import Parameter

STYLES: Final = {
    # place: style, explode, as OpenAPI has them where none is declared
    "path": ("simple", False),
    "query": ("form", True),
    "header": ("simple", False),
    "cookie": ("form", True),
}
_SEPARATORS: Final = {
    "form": ",",
    "simple": ",",
    "spaceDelimited": "%20",
    "pipeDelimited": "%7C",
    "label": ".",
    "matrix": ";",
}
_UNRESERVED: Final = "-._~"


@dataclass(slots=True)
class HttpRequest:
    """A request that can be sent.

    Attributes:
        method, url: as they are sent; the URL is encoded, without credentials.
        headers: without credentials. body: bytes, or None. parts: of a multipart body, instead of it.
        address: of the endpoint.
    """

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    parts: list[tuple[str, str | None, str, bytes]] | None = None
    address: str = ""


def build(
    endpoint: Endpoint, arguments: Mapping[str, Any], base_url: str, headers: Mapping[str, str]
) -> HttpRequest:
    """The request of a call. `arguments` are JSON (or files), and fit the endpoint's schema.

    Raises:
        ToolError: a value that cannot be part of a path (empty, or `..`) or of a header.
    """
    path, query, cookies = endpoint.path, [], []
    sent = {"Accept": endpoint.accept, **headers, **endpoint.options.get("headers", {})}
    body: dict[str, Any] = {}
    content: Any = None
    has_content = False
    for one in endpoint.parameters:
        if one.name not in arguments:
            continue
        value = arguments[one.name]
        if value is None and one.place != "content" and not _nullable(one):
            continue  # an argument that was left out
        match one.place:
            case "path":
                path = path.replace(f"{{{one.wire}}}", _path_value(endpoint, one, value))
            case "query":
                query += list(pairs(one, value))
            case "header":
                sent[one.wire] = _header_value(endpoint, one, value)
            case "cookie":
                cookies += [f"{name}={text}" for name, text in pairs(one, value)]
            case "body":
                body[one.wire] = value
            case _:
                content, has_content = value, True
    if cookies:
        sent["Cookie"] = "; ".join(cookies)
    request = HttpRequest(
        endpoint.method,
        join(endpoint.options.get("base_url") or base_url, path),
        sent,
        address=endpoint.address,
    )
    if query:
        mark = "&" if "?" in request.url else "?"
        request.url += mark + "&".join(f"{name}={text}" for name, text in query)
    if has_content or body:
        _write_body(endpoint, request, content if has_content else body, has_content)
    return request


def join(base_url: str, path: str) -> str:
    """The URL of a path below a base URL; a path that is a URL stays as it is."""
    if "://" in path.partition("?")[0].partition("/{")[0]:
        return path
    if not path:
        return base_url
    return f"{base_url.rstrip('/')}/{path.lstrip('/')}"


def pairs(one: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    """The encoded names and values by which a query or cookie parameter is written."""
    style = one.style or STYLES[one.place][0]
    explode = one.explode if one.explode is not None else style in ("form", "deepObject")
    name = _encode(one.wire)
    if style == "content":  # OpenAPI's parameters with a media type
        yield name, _encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    elif isinstance(value, Mapping):
        if style == "deepObject":
            yield from _deep(name, value)
        elif explode:
            for key, item in value.items():
                yield _encode(str(key)), _encode(_text(item))
        else:
            flat = [_encode(text) for key, item in value.items() for text in (str(key), _text(item))]
            yield name, _SEPARATORS.get(style, ",").join(flat)
    elif isinstance(value, list | tuple):
        if explode:
            for item in value:
                yield name, _encode(_text(item))
        else:
            yield name, _SEPARATORS.get(style, ",").join(_encode(_text(item)) for item in value)
    else:
        yield name, _encode(_text(value))


def _deep(name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        inner = f"{name}[{_encode(str(key))}]"
        if isinstance(item, Mapping):
            yield from _deep(inner, item)
        elif isinstance(item, list | tuple):
            for one in item:
                yield inner, _encode(_text(one))
        else:
            yield inner, _encode(_text(item))


def _path_value(endpoint: Endpoint, one: Parameter, value: Any) -> str:
    style = one.style or "simple"
    explode = bool(one.explode)
    lead = {"label": ".", "matrix": ";"}.get(style, "")
    if isinstance(value, Mapping):
        each = [(_encode(str(key)), _encode(_text(item))) for key, item in value.items()]
        if explode:
            written = _SEPARATORS[style].join(f"{key}={item}" for key, item in each)
        else:
            written = ",".join(part for pair in each for part in pair)
            written = f"{_encode(one.wire)}={written}" if style == "matrix" else written
    elif isinstance(value, list | tuple):
        items = [_encode(_text(item)) for item in value]
        if style == "matrix":
            name = _encode(one.wire)
            written = ";".join(f"{name}={item}" for item in items) if explode else f"{name}={','.join(items)}"
        else:
            written = (_SEPARATORS[style] if explode else ",").join(items)
    else:
        text = _text(value)
        if text in ("", ".", ".."):
            raise ToolError(f"'{endpoint.address}': '{one.name}' is part of a path, and must not be {text!r}")
        written = f"{_encode(one.wire)}={_encode(text)}" if style == "matrix" else _encode(text)
    if not written:
        raise ToolError(f"'{endpoint.address}': '{one.name}' is part of a path, and must not be empty")
    return lead + written


def _header_value(endpoint: Endpoint, one: Parameter, value: Any) -> str:
    if isinstance(value, Mapping):
        between = "=" if one.explode else ","
        text = ",".join(f"{key}{between}{_text(item)}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        text = ",".join(_text(item) for item in value)
    else:
        text = _text(value)
    if any(char in text for char in "\r\n\0") or not text.isprintable():
        raise ToolError(f"'{endpoint.address}': '{one.name}' is a header, and must have no line breaks")
    if not text.isascii():
        raise ToolError(f"'{endpoint.address}': '{one.name}' is a header, and must be ASCII, got {text!r}")
    return text


def _write_body(endpoint: Endpoint, request: HttpRequest, value: Any, whole: bool) -> None:
    kind = endpoint.content.partition(";")[0].strip().lower()
    writer = _WRITERS.get(kind) or (_json if kind.endswith("+json") else _raw)
    if kind != "multipart/form-data":  # its boundary is still to come
        request.headers.setdefault("Content-Type", endpoint.content)
    writer(endpoint, request, value)


def _json(endpoint: Endpoint, request: HttpRequest, value: Any) -> None:
    try:
        request.body = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ToolError(f"'{endpoint.address}': the arguments are not JSON: {error}") from error


def _form(endpoint: Endpoint, request: HttpRequest, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ToolError(f"'{endpoint.address}': a form is an object, got {type(value).__name__}")
    fields = {one.wire: one for one in endpoint.parameters if one.place == "body"}
    each: list[tuple[str, str]] = []
    for name, item in value.items():
        one = fields.get(name)
        place = Parameter(
            name, name, place="query", style=one.style if one else "", explode=one.explode if one else None
        )
        each += list(pairs(place, item))
    request.body = "&".join(f"{name}={text.replace('%20', '+')}" for name, text in each).encode()


def _multipart(endpoint: Endpoint, request: HttpRequest, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ToolError(f"'{endpoint.address}': a multipart body is an object, got {type(value).__name__}")
    fields = {one.wire: one for one in endpoint.parameters if one.place == "body"}
    request.parts = []
    for name, given in value.items():
        one = fields.get(name)
        for item in given if isinstance(given, list) else [given]:
            request.parts.append(_part(name, item, one))


def _part(name: str, item: Any, one: Parameter | None) -> tuple[str, str | None, str, bytes]:
    """Name, file name, media type and bytes of one part."""
    declared = one.media_type if one is not None else ""
    if isinstance(item, File):
        return name, item.name, declared or item.media_type, item.data
    if isinstance(item, Image):
        return name, f"{name}.{item.media_type.rpartition('/')[2]}", declared or item.media_type, item.data
    binary = one is not None and _is_binary(one.schema)
    if isinstance(item, bytes):
        return name, name, declared or "application/octet-stream", item
    if isinstance(item, Mapping | list):
        return name, None, declared or "application/json", json.dumps(item, ensure_ascii=False).encode()
    kind = declared or ("application/octet-stream" if binary else "text/plain; charset=utf-8")
    return name, name if binary else None, kind, _text(item).encode()


def _is_binary(schema: Mapping[str, Any]) -> bool:
    inner = schema.get("items", schema) if schema.get("type") == "array" else schema
    return inner.get("format") == "binary" or "contentMediaType" in inner


def _raw(endpoint: Endpoint, request: HttpRequest, value: Any) -> None:
    """Text and binary bodies."""
    if isinstance(value, File | Image):
        request.body = value.data
    elif isinstance(value, bytes):
        request.body = value
    elif isinstance(value, Mapping | list):
        _json(endpoint, request, value)
    else:
        request.body = _text(value).encode()


_WRITERS: Final[Mapping[str, Callable[[Endpoint, HttpRequest, Any], None]]] = {
    "application/json": _json,
    "application/x-www-form-urlencoded": _form,
    "multipart/form-data": _multipart,
}


def _text(value: Any) -> str:
    """A scalar as it is written: JSON's words for true and false; JSON itself for what is nested too deep."""
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _encode(text: str) -> str:
    try:
        return quote(text, safe=_UNRESERVED)
    except UnicodeEncodeError:
        raise ToolError(f"an argument is text that is not valid Unicode: {text!r}") from None


def _nullable(one: Parameter) -> bool:
    kind = one.schema.get("type")
    return one.place == "body" and (
        kind == "null" or (isinstance(kind, list) and "null" in kind) or _has_null(one.schema)
    )


def _has_null(schema: Mapping[str, Any]) -> bool:
    """Whether null is a value of its own, rather than the default of an argument that was left out."""
    if "default" in schema and schema["default"] is None:
        return False
    return schema.get("nullable") is True or any(
        isinstance(one, Mapping) and one.get("type") == "null"
        for key in ("anyOf", "oneOf")
        for one in schema.get(key, ())
    )


def check_base_url(base_url: str, proxy: str) -> None:
    """Raises ConfigError for a base URL that no request can be sent to."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port is not False
    except ValueError:
        valid = None
    if not valid:
        raise ConfigError(f"proxy '{proxy}': base_url must be http:// or https://, got {base_url!r}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"proxy '{proxy}': base_url holds a user or a password",
            hint='Write auth = Basic(user_env="...", password_env="...").',
        )
