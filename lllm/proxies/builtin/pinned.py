"""GET requests whose connections lead where was checked, and nowhere else.

Each name is looked up once. All of its addresses are checked, and the connection is made to one of them: what the name server
answers a moment later changes nothing. The same again for each redirect. Forward proxies of the environment are not used:
behind one, somebody else would look the names up.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import (
    EndpointAnswerInvalid,
    EndpointError,
    EndpointRejected,
    EndpointTimeout,
    EndpointUnreachable,
)
from lllm.http.url import foreign_url
from lllm.inputs import effect
from lllm.proxies.answer import printable
from lllm.proxies.builtin.addresses import Address, AddressRule, HostRule, Target, check_addresses, target_of

if TYPE_CHECKING:
    import aiohttp

REDIRECTS: Final = 5
_MOVED: Final = (301, 302, 303, 307, 308)
_OF_ERROR: Final = 65_536
"""Bytes of an answer with an error that are read."""


class Answer(NamedTuple):
    """The answer of a server: the URL behind all redirects, and the body, unpacked. `cut`: it has more than was read."""

    url: str
    status: int
    headers: Mapping[str, str]
    data: bytes
    cut: bool


class Rules(NamedTuple):
    """The rules by which requests go out."""

    hosts: Sequence[HostRule]
    addresses: Sequence[AddressRule]


async def get(text: str, rules: Rules, *, headers: Mapping[str, str], most: int, seconds: float) -> Answer:
    """Fetches a URL, and follows at most REDIRECTS redirects.

    Arguments:
        headers: are sent along. most: bytes of the body, unpacked, that are read. seconds: for everything.

    Raises:
        EndpointDenied, EndpointRejected: the URL, an address or a redirect that is not allowed.
        EndpointUnreachable, EndpointTimeout, EndpointAnswerInvalid: no answer, or not in time, or one that cannot be read.
    """
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

    state = _State()
    with effect():
        try:
            async with asyncio.timeout(seconds):
                return await _following(text, rules, headers, most, state)
        except EndpointError:
            raise
        except TimeoutError:
            what = "did not send its whole answer" if state.started else "did not answer"
            raise EndpointTimeout(f"{state.host} {what} within {seconds:g} s", sent=state.sent) from None
        except (aiohttp.ClientError, OSError, HttpProcessingError, EOFError, ValueError) as fault:
            error = _error(fault, state)
        raise error


class _State:
    """How far a request has come."""

    def __init__(self) -> None:
        self.host = "the server"
        self.sent = self.started = False


async def _following(text: str, rules: Rules, headers: Mapping[str, str], most: int, state: _State) -> Answer:
    target = target_of(text, rules.hosts, rules.addresses)
    for _ in range(REDIRECTS + 1):
        state.host, state.sent, state.started = target.host, False, False
        addresses = await look_up(target)
        check_addresses(target, addresses, rules.addresses)
        async with _session(target, addresses) as session:
            state.sent = True
            async with session.get(target.url, headers=headers, allow_redirects=False) as response:
                state.started = True
                link = response.headers.get("Location", "") if response.status in _MOVED else ""
                if not link:
                    good = 200 <= response.status < 300
                    data, cut = await _read(response, most if good else _OF_ERROR)
                    return Answer(str(target.url), response.status, response.headers, data, cut)
        target = _moved(target, link, rules)
    raise EndpointRejected(f"{state.host} answered with more than {REDIRECTS} redirects")


def _moved(target: Target, link: str, rules: Rules) -> Target:
    """Returns the target of a redirect. The same rules hold for it."""
    try:
        if "\\" in link or not link.isprintable():
            raise EndpointRejected("it is not a URL")
        return target_of(str(target.url.join(foreign_url(link.strip()))), rules.hosts, rules.addresses)
    except (EndpointError, ValueError) as error:
        kind = type(error) if isinstance(error, EndpointError) else EndpointRejected
        said = error.message if isinstance(error, EndpointError) else "it is not a URL"
        raise kind(
            f"{target.host} redirects to {printable(link[:200])!r}, which is not followed: {said}",
            hint=getattr(error, "hint", None),
        ) from None


async def look_up(target: Target) -> list[Address]:
    """The addresses of a host, each once."""
    try:
        return [ipaddress.ip_address(target.host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
    except socket.gaierror as error:
        raise EndpointUnreachable(
            f"the name {target.host} was not found: {error.strerror}", sent=False
        ) from None
    known = dict.fromkeys(ipaddress.ip_address(str(info[4][0])) for info in found)
    if not known:
        raise EndpointUnreachable(f"the name {target.host} has no address", sent=False)
    return list(known)


def _session(target: Target, addresses: Sequence[Address]) -> aiohttp.ClientSession:
    """A session that connects to these addresses. The last look is at the socket: no other one is made."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    from lllm.http.forward_proxy import connector

    class Known(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            if host.rstrip(".") != target.host:
                raise PermissionError(errno.EPERM, f"{host} was not looked up")
            return [
                ResolveResult(
                    hostname=host,
                    host=str(one),
                    port=port,
                    family=socket.AF_INET if one.version == 4 else socket.AF_INET6,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
                for one in addresses
            ]

        async def close(self) -> None: ...

    def create(info: tuple[Any, Any, int, str, Any]) -> socket.socket:
        if ipaddress.ip_address(info[4][0]) not in addresses or info[4][1] != target.port:
            raise PermissionError(errno.EPERM, f"{info[4][0]} was not checked")
        return socket.socket(info[0], info[1], info[2])

    pool, _ = connector(None, resolver=Known(), use_dns_cache=False, force_close=True, socket_factory=create)
    return aiohttp.ClientSession(
        connector=pool,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )


async def _read(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The body, and whether it has more than `most` bytes. They are counted unpacked, while they come."""
    pieces: list[bytes] = []
    size = 0
    while size <= most:
        piece = await response.content.readany()
        if not piece and response.content.at_eof():
            return b"".join(pieces), False
        pieces.append(piece)
        size += len(piece)
    response.close()
    return b"".join(pieces)[:most], True


def _error(fault: BaseException, state: _State) -> EndpointError:
    from aiohttp import ClientError, ClientPayloadError
    from aiohttp.http_exceptions import HttpProcessingError

    from lllm.http.network_errors import network_error, shorten
    from lllm.proxies.exchange import is_cut

    host = state.host
    if isinstance(fault, HttpProcessingError | ValueError) and not isinstance(fault, ClientError):
        said = fault.message if isinstance(fault, HttpProcessingError) else str(fault)
        return EndpointAnswerInvalid(f"the answer of {host} is not HTTP: {printable(shorten(said))}")
    found = network_error(fault, started=state.started)
    said = printable(shorten(found.text))
    if found.kind == "not_http":
        return EndpointAnswerInvalid(f"the answer of {host} is not HTTP: {said}")
    if isinstance(fault, ClientPayloadError) and not is_cut(fault):
        return EndpointAnswerInvalid(f"the answer of {host} cannot be read: {said}")
    what = {
        "interrupted": f"the answer of {host} ended too early",
        "dropped": f"{host} ended the connection before an answer",
    }.get(found.kind, f"no connection to {host}")
    error = EndpointUnreachable(
        f"{what}: {said}", sent=found.sent, hint=None if found.sent else _behind_a_proxy()
    )
    if found.kind == "certificate":
        error.retryable = False
    return error


def _behind_a_proxy() -> str | None:
    import urllib.request

    if not any(kind in urllib.request.getproxies() for kind in ("http", "https", "all")):
        return None
    return "The environment names a forward proxy, which is not used here: it would look up names unchecked."
