"""Fetches a document: over https, or over http from this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from lllm.errors import ConfigError
from lllm.http.url import is_loopback
from lllm.proxies.openapi.problems import shown
from lllm.proxies.openapi.reading import MAX_BYTES

if TYPE_CHECKING:
    import aiohttp

TIMEOUT: Final = 60.0
"""Seconds for all of it."""
REDIRECTS: Final = 5
_REDIRECT: Final = (301, 302, 303, 307, 308)
_HEADERS: Final = {"Accept": "application/json, application/yaml, text/yaml, */*"}


def is_url(source: str) -> bool:
    """True if a source is an address rather than a file."""
    return "://" in source


def public(url: str) -> str:
    """An address without its query, which may hold a key."""
    return url.partition("#")[0].partition("?")[0]


def said(url: str) -> str:
    """An address for a message."""
    return shown(public(url), 200)


async def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> tuple[bytes, str]:
    """The bytes at an address, and the address after redirects.

    Raises:
        ConfigError: not https and not this machine, no answer in time, a status other than 200, or more bytes than allowed.
    """
    import aiohttp

    from lllm.http.forward_proxy import connector, forward_proxy_for

    limits = aiohttp.ClientTimeout(total=timeout)
    where = url
    try:
        for _ in range(REDIRECTS + 1):
            parts = _checked(where, url)
            made, proxy = connector(forward_proxy_for(parts.scheme, parts.hostname or "", None))
            async with (
                aiohttp.ClientSession(connector=made, timeout=limits, proxy=proxy) as session,
                session.get(where, allow_redirects=False, headers=_HEADERS) as response,
            ):
                if response.status in _REDIRECT and "Location" in response.headers:
                    where = urljoin(where, response.headers["Location"])
                    continue
                if response.status != 200:
                    raise ConfigError(
                        f"{said(url)} answered {response.status}",
                        hint="It must be the address of the document itself.",
                    )
                return await _content(response, max_bytes, url), where
    except TimeoutError:
        raise ConfigError(f"{said(url)} did not answer within {timeout:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        words = str(error).replace(where, said(where))
        words = shown(words or type(error).__name__, 200)
        raise ConfigError(f"{said(url)} cannot be fetched: {words}") from None
    raise ConfigError(f"{said(url)} redirects more than {REDIRECTS} times")


async def _content(response: aiohttp.ClientResponse, most: int, url: str) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > most:
            raise ConfigError(f"{said(url)} has more than {most:,} bytes")
    return bytes(data)


def _checked(where: str, first: str) -> SplitResult:
    """The parts of an address that may be fetched. A redirect must not lead from elsewhere to this machine."""
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{said(where)} is not a URL") from None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{said(where)} must be an https:// address")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the address of a document must hold no user and no password",
            hint="Download it, and import the file.",
        )
    here = is_loopback(host)
    if parts.scheme == "http" and not here:
        raise ConfigError(
            f"{said(where)} is not encrypted: anybody on the way could change what is imported",
            hint="Use https://, or download the document and import the file.",
        )
    if here and where != first and not is_loopback(urlsplit(first).hostname or ""):
        raise ConfigError(f"{said(first)} redirects to this machine: {said(where)}")
    return parts
