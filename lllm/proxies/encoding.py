"""How a value is written in a URL, a header or a cookie: the styles of OpenAPI 3.1, which are those of RFC 6570.

    style            place           [3, 4] as "ids"                  {"x": 1} as "at"
    simple           path, header    3,4                              x,1        exploded: x=1
    label            path            .3,4         exploded: .3.4      .x,1       exploded: .x=1
    matrix           path            ;ids=3,4     exploded: ;ids=3;ids=4
    form             query, cookie   ids=3,4      exploded: ids=3&ids=4
    spaceDelimited   query           ids=3%204
    pipeDelimited    query           ids=3%7C4
    deepObject       query                                            at%5Bx%5D=1
    content          query           JSON

An empty list, an empty object and null are left out, and so is null within them (RFC 6570, section 2.3). What is nested deeper
than a style can say is written as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from lllm.errors import ToolError
from lllm.models.parts import File, Image
from lllm.proxies.parameters import Parameter

_SEPARATORS: Final = {
    "form": ",",
    "simple": ",",
    "label": ".",
    "matrix": ";",
    "spaceDelimited": "%20",
    "pipeDelimited": "%7C",
}
_LEAD: Final = {"label": ".", "matrix": ";"}
_RESERVED: Final = ":/?#[]@!$&'()*+,;="
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]*")
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_LEADS_ELSEWHERE: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\;]|$)|[\x00-\x1f\x7f]")
_EXACT: Final = 2**53
"""Below it every whole number is a float of its own."""


def encode(text: str, safe: str = "-._~") -> str:
    """Percent-encodes text. ToolError where it is not valid Unicode."""
    if _PLAIN.fullmatch(text):
        return text
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        raise ToolError(f"an argument is text that is not valid Unicode: {text[:80]!r}") from None


def scalar(value: Any) -> str:
    """A value that is not nested, as text; JSON where it is. ToolError for what is neither."""
    if isinstance(value, str):
        return value
    if value.__class__ is int:
        return str(value)
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, float):
        if value - value != 0.0:
            raise ToolError(f"a number of an argument must be finite, got {value!r}")
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, bytes | bytearray | File | Image):
        raise ToolError(f"a file can only be (a part of) a body, got {type(value).__name__} in a text")
    return as_json(value)


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8. ToolError for what is none."""
    try:
        found = orjson.dumps(value)
        if b"null" not in found:  # which may be NaN
            return found
    except TypeError:
        pass
    text = as_json(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolError(f"an argument is text that is not valid Unicode: {text[:80]!r}") from None


def as_json(value: Any) -> str:
    """Compact JSON. ToolError for what is none: NaN, a number of thousands of digits, a cycle."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"an argument cannot be written as JSON: {error}") from None


def query_pairs(one: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    """The encoded names and values of a query or cookie parameter, or of a field of a form."""
    name = encode(one.wire)
    if value.__class__ is str and not one.style and not one.allow_reserved:
        yield name, encode(value)
        return
    style = one.style or "form"
    explode = one.explode if one.explode is not None else style in ("form", "deepObject")
    if style == "content":
        yield name, encode(as_json(value))
        return
    safe = "-._~" + (
        _RESERVED.replace("&", "").replace("#", "").replace("+", "") if one.allow_reserved else ""
    )

    def text(item: Any) -> str:
        return encode(scalar(item), safe)

    if isinstance(value, Mapping):
        each = {str(key): item for key, item in value.items() if item is not None}
        if style == "deepObject":
            yield from _deep(name, each, safe)
        elif explode:
            yield from ((encode(key), text(item)) for key, item in each.items())
        elif each:
            flat = [part for key, item in each.items() for part in (encode(key), text(item))]
            yield name, _SEPARATORS.get(style, ",").join(flat)
    elif isinstance(value, list | tuple):
        items = [text(item) for item in value if item is not None]
        if explode:
            yield from ((name, item) for item in items)
        elif items:
            yield name, _SEPARATORS.get(style, ",").join(items)
    elif value is not None:
        yield name, text(value)


def _deep(name: str, value: Mapping[str, Any], safe: str) -> Iterator[tuple[str, str]]:
    """`at[x][y]=1`, encoded: OpenAPI says nothing of levels below the first; these are written as most servers read them."""
    for key, item in value.items():
        inner = f"{name}%5B{encode(str(key))}%5D"
        if isinstance(item, Mapping):
            yield from _deep(inner, item, safe)
        elif isinstance(item, list | tuple):
            yield from ((inner, encode(scalar(one), safe)) for one in item if one is not None)
        elif item is not None:
            yield inner, encode(scalar(item), safe)


def path_text(one: Parameter, value: Any) -> str:
    """A path parameter as it stands in the path.

    Raises:
        ToolError: it is empty, or would lead elsewhere: `.` and `..`, alone or between slashes; or it has control characters.
            Servers decode `%2F` before they look at a path, so encoding does not help.
    """
    if not one.style and (value.__class__ is int or (value.__class__ is str and _WORD.fullmatch(value))):
        return str(value)
    style = one.style or "simple"
    explode = bool(one.explode)
    name = encode(one.wire)
    safe = "-._~/" if one.allow_reserved else "-._~"

    def text(item: Any) -> str:
        found = scalar(item)
        if _LEADS_ELSEWHERE.search(found):
            raise ToolError(f"'{one.name}' is part of a path: it must not be {found[:80]!r}")
        return encode(found, safe)

    if isinstance(value, Mapping):
        each = [(text(key), text(item)) for key, item in value.items() if item is not None]
        if explode:
            written = _SEPARATORS[style].join(f"{key}={item}" for key, item in each)
        else:
            written = ",".join(part for pair in each for part in pair)
            written = f"{name}={written}" if style == "matrix" and each else written
    elif isinstance(value, list | tuple):
        items = [text(item) for item in value if item is not None]
        if style == "matrix":
            written = ";".join(f"{name}={item}" for item in items) if explode else f"{name}={','.join(items)}"
            written = written if items else ""
        else:
            written = (_SEPARATORS[style] if explode else ",").join(items)
    else:
        written = text(value)
        if written and style == "matrix":
            written = f"{name}={written}"
    if not written.strip("./,"):
        raise ToolError(f"'{one.name}' is part of a path: it must not be {value!r}")
    return _LEAD.get(style, "") + written


def header_text(one: Parameter, value: Any) -> str:
    """A header's value: not percent-encoded. ToolError for characters that a header cannot hold."""
    if one.style == "content":
        text = scalar(value) if _is_file(value) else json.dumps(value, separators=(",", ":"), allow_nan=False)
    elif isinstance(value, Mapping):
        between = "=" if one.explode else ","
        text = ",".join(f"{key}{between}{scalar(item)}" for key, item in value.items() if item is not None)
    elif isinstance(value, list | tuple):
        text = ",".join(scalar(item) for item in value if item is not None)
    else:
        text = scalar(value)
    if not text.isascii() or not text.replace("\t", " ").isprintable():
        raise ToolError(
            f"'{one.name}' is a header: it must be ASCII without line breaks and control characters, got {text[:80]!r}"
        )
    return text.strip()


def _is_file(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | File | Image)
