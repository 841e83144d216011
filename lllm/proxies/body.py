"""The body of a request: JSON, a form, a multipart form, text or bytes, by the endpoint's `content`.

Files are given as bytes, File or Image. A model cannot write bytes: for a file it gives base64, or a `data:` URL.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from lllm.errors import ToolError
from lllm.models.parts import File, Image
from lllm.proxies.encoding import as_json, json_bytes, query_pairs, scalar
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.parameters import Parameter, is_file

_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_DATA_URL: Final = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)


def write_body(endpoint: Endpoint, value: Any) -> tuple[str, bytes]:
    """The content type of a body, and its bytes.

    Raises:
        ToolError: a value that cannot be written so.
    """
    kind = media_type(endpoint.content)
    writer = _WRITERS.get(kind) or (_json if kind.endswith("+json") else _raw)
    return writer(endpoint, value)


def media_type(content: str) -> str:
    """The media type of a Content-Type, in lower case and without parameters."""
    return content.partition(";")[0].strip().lower()


def _json(endpoint: Endpoint, value: Any) -> tuple[str, bytes]:
    return endpoint.content, json_bytes(_files_as_text(value))


def _files_as_text(value: Any) -> Any:
    """JSON has no bytes: files within it are base64 (`contentEncoding` of JSON schema)."""
    kind = value.__class__
    if kind in _SCALARS:
        return value
    if kind is dict and all([item.__class__ in _SCALARS for item in value.values()]):  # noqa: C419  quicker for a few
        return value
    if isinstance(value, File | Image):
        return b64encode(value.data).decode()
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _files_as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_files_as_text(item) for item in value]
    return value


def _form(endpoint: Endpoint, value: Any) -> tuple[str, bytes]:
    each: list[tuple[str, str]] = []
    for name, item, one in _fields(endpoint, value):
        field = Parameter(name, name, style=one.style if one else "", explode=one.explode if one else None)
        if isinstance(item, Mapping) and not (field.style or field.explode is not None):
            item = as_json(item)  # OpenAPI 3.1.1, section 4.8.14.4: an object without a style is JSON
        each += query_pairs(field, item)
    return endpoint.content, "&".join(f"{name}={text.replace('%20', '+')}" for name, text in each).encode()


def _multipart(endpoint: Endpoint, value: Any) -> tuple[str, bytes]:
    parts = [
        _part(name, item, one)
        for name, given, one in _fields(endpoint, value)
        for item in (given if isinstance(given, list | tuple) else [given])
        if item is not None
    ]
    # the same form has the same boundary: a request that is sent again is the same request
    boundary = sha256(b"".join(head + data for head, data in parts)).hexdigest()[:32]
    while any(boundary.encode() in data for _, data in parts):
        boundary = sha256(boundary.encode()).hexdigest()[:32]
    mark = f"--{boundary}".encode()
    body = b"".join(b"%b\r\n%b\r\n\r\n%b\r\n" % (mark, head, data) for head, data in parts)
    return f"multipart/form-data; boundary={boundary}", body + mark + b"--\r\n"


def _part(name: str, item: Any, one: Parameter | None) -> tuple[bytes, bytes]:
    """The headers of one part, and its content."""
    schema: Mapping[str, Any] = one.schema if one is not None else {}
    if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        schema = schema["items"]
    kind, file = one.media_type if one is not None else "", None
    if isinstance(item, str) and (is_file(schema) or kind in _BINARY):
        item = from_text(name, item)
    if isinstance(item, File | Image):
        file = item.name if isinstance(item, File) else f"{name}.{item.media_type.rpartition('/')[2]}"
        kind, data = kind or item.media_type, item.data
    elif isinstance(item, bytes | bytearray):
        kind, file, data = kind or "application/octet-stream", name, bytes(item)
    elif isinstance(item, Mapping | list | tuple):
        kind, data = kind or "application/json", _unicode(as_json(_files_as_text(item)), "utf-8")
    else:
        kind, data = kind or "text/plain; charset=utf-8", _unicode(scalar(item), "utf-8")
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if file is not None:
        head += f'; filename="{_quoted(file)}"'
    return _unicode(f"{head}\r\nContent-Type: {kind}", "utf-8"), data


_BINARY: Final = ("application/octet-stream",)


def _quoted(name: str) -> str:
    """As browsers do (HTML, multipart/form-data encoding algorithm)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\0", "%00")


def _raw(endpoint: Endpoint, value: Any) -> tuple[str, bytes]:
    """Text and bytes. Text has the charset of the content type, else UTF-8."""
    kind = media_type(endpoint.content)
    one = next((one for one in endpoint.parameters if one.place == "content"), None)
    if isinstance(value, str) and not is_text(kind) and (one is None or "contentEncoding" not in one.schema):
        value = from_text(one.name if one is not None else "body", value)
    if isinstance(value, File | Image):
        return (value.media_type if "*" in kind else endpoint.content), value.data
    if isinstance(value, bytes | bytearray):
        return ("application/octet-stream" if "*" in kind else endpoint.content), bytes(value)
    if isinstance(value, Mapping | list | tuple):
        raise ToolError(
            f"'{endpoint.address}': its body is {kind}, so it must be text or a file, got {type(value).__name__}"
        )
    found = re.search(r"charset=\"?([\w.-]+)", endpoint.content, re.IGNORECASE)
    return endpoint.content, _unicode(scalar(value), found[1] if found else "utf-8")


def is_text(kind: str) -> bool:
    """True if a media type is that of text."""
    return kind.startswith("text/") or kind.endswith(
        (
            "xml",
            "json",
            "yaml",
            "javascript",
            "graphql",
            "jsonl",
            "ndjson",
            "sql",
            "csv",
            "x-www-form-urlencoded",
        )
    )


def from_text(name: str, text: str) -> bytes | File:
    """A file that was given as text: base64, or a `data:` URL.

    Raises:
        ToolError: neither.
    """
    if (found := _DATA_URL.match(text)) is not None:
        kind, options, rest = found[1].strip().lower(), found[2].lower(), text[found.end() :]
        data = (
            _base64(name, unquote_to_bytes(rest).decode("latin-1"))
            if ";base64" in options
            else unquote_to_bytes(rest)
        )
        return File(data, name, kind) if re.fullmatch(r"[a-z]+/[a-z0-9.+_-]+", kind) and data else data
    return _base64(name, text)


def _base64(name: str, text: str) -> bytes:
    try:
        plain = "".join(text.split()).replace("-", "+").replace("_", "/")
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (Base64Error, ValueError):
        raise ToolError(
            f"'{name}' is a file: give its bytes in base64, or a data: URL, got {text[:40]!r}"
        ) from None


def _fields(endpoint: Endpoint, value: Any) -> Iterator[tuple[str, Any, Parameter | None]]:
    if not isinstance(value, Mapping):
        raise ToolError(f"'{endpoint.address}': a form must be an object, got {type(value).__name__}")
    known = {one.wire: one for one in endpoint.parameters if one.place == "body"}
    for name, item in value.items():
        yield str(name), item, known.get(name)


def _unicode(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset)
    except UnicodeEncodeError:
        raise ToolError(f"an argument has characters that {charset} cannot hold, got {text[:80]!r}") from None
    except LookupError:
        return _unicode(text, "utf-8")


_WRITERS: Final[Mapping[str, Callable[[Endpoint, Any], tuple[str, bytes]]]] = {
    "application/json": _json,
    "application/x-www-form-urlencoded": _form,
    "multipart/form-data": _multipart,
}
