"""Sorts exceptions of aiohttp and the operating system, and puts them into words."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["timeout", "not_http", "interrupted", "certificate", "name", "unreachable", "dropped"]

SOCKS: Final = ("aiohttp_socks", "python_socks")  # packages whose exceptions only come before the request


class NetworkError(NamedTuple):
    """A network error of a request, sorted.

    Attributes:
        kind: `timeout` (no connection in time), `certificate` (not accepted), `name` (no such host), `unreachable` (refused,
            no route, no TLS), `dropped` (the connection ended before an answer), `not_http` (an answer that is not HTTP),
            `interrupted` (the connection ended within the answer).
        text: one line for a message; without headers, but it may hold what the server or the URL says.
        sent: False if the request certainly was not sent, so that sending it again does no harm.
    """

    kind: Kind
    text: str
    sent: bool


def network_error(error: BaseException, *, started: bool) -> NetworkError:
    """Sorts an exception of a request. `started`: the answer had begun."""
    import aiohttp

    if isinstance(error, aiohttp.ClientResponseError):  # its own text holds the whole URL
        # a forward proxy that refuses to connect has not passed the request on
        return NetworkError("not_http", error.message, not isinstance(error, aiohttp.ClientHttpProxyError))
    text = describe(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NetworkError("timeout", text, False)
    if started:
        return NetworkError("interrupted", text, True)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return NetworkError("certificate", text, False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NetworkError("name", text, False)
    if isinstance(error, aiohttp.ClientConnectorError) or type(error).__module__.startswith(SOCKS):
        return NetworkError("unreachable", text, False)
    return NetworkError("dropped", text, True)


def describe(error: BaseException) -> str:
    """An exception of the network in words; its repr may hold headers, so only its text is used."""
    text = str(error).replace(" ssl:default ", " ")  # aiohttp says how it would have encrypted
    return shorten(text) or type(error).__name__


def shorten(text: str, limit: int = 300) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
