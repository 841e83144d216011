"""Sockets that are used again, and what happens when the other side has closed one in the meantime.

A server may close an idle connection at any moment, so a request on a used one may meet the end before any answer.
RFC 9112, section 9.3.1: a client may then send it again on its own where that does no harm; a completion changes nothing
at its server, and the request carries the same `Idempotency-Key`. It is sent once more, on a new connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

from lllm.backends.openai.reused import Answer, Head

if TYPE_CHECKING:
    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from yarl import URL


class Pool(aiohttp.TCPConnector):
    """A connector that says of each request whether its connection had served another before.

    Sets `lllm_used` on the request. A request that has it set to True already gets a new connection.

    All POST requests to one URL have the same headers, so that later ones can be sent with `again`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._served: WeakSet[ResponseHandler] = WeakSet()
        self._heads: dict[URL, Head] = {}

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        again = getattr(req, "lllm_used", False)
        while True:
            connection = await super().connect(req, *args, **kwargs)
            protocol = connection.protocol
            assert protocol is not None
            used = protocol in self._served
            if not (used and again):
                break
            connection.close()
        self._served.add(protocol)
        req.lllm_used = used  # type: ignore[attr-defined]
        if req.url not in self._heads and Head.fits(req):
            self._heads[req.url] = Head(req)
        return connection

    async def again(self, url: URL, body: bytes) -> Answer | None:
        """The answer to a request over a connection that is open and idle. None: there is none, or it ended without an
        answer; then nothing is idle any more."""
        head = self._heads.get(url)
        connection = None if head is None else await self._get(head.key, [])
        if head is None or connection is None:
            return None
        try:
            return await head.send(connection, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            for protocol, _ in self._conns.pop(head.key, ()):
                protocol.close()
            return None


async def once_more(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware: what a used connection ended without an answer goes out again on a new one."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if not getattr(request, "lllm_used", False):
            raise
    return await send(request)
