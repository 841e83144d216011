"""Answers of a server: read up to a limit, and turned into a value or an error.

JSON becomes Python values, text becomes text, an image an Image, anything else a File; an empty body None. The content type
says which. Where it is missing, or says text where JSON was asked for, the content does.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from lllm.core.jsonable import DEEPEST, unicode_only
from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
)
from lllm.http.retry_after import retry_after
from lllm.models.checks import deeper
from lllm.models.parts import File, Image
from lllm.proxies.body import is_text, media_type
from lllm.proxies.html_tokens import title_of, tokens

if TYPE_CHECKING:
    from lllm.http.direct import Answering
    from lllm.proxies.credentials import Shown
    from lllm.proxies.endpoint import Endpoint
    from lllm.proxies.exchange import Received

SHOWN: Final = 500
"""Characters of a server's own words in an error."""
_READ_OF_ERROR: Final = 65_536
_KINDS: Final[Mapping[int, type[EndpointError]]] = {
    401: EndpointDenied,
    403: EndpointDenied,
    404: EndpointNotFound,
    407: EndpointDenied,
    408: EndpointServerError,
    410: EndpointNotFound,
    429: EndpointRateLimited,
}
_CHARSETS: Final = re.compile(
    r"utf-8|utf-8-sig|utf-16|utf-32|utf-16-[lb]e|utf-32-[lb]e|ascii|iso8859-\d+|cp\d+|koi8-[rut]|mac-\w+|gb\w+|big5\w*|shift_jis\w*"
    r"|euc_\w+|iso2022_\w+|johab|hz|tis-620|hp-roman8|ptcp154|kz1048"
)
"""Charsets that are read as declared. Not among them: codecs of Python that are no charsets, or slow ones (punycode)."""
_INFINITE: Final = re.compile(rb"\d[eE]\+?\d{3}")
_JSON: Final = ("application/json", "application/json; charset=utf-8")
_LONG: Final = re.compile(rb"\d{16}")
"""An integer that orjson may take for a float."""
_HTML: Final = re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE)


async def read(response: Answering, most: int, address: str) -> bytes:
    """The body of an answer, unpacked. `most` counts the unpacked bytes, so that a compressed answer cannot fill the memory.

    Raises:
        EndpointAnswerInvalid: it has more. Of an error only the beginning is read.
    """
    found: bytes = await response.content.readany()
    if response.content.at_eof() and len(found) <= most:
        return found
    pieces, size = [found], len(found)
    failed = not 200 <= response.status < 300
    while size <= most:
        if failed and size > _READ_OF_ERROR:
            response.close()
            break
        piece = await response.content.readany()
        if not piece and response.content.at_eof():
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    if failed:
        return b"".join(pieces)[:_READ_OF_ERROR]
    response.close()
    raise EndpointAnswerInvalid(
        f"'{address}': the answer has more than {most:,} bytes",
        hint="Ask for less, or set max_bytes of the proxy.",
        address=address,
        status=response.status,
    )


def failure(endpoint: Endpoint, response: Received, shown: Shown, origin: str) -> EndpointError:
    """The error of an answer with another status than 2xx."""
    status, hint = response.status, None
    kind = _KINDS.get(status) or (
        EndpointServerError if status >= 500 else EndpointRejected if status >= 300 else EndpointAnswerInvalid
    )
    if status == 403 and "Retry-After" in response.headers:  # as GitHub limits requests
        kind = EndpointRateLimited
    reason = _reason(status)
    if 300 <= status < 400:
        place = shown.text(response.headers.get("Location", ""))[:200]
        reason += f", to {printable(place)!r}" if place else ""
        hint = f"Redirects are followed within {origin} alone; after POST, PUT, PATCH and DELETE only 303, 307 and 308."
    said = words(response.data, response.headers.get("Content-Type", ""), shown)
    return kind(
        f"'{endpoint.address}' answered {status}{f' {reason}' if reason else ''}{f': {said}' if said else ''}",
        hint=hint,
        address=endpoint.address,
        status=status,
        retry_after=retry_after(response.headers, time.time()),
    )


