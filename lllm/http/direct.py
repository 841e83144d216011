"""Requests of any method to one of many servers, one after the other over pooled connections.

The first request to an origin is aiohttp's own. What it says about how to connect is kept, and later ones are written to a
connection of the same pool as they are, which takes a third of the time. Through a forward proxy all of them are aiohttp's.
Nothing is sent twice, no redirect is followed and no cookie is kept: those who call decide that.
"""

from __future__ import annotations

import copy
import select
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from lllm.http.forward_proxy import ForwardProxy, connector
from lllm.http.secret_text import Secret
from lllm.http.sessions import PerLoop, bury

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.connector import Connection


class Answering(Protocol):
    """An answer whose body is still to be read: aiohttp's, or `lllm.http.reused.Answer`."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> Any: ...
    def close(self) -> None: ...


class Direct:
    """The connections of one event loop."""

    def __init__(self, session: aiohttp.ClientSession, login: str | None = None) -> None:
        import aiohttp

        from lllm.http.reused import Answer

        self.session = session
        self._answer = Answer
        self._timeout = aiohttp.ClientTimeout(total=None)
        self._login = login
        """What a forward proxy wants to see with each request that it reads: aiohttp 3.12 shows it only with the first one of
        a connection."""
        self._known: dict[str, tuple[Any, Any, str, bytes]] = {}
        """By origin: how to connect, the key of its connections in the pool, and the headers that are the same for all
        requests, the first and the last ones."""

    async def send(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        on_sent: Callable[[], None],
    ) -> Answering:
        """The answer to a request, with its body still to be read. `on_sent` is called right before the first byte leaves.

        Raises what aiohttp raises, and ValueError for a header with a line break.
        """
        known = self._known.get(origin)
        if known is None:
            return await self._first(method, origin, target, headers, body, on_sent)
        request, key, host, fixed = known
        connection = await self._connect(request, key)
        try:
            protocol, transport = connection.protocol, connection.transport
            assert protocol is not None
            assert transport is not None
            lines = [f"{method} {target} HTTP/1.1", host]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            if body is not None:
                lines.append(f"Content-Length: {len(body)}")
            head = "\r\n".join(lines)
            if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
                raise ValueError("a header or the URL has a line break")
            protocol.set_response_params(skip_payload=method == "HEAD", read_until_eof=True)
            on_sent()
            transport.write(b"%b\r\n%b%b" % (head.encode("ascii"), fixed, body or b""))
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # early hints and their like
                message, content = await protocol.read()
            return self._answer(connection, message.code, message.headers, content)
        except BaseException:
            connection.close()
            raise

    async def _connect(self, request: Any, key: Any) -> Connection:
        """A connection that the server has not ended. One that was idle may have been closed while nobody looked: a loop
        that drives blocking calls stands still between them."""
        pool: Any = self.session.connector
        while True:
            connection, used = await pool.connection(request, key, [], self._timeout)
            if not used or not _has_ended(connection):
                found: Connection = connection
                return found
            connection.close()

    async def _first(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        on_sent: Callable[[], None],
    ) -> Answering:
        from yarl import URL

        async def keep(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
            if not request.proxy:
                names = [name for name in ("Accept-Encoding", "User-Agent") if name in request.headers]
                fixed = "".join(f"{name}: {request.headers[name]}\r\n" for name in names) + "\r\n"
                template = copy.copy(request)
                template.__dict__.pop("_body", None)
                host, key = f"Host: {request.headers['Host']}", request.connection_key
                self._known[origin] = template, key, host, fixed.encode("ascii")
            return await handler(request)

        if self._login is not None and origin.startswith("http:"):
            headers = {**headers, "Proxy-Authorization": Secret(self._login)}
        response: Answering = await self.session.request(
            method,
            URL(origin + target, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
            middlewares=(keep,),
            trace_request_ctx=on_sent,
        )
        return response


def _has_ended(connection: Connection) -> bool:
    """Whether an idle connection has something to read: its end, or an answer that nobody asked for."""
    protocol: Any = connection.protocol
    look = getattr(protocol, "lllm_look", None)
    if look is None:
        transport = connection.transport
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is None or not hasattr(select, "poll"):
            return False
        look = select.poll()
        look.register(sock.fileno(), select.POLLIN)
        protocol.lllm_look = (
            look  # a connection has one socket, which is open as long as its pool gives it out
        )
    return bool(look.poll(0))


def direct(proxy: ForwardProxy | None = None) -> PerLoop[Direct]:
    """Connections for each event loop, through a forward proxy where one is given."""

    def make() -> Direct:
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_sending)
        pool, through = connector(proxy, limit=0)
        session = aiohttp.ClientSession(
            connector=pool,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=through,
            trace_configs=[trace],
        )
        session._retry_connection = False  # aiohttp would send GET, PUT and DELETE again by itself
        return Direct(session, None if through is None else _login(through))

    return PerLoop(
        make,
        lambda one: one.session.close(),
        alive=lambda one: not one.session.closed,
        bury=lambda one: bury(one.session),
    )


def _login(url: str) -> str | None:
    """The header `Proxy-Authorization` for the user that a URL names."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(login.encode()).decode()}"


async def _sending(session: Any, context: Any, params: Any) -> None:
    context.trace_request_ctx()
