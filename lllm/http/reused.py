"""A request like an earlier one, without what aiohttp does again for each.

Half of the time of a request goes into objects that are the same for all requests to an endpoint: the URL, the headers, the
timeouts, the proxy. So the first request is aiohttp's own, and what it sends before its body is kept; the next ones write
that and their body to a connection of the same pool, and read the answer with the same parser.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http_exceptions import HttpProcessingError


class Head:
    """What a request sends before its body, but for the body's length. Its repr does not show the key that is in it."""

    __slots__ = ("_bytes", "key", "request")

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        lines = [f"{request.method} {request.url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name != "Content-Length"]
        self._bytes = "\r\n".join(lines).encode()
        self.request = copy.copy(request)  # says how to connect
        self.request.__dict__.pop("_body", None)
        self.key = request.connection_key

    def write(self, connection: Connection, body: bytes) -> ResponseHandler:
        """Sends a request over an open connection. Returns what reads the answer."""
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        protocol.set_response_params(read_until_eof=True)
        transport.write(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._bytes, len(body), body))
        return protocol

    def unreadable(self, error: HttpProcessingError) -> aiohttp.ClientResponseError:
        """What aiohttp raises for an answer that is not HTTP."""
        return aiohttp.ClientResponseError(
            self.request.request_info, (), status=error.code, message=error.message, headers=error.headers
        )

    @staticmethod
    def fits(request: aiohttp.ClientRequest) -> bool:
        """Whether later requests can be sent like this one."""
        return not request.proxy and request.method == "POST" and "Content-Length" in request.headers


class Answer:
    """An answer, with what is used of an `aiohttp.ClientResponse`. The connection goes back to its pool with the end of the
    body; `close` ends it before that."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: Mapping[str, str], content: Any) -> None:
        self._connection: Connection | None = connection
        self.status = status
        self.headers = headers
        self.content = content
        content.on_eof(self._ended)

    @property
    def content_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The whole body."""
        data: bytes = await self.content.readany()
        return data if self.content.at_eof() else data + await self.content.read()

    def _ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def close(self) -> None:
        """Ends the connection, unless the body has ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
