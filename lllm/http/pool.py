"""Sockets that are used again, and what happens when the other side has closed one in the meantime.

A server may close an idle connection at any moment, so a request on a used one may meet the end before any answer.
RFC 9112, section 9.3.1: a client may then send it again on its own where that does no harm. Only the caller knows that: a
completion, for example, changes nothing at its server. Such a request is sent once more, on a new connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from lllm.http.reused import Answer, Head

if TYPE_CHECKING:
    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.connector import Connection
    from yarl import URL


class Pool(aiohttp.TCPConnector):
    """A connector that says of each request whether its connection had served another before.

    Sets `lllm_used` on the request. A request that has it set to True already gets a new connection.

    With `repeat_posts`, all POST requests to one URL have the same headers and may be sent twice: what the first one is made
    of is kept in `heads`, and `send` sends the others.
    """

    def __init__(self, *, repeat_posts: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._repeat_posts = repeat_posts
        self.heads: dict[URL, Head] = {}

    async def connect(
        self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout
    ) -> Connection:
        if self._repeat_posts and req.url not in self.heads and Head.fits(req):
            self.heads[req.url] = Head(req)
        again = getattr(req, "lllm_used", False)
        key = req.connection_key
        connection, req.lllm_used = await self.connection(req, key, traces, timeout, again)  # type: ignore[attr-defined]
        return connection

    async def connection(
        self,
        request: aiohttp.ClientRequest,
        key: Any,
        traces: Any,
        timeout: aiohttp.ClientTimeout,
        again: bool = False,
    ) -> tuple[Connection, bool]:
        """A connection, and whether it had served another request; `again`: one that has not. `key`: the request's
        `connection_key`, which aiohttp makes again each time."""
        while True:
            # as aiohttp begins, where no proxy has to be told
            connection = None if request.proxy else await self._get(key, traces)
            if connection is None:
                connection = await super().connect(request, traces, timeout)
            protocol: Any = connection.protocol
            assert protocol is not None
            if not hasattr(protocol, "lllm_served"):
                protocol.lllm_served = True
                return connection, False
            if not again:
                return connection, True
            connection.close()

    async def send(self, head: Head, body: bytes, timeout: aiohttp.ClientTimeout) -> Answer:
        """The answer to a request like an earlier one. Raises what `ClientSession.post` raises."""
        again = False
        while True:
            try:
                connection, used = await self.connection(head.request, head.key, [], timeout, again)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(
                    f"Connection timeout to host {head.request.url}"
                ) from error
            try:
                protocol = head.write(connection, body)
                message, content = await protocol.read()
                while 100 <= message.code < 200 and message.code != 101:  # early hints and their like
                    message, content = await protocol.read()
                return Answer(connection, message.code, message.headers, content)
            except HttpProcessingError as error:
                connection.close()
                raise head.unreadable(error) from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                connection.close()
                if not used:
                    raise
                again = True
            except BaseException:
                connection.close()
                raise


async def once_more(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware for requests that may be sent twice: what a used connection ended without an answer goes out again on a
    new one."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if not getattr(request, "lllm_used", False):
            raise
    return await send(request)
