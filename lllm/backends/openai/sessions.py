"""Pooled connections: one client per event loop, made on first use, never left behind.

A client ends with `close()`, with its loop (asyncio closes the asynchronous generators of a loop that ends, and a
generator guards each client), or with its backend (the guard is collected). What none of these reached, because a loop
was closed by hand or the process forks or exits, is dropped without a word to the other side and without a warning.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
_all: weakref.WeakSet[PerLoop[Any]] = weakref.WeakSet()


class PerLoop(Generic[T]):
    """Something that belongs to an event loop. `get()` gives the running loop's.

    Arguments:
        make: makes one, in its loop, without waiting.
        close: ends one properly, in its loop.
        alive: whether it can still be used.
        bury: frees one outside of its loop, without a word.
    """

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], Awaitable[None]],
        *,
        alive: Callable[[T], bool],
        bury: Callable[[T], None],
    ) -> None:
        self._make, self._close, self._alive, self._bury = make, close, alive, bury
        self._open: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        _all.add(self)

    def get(self) -> T:
        """The one of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is not None and self._alive(found[0]):
            return found[0]
        for other in [other for other in self._open if other.is_closed()]:
            self._bury(self._open.pop(other)[0])
        made = self._make()
        guard = _guard(made, self._close)
        with contextlib.suppress(StopIteration):  # runs to its yield without an await: now the loop knows it
            guard.__anext__().send(None)
        self._open[loop] = (made, guard)
        return made

    async def close(self) -> None:
        """Ends this loop's properly, and those of other loops without waiting for them."""
        mine = asyncio.get_running_loop()
        while self._open:
            loop, (thing, guard) = self._open.popitem()
            if loop is mine:
                await guard.aclose()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # it ended just now
                    loop.call_soon_threadsafe(_finish, loop, guard)
                    continue
            self._bury(thing)

    def drop(self) -> None:
        """Lets go of all at once, from wherever this is called."""
        while self._open:
            self._bury(self._open.popitem()[1][0])


async def _guard(thing: T, close: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await close(thing)


def _finish(loop: asyncio.AbstractEventLoop, guard: AsyncGenerator[None, None]) -> None:
    task = loop.create_task(_ended(guard))
    _ending.add(task)
    task.add_done_callback(_ending.discard)


async def _ended(guard: AsyncGenerator[None, None]) -> None:
    await guard.aclose()


_ending: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def sessions(*, connections: int, proxy: str | None) -> PerLoop[aiohttp.ClientSession]:
    """aiohttp sessions with at most `connections` sockets each (0: no limit)."""

    def make() -> aiohttp.ClientSession:
        import aiohttp

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=proxy,
        )

    return PerLoop(make, lambda session: session.close(), alive=lambda session: not session.closed, bury=bury)


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
    for one in list(_all):
        one.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
atexit.register(_drop_all)