def _reason(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def words(data: bytes, content_type: str, shown: Shown) -> str:
    """A server's own words for a message: without markup, credentials and control characters, in one line, and cut."""
    data = data[:_READ_OF_ERROR]
    text = data.decode("utf-8", "replace")
    if "html" in content_type.lower() or _HTML.match(data):
        text = title_of(text) or " ".join(one for one in tokens(text) if isinstance(one, str))
    elif text.count("\ufffd") + text.count("\0") > 8:
        return f"{len(data)} bytes that are not text"
    line = " ".join(shown.text(text).split())
    line = printable(line)
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def printable(text: str) -> str:
    """Text whose control characters (also those that turn the direction of writing) are escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def value(endpoint: Endpoint, response: Received, note: Callable[[str], None]) -> Any:
    """The value of an answer with status 2xx.

    Raises:
        EndpointAnswerInvalid: it is not what it says, or HTML where JSON was asked for.
    """
    data = response.data
    if not data:
        return None
    declared = response.headers.get("Content-Type", "")
    if declared in _JSON and _LONG.search(data) is None and data.count(b"[") + data.count(b"{") < _DEEPEST:
        try:  # most answers: what it reads, it reads exactly
            return orjson.loads(data)
        except ValueError:
            pass  # what is wrong is found out below
    kind = media_type(declared)
    if kind.endswith("json"):
        return _json(endpoint, response, data, charset_of(declared), note)
    wants_json = media_type(endpoint.accept).endswith("json")
    if wants_json and kind in _VAGUE and data.lstrip()[:1] in (b"{", b"["):
        try:
            return _json(endpoint, response, data, charset_of(declared), note)
        except EndpointAnswerInvalid:
            pass  # text that begins with a bracket
    if wants_json and (kind in ("text/html", "application/xhtml+xml") or (not kind and _HTML.match(data))):
        title = title_of(data[:_READ_OF_ERROR].decode("utf-8", "replace"))
        said = f" with the title {printable(' '.join(title.split()))[:200]!r}" if title else ""
        raise _invalid(
            endpoint,
            response,
            f"the answer is HTML{said}, not JSON",
            hint='Is it a login page? Where HTML is right, write accept="text/html".',
        )
    if kind.startswith("image/") and kind != "image/svg+xml":
        return _part(endpoint, response, lambda: Image(data, kind))
    if is_text(kind):
        return _text(endpoint, response, data, charset_of(declared))
    if kind and kind != "application/octet-stream":
        return _file(endpoint, response, data, kind)
    return _guessed(endpoint, response, data)


def may_hide(response: Received) -> bool:
    """True if the bytes of an answer may hold what was sent in another form than those that are looked for in bytes: escaped
    in parts, in another charset, or in the name of a file."""
    data, headers = response.data, response.headers
    if b"\\" in data or b"%" in data or b"&" in data or b"\0" in data or "Content-Disposition" in headers:
        return True
    declared = headers.get("Content-Type", "")
    return declared not in _JSON and charset_of(declared) not in ("", "utf-8", "ascii")


def uncovered(value: Any, shown: Shown) -> Any:
    """A value without credentials, however they were written."""
    if isinstance(value, File):
        return File(value.data, shown.text(value.name), value.media_type)
    return shown.value(value)


_VAGUE: Final = ("", "text/plain", "text/html", "text/javascript", "application/javascript", "application/octet-stream",
                 "application/x-www-form-urlencoded", "binary/octet-stream")  # fmt: skip
"""Content types that servers write without a thought, also on JSON."""


def _guessed(endpoint: Endpoint, response: Received, data: bytes) -> Any:
    """An answer whose content type says nothing: an image by its first bytes, text where it is valid UTF-8, else a file."""
    try:
        return Image(data)
    except ConfigError:
        pass
    if b"\0" not in data:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    return _file(endpoint, response, data, "")


def _file(endpoint: Endpoint, response: Received, data: bytes, kind: str) -> Any:
    if not re.fullmatch(r"[a-z]+/[a-z0-9][a-z0-9.+_-]{0,99}", kind):
        kind = "application/octet-stream"
    found = re.search(r'filename="?([^";\r\n]{1,200})', response.headers.get("Content-Disposition", ""))
    name = re.split(r"[/\\]", found[1].strip())[-1] if found else ""
    name = printable(name).strip(". ") or endpoint.key
    return _part(endpoint, response, lambda: File(data, name, kind))


def _part(endpoint: Endpoint, response: Received, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise _invalid(endpoint, response, error.message) from None


def charset_of(content_type: str) -> str:
    """The charset that is declared, if it is one; else ""."""
    found = re.search(r"charset\s*=\s*\"?'?([\w.:-]{1,40})", content_type, re.IGNORECASE)
    if found is None:
        return ""
    try:
        name = codecs.lookup(found[1]).name
    except LookupError:
        return ""
    return name if _CHARSETS.fullmatch(name) else ""


def _text(endpoint: Endpoint, response: Received, data: bytes, charset: str) -> str:
    if data[:3] == codecs.BOM_UTF8 and charset in ("", "utf-8"):
        charset = "utf-8-sig"
    elif data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not charset:
        charset = "utf-16"
    try:
        return data.decode(charset or "utf-8")
    except UnicodeDecodeError as error:
        if charset not in ("", "utf-8"):
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass
        at = f"byte 0x{data[error.start]:02x} at {error.start:,}"
        raise _invalid(endpoint, response, f"the answer is not valid {charset or 'utf-8'} ({at})") from None


def _json(
    endpoint: Endpoint, response: Received, data: bytes, charset: str, note: Callable[[str], None]
) -> Any:
    if charset not in ("", "utf-8", "ascii"):
        data = _text(endpoint, response, data, charset).encode("utf-8", "surrogatepass")
    missing: list[str] = []

    def constant(name: str) -> None:
        missing.append(name)

    def number(text: str) -> float | None:
        found = float(text)
        if found - found == 0.0:
            return found
        missing.append(text)
        return None

    more: dict[str, Any] = {"parse_float": number} if _INFINITE.search(data) else {}
    try:
        found = json.loads(data, parse_constant=constant, **more)
    except UnicodeDecodeError as error:
        at = f"byte 0x{data[error.start]:02x} at {error.start:,}"
        raise _invalid(endpoint, response, f"the answer is not valid UTF-8 ({at})") from None
    except ValueError as error:
        said = printable(str(error))
        raise _invalid(endpoint, response, f"the answer is not JSON: {said}") from None
    except RecursionError:
        raise _invalid(endpoint, response, "the answer is nested too deep") from None
    if missing:
        note(f"the answer has {len(missing)} numbers that are not JSON, as {missing[0][:20]}: they are None")
    if data.count(b"[") + data.count(b"{") >= _DEEPEST and deeper(found, _DEEPEST):
        raise _invalid(endpoint, response, f"the answer is nested more than {_DEEPEST} deep")
    if b"\\ud" in data or b"\\uD" in data:
        found = unicode_only(found)  # halves of surrogate pairs, which no UTF-8 can hold
    return found


_DEEPEST: Final = DEEPEST - 20
"""An event that holds it is a few levels deeper."""


def check(
    endpoint: Endpoint, response: Received, value: Any, shown: Shown, note: Callable[[str], None]
) -> None:
    """Looks whether a value is an error that came with status 2xx (`errors=`), and whether it fits `response=`.

    Raises:
        EndpointRejected: it is an error. EndpointAnswerInvalid: it does not fit, and the endpoint is `strict`; else that is
            noted, because servers add fields and forget others all the time.
    """
    for path in endpoint.errors:
        if found := at(value, path.split(".")):
            text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
            said = words(text.encode("utf-8", "replace"), "", shown)
            raise EndpointRejected(
                f"'{endpoint.address}' answered {response.status} with an error: {said}",
                address=endpoint.address,
                status=response.status,
            )
    if endpoint.response_schema is not None and (problems := endpoint.misfits(value)):
        text = f"the answer does not fit the declared response: {printable('; '.join(problems[:3]))[:SHOWN]}"
        if len(problems) > 3:
            text += f"; and {len(problems) - 3} more"
        if endpoint.strict:
            raise _invalid(endpoint, response, text)
        note(text)


def at(value: Any, path: Sequence[str]) -> Any:
    """Returns the value at a path of keys in an answer (numbers are places in lists); None where nothing does."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.lstrip("-").isdigit() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _invalid(
    endpoint: Endpoint, response: Received, text: str, hint: str | None = None
) -> EndpointAnswerInvalid:
    return EndpointAnswerInvalid(
        f"'{endpoint.address}': {text}", hint=hint, address=endpoint.address, status=response.status
    )
