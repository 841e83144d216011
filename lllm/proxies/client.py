"""Sends the requests of endpoints, and reads their answers.

One HTTP client for all proxies of a process; redirects are not followed to another host with credentials. A request is sent
again by the effect policy of its endpoint: `pure` and `idempotent` ones may be (the latter with one key per call), others
only where it certainly was not sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import (
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
    EndpointTimeout,
    EndpointUnreachable,
)
from lllm.inputs import effect
from lllm.models.function import ToolContext
from lllm.models.parts import File, Image
from lllm.proxies.credentials import Auth, Header, Query, Shown, show
from lllm.proxies.request import HttpRequest, build, check_base_url

if TYPE_CHECKING:
    import aiohttp

    from lllm.proxies.base import BaseProxy
    from lllm.proxies.endpoint import Endpoint
    from lllm.proxies.runtime import Proxy

TRIES: Final = 3
FIRST_WAIT: Final = 0.25
"""Seconds before the second try; twice as long before each further one."""
LONGEST_WAIT: Final = 20.0
_SHOWN: Final = 500
"""Characters of a server's own words in an error."""


async def send(
    proxy: BaseProxy, endpoint: Endpoint, arguments: Mapping[str, Any], runtime: Proxy, context: ToolContext
) -> Any:
    """The answer of an endpoint.

    Raises:
        EndpointError: see the tree in `lllm.errors`. ToolError: an argument that cannot be sent. ConfigError: a variable for
            credentials is not set, or a base_url that is none.
    """
    check_base_url(endpoint.options.get("base_url") or proxy.base_url, endpoint.proxy)
    request = build(endpoint, arguments, proxy.base_url, proxy.headers)
    shown = show(_auth_of(proxy, endpoint), runtime.variables, endpoint.proxy)
    _with_credentials(request, shown)
    if endpoint.effect == "idempotent" and context.idempotency_key is not None:
        request.headers.setdefault(
            endpoint.options.get("idempotency_header", "Idempotency-Key"), context.idempotency_key
        )
    wait = FIRST_WAIT
    for n in range(1, TRIES + 1):
        try:
            return await _once(proxy, endpoint, request, shown)
        except EndpointError as error:
            again = error.retryable and (endpoint.effect in ("pure", "idempotent") or not error.sent)
            if not again or n == TRIES or (error.retry_after or 0) > LONGEST_WAIT:
                raise
            with effect():
                await asyncio.sleep(max(wait, error.retry_after or 0))
            wait *= 2
    raise AssertionError


def _auth_of(proxy: BaseProxy, endpoint: Endpoint) -> tuple[Auth, ...]:
    declared = endpoint.options.get("auth", proxy.auth)
    found = (declared,) if isinstance(declared, Auth) else tuple(declared)
    if proxy.api_key_name and proxy.api_key:
        from lllm.config.environ import remember_new

        remember_new(f"{endpoint.proxy} api_key", (proxy.api_key,))
        name = proxy.api_key_name
        found += (
            Header(name[1:], value=proxy.api_key)
            if name.startswith("*")
            else Query(name, value=proxy.api_key),
        )
    return found


def _with_credentials(request: HttpRequest, shown: Shown) -> None:
    from urllib.parse import urlencode

    request.headers.update(shown.header)
    if shown.cookie:
        cookies = [request.headers[name] for name in ("Cookie",) if name in request.headers]
        request.headers["Cookie"] = "; ".join(
            [*cookies, *(f"{name}={value}" for name, value in shown.cookie.items())]
        )
    if shown.query:
        request.url += ("&" if "?" in request.url else "?") + urlencode(shown.query)


async def _once(proxy: BaseProxy, endpoint: Endpoint, request: HttpRequest, shown: Shown) -> Any:
    import aiohttp
    from yarl import URL

    address, seconds = endpoint.address, endpoint.timeout or proxy.timeout
    body: Any = request.body
    if request.parts is not None:
        body = aiohttp.FormData(default_to_multipart=True)
        for name, file, kind, data in request.parts:
            body.add_field(name, data, filename=file, content_type=kind)
    try:
        with effect():
            async with _session().request(
                request.method,
                URL(request.url, encoded=True),
                data=body,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                data = await _read(response, proxy.max_bytes, address)
                return _answer(endpoint, response, data)
    except aiohttp.ClientConnectorError as error:
        raise EndpointUnreachable(
            f"'{address}': no connection: {_words(error, shown)}", address=address, sent=False
        ) from None
    except TimeoutError as error:
        sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
        raise EndpointTimeout(
            f"'{address}' did not answer within {seconds:g} s", address=address, sent=sent
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise EndpointUnreachable(
            f"'{address}': the connection broke: {_words(error, shown)}", address=address
        ) from None


def _session() -> aiohttp.ClientSession:
    global _sessions
    if _sessions is None:
        from importlib import import_module

        _sessions = import_module("lllm.backends.openai.sessions").sessions(connections=0, proxy=None)
    found: aiohttp.ClientSession = _sessions.get()
    return found


_sessions: Any = None


async def _read(response: aiohttp.ClientResponse, most: int, address: str) -> bytes:
    found = bytearray()
    async for piece in response.content.iter_any():
        found += piece
        if len(found) > most:
            raise EndpointAnswerInvalid(
                f"'{address}': the answer has more than {most:,} bytes",
                address=address,
                status=response.status,
            )
    return bytes(found)


_FAULTS: Final[Mapping[int, type[EndpointError]]] = {
    401: EndpointDenied,
    403: EndpointDenied,
    407: EndpointDenied,
    404: EndpointNotFound,
    408: EndpointServerError,
    410: EndpointNotFound,
    429: EndpointRateLimited,
}


def _answer(endpoint: Endpoint, response: aiohttp.ClientResponse, data: bytes) -> Any:
    status = response.status
    if 200 <= status < 300:
        return _value(endpoint, response, data)
    kind = _FAULTS.get(status)
    if kind is None:
        kind = EndpointServerError if status >= 500 else EndpointRejected
    words = data.decode("utf-8", "replace").strip()[:_SHOWN]
    after = response.headers.get("Retry-After", "")
    raise kind(
        f"'{endpoint.address}' answered {status} {response.reason or ''}".rstrip()
        + (f": {words}" if words else ""),
        address=endpoint.address,
        status=status,
        retry_after=float(after) if after.isdigit() else None,
    )


def _value(endpoint: Endpoint, response: aiohttp.ClientResponse, data: bytes) -> Any:
    if not data:
        return None
    kind = response.content_type.lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(data)
        except ValueError as error:
            raise EndpointAnswerInvalid(
                f"'{endpoint.address}': the answer is not JSON: {error}",
                address=endpoint.address,
                status=response.status,
            ) from None
    if kind.startswith("image/") and kind != "image/svg+xml":
        return Image(data, kind)
    if kind.startswith("text/") or kind.endswith(("xml", "yaml", "javascript")):
        try:
            return data.decode(response.charset or "utf-8")
        except (UnicodeDecodeError, LookupError) as error:
            raise EndpointAnswerInvalid(
                f"'{endpoint.address}': the answer is not text: {error}",
                address=endpoint.address,
                status=response.status,
            ) from None
    return File(data, endpoint.key, kind)


def _words(error: BaseException, shown: Shown) -> str:
    from lllm.errors import text_of

    found = text_of(error)
    for secret in shown.secrets:
        found = found.replace(secret, "[redacted]")
    return found
