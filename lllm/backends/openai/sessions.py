"""Pooled connections: one aiohttp session per event loop, made on first use, never left behind.

A session ends with `close()`, with its loop (asyncio closes the asynchronous generators of a loop that ends, and a
generator guards each session), or with its backend (the guard is collected). What none of these reached, because a loop
was closed by hand or the process forks or exits, is dropped without a word to the other side and without a warning.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

_all: weakref.WeakSet[Sessions] = weakref.WeakSet()


class Sessions:
    """The sessions of one backend. `get()` gives the running loop's."""

    def __init__(self, *, connections: int, proxy: str | None) -> None:
        self._connections = connections
        self._proxy = proxy
        self._open: dict[
            asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]
        ] = {}
        _all.add(self)

    def get(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is not None and not found[0].closed:
            return found[0]
        return self._make(loop)

    async def close(self) -> None:
        """Ends this loop's session properly, and those of other loops without waiting for them."""
        mine = asyncio.get_running_loop()
        while self._open:
            loop, (session, guard) = self._open.popitem()
            if loop is mine:
                await guard.aclose()
                await session.close()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # it ended just now
                    loop.call_soon_threadsafe(loop.create_task, session.close())
                    continue
            bury(session)

    def drop(self) -> None:
        """Lets go of every session at once, from wherever this is called."""
        while self._open:
            bury(self._open.popitem()[1][0])

    def _make(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        import aiohttp

        for other in [other for other in self._open if other.is_closed()]:
            bury(self._open.pop(other)[0])
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=self._proxy,
        )
        guard = _guard(session)
        with contextlib.suppress(StopIteration):  # runs to its yield without an await: now the loop knows it
            guard.__anext__().send(None)
        self._open[loop] = (session, guard)
        return session


async def _guard(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()


def bury(session: Any) -> None:
    """Frees a session's sockets without its event loop and marks everything closed.

    Only the file descriptors are closed, here: nothing is said to the other side (after a fork the parent still talks
    to it), and no loop is touched.
    """
    connector, session._connector = getattr(session, "_connector", None), None
    if connector is None or connector.closed:
        return
    protocols = [entry[0] for entries in connector._conns.values() for entry in entries]
    protocols += [protocol for protocol in connector._acquired if hasattr(protocol, "transport")]
    connector._conns.clear()
    connector._acquired.clear()
    connector._closed = True
    for handle in (connector._cleanup_handle, connector._cleanup_closed_handle):
        if handle is not None:
            handle.cancel()
    connector._cleanup_handle = connector._cleanup_closed_handle = None
    for protocol in protocols:
        transport = protocol.transport
        # TLS transports stand on a plain one
        plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
        for layer in (transport, plain):
            if hasattr(layer, "_closed"):
                layer._closed = True
        sock = getattr(plain, "_sock", None)
        if sock is not None:
            plain._sock = None
            sock.close()


def _drop_all() -> None:
    for sessions in list(_all):
        sessions.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
atexit.register(_drop_all)
