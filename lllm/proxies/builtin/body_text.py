"""The body of a web page as text: by the charset that it is in."""

from __future__ import annotations

import codecs
import re
from typing import Final, NamedTuple

from lllm.proxies.answer import charset_of

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META: Final = re.compile(
    rb"<(?:meta|\?xml)\b[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
_HEAD: Final = 4096
"""Bytes of a page in which it may say its charset."""
_AS_WINDOWS: Final = ("iso8859-1", "ascii")
"""Charsets that pages name and do not mean: https://encoding.spec.whatwg.org/#names-and-labels"""


class Body(NamedTuple):
    """Text, the charset that it was in, and how many parts of it were no valid characters: they became U+FFFD."""

    text: str
    charset: str
    invalid: int


def text_of(data: bytes, content_type: str, *, cut: bool = False) -> Body:
    """The text of a body. What decides: a byte order mark, the header, the page itself; else UTF-8 where that fits, else
    Windows-1252. Never fails. `cut`: the body may end within a character."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], name, cut)
    declared = charset_of(content_type)
    if not declared and (found := _META.search(data[:_HEAD])) is not None:
        declared = charset_of(f"charset={found[1].decode('ascii')}")
        if declared.startswith(("utf-16", "utf-32")):
            declared = "utf-8"  # or its own declaration could not have been read
    if declared:
        return _decoded(data, "cp1252" if declared in _AS_WINDOWS else declared, cut)
    body = _decoded(data, "utf-8", cut)
    return body if not body.invalid else _decoded(data, "cp1252", cut)


def _decoded(data: bytes, charset: str, cut: bool) -> Body:
    try:
        decoder = codecs.getincrementaldecoder(charset)("strict")
        return Body(decoder.decode(data, not cut).removeprefix("\ufeff"), charset, 0)
    except UnicodeError:
        pass
    text = data.decode(charset, "replace").removeprefix("\ufeff")
    return Body(text, charset, text.count("\ufffd") - data.count("\ufffd".encode()) * (charset == "utf-8"))
