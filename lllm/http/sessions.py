"""Pooled connections: one client per event loop, made on first use, never left behind.

A client ends with `close()`, with its loop (asyncio closes the asynchronous generators of a loop that ends, and a
generator guards each client), or with its backend. What none of these reached, because a loop was closed by hand or the
process forks or exits, is dropped without a word to the other side and without a warning.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lllm.http.forward_proxy import ForwardProxy, connector

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Something that belongs to an event loop. `get()` gives the running loop's.

    Arguments:
        make: makes one, in its loop, without waiting.
        close: ends one properly, in its loop.
        alive: whether it can still be used.
        bury: frees one whose loop will not run again, without a word.
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
        self._open: dict[asyncio.AbstractEventLoop, _Kept[T]] = {}
        # `_open` is held from here, so that its content is no garbage when its owner is
        weakref.finalize(self, _release_all, self._open).atexit = False

    def get(self) -> T:
        """The one of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is not None and self._alive(found.thing):
            return found.thing
        for other in [other for other in self._open if other.is_closed()]:
            del self._open[other]
        for kept in [kept for kept in _kept if kept.loop.is_closed()]:
            kept.drop()
        made = self._open[loop] = _Kept(loop, self._make(), self._close, self._bury)
        return made.thing

    async def close(self) -> None:
        """Ends this loop's properly, and those of other loops without waiting for them."""
        mine = self._open.pop(asyncio.get_running_loop(), None)
        _release_all(self._open)
        if mine is not None:
            await mine.end()


class _Kept(Generic[T]):
    """One thing with its loop. Held by the module until it is closed or buried, never collected by chance."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thing: T,
        close: Callable[[T], Awaitable[None]],
        bury: Callable[[T], None],
    ) -> None:
        self.loop = loop
        self.thing = thing
        self._close = close
        self._bury = bury
        self._ended: asyncio.Event | None = None
        self._watcher: Any = self._guard()
        try:
            self._watcher.__anext__().send(None)  # runs to its yield without an await: now the loop knows it
        except StopIteration:
            _kept.add(self)

    async def _guard(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._end_once()

    async def end(self) -> None:
        """Ends it properly, in its own loop. At the same moment the loop may end it through the guard."""
        await self._end_once()
        if not self._watcher.ag_running:
            await self._watcher.aclose()  # in one step: there is nothing left to wait for

    async def _end_once(self) -> None:
        """Who comes second waits for the first."""
        if self._ended is not None:
            await self._ended.wait()
            return
        self._ended = asyncio.Event()
        try:
            await self._close(self.thing)
        finally:
            _kept.discard(self)
            self._ended.set()

    def release(self) -> None:
        """Ends it in its own loop, from wherever this is called."""
        try:
            self.loop.call_soon_threadsafe(self._end_soon)
        except RuntimeError:  # the loop is closed
            self.drop()

    def drop(self) -> None:
        """Frees it at once; its loop will not run again."""
        _kept.discard(self)
        self._bury(self.thing)

    def _end_soon(self) -> None:
        task = self.loop.create_task(self.end())
        _ending.add(task)
        task.add_done_callback(_ending.discard)


_kept: set[_Kept[Any]] = set()
_ending: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def _release_all(things: dict[asyncio.AbstractEventLoop, _Kept[Any]]) -> None:
    while things:
        things.popitem()[1].release()


def _drop_all() -> None:
    for kept in list(_kept):
        kept.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
atexit.register(_drop_all)


def sessions(
    *, connections: int = 0, proxy: ForwardProxy | None = None, repeat_posts: bool = False
) -> PerLoop[aiohttp.ClientSession]:
    """aiohttp sessions: without cookies and without time limits of their own (see `watch`).

    Arguments:
        connections: sockets of each session; 0 for no limit.
        proxy: a server that requests go through.
        repeat_posts: all POST requests to one URL have the same headers and may be sent twice: `Pool.send` sends later ones
            at less cost, and what a used connection ended without an answer is sent again on a new one. If False, a
            session sends nothing twice; pass `middlewares=(once_more,)` with a request that may be sent twice.
    """

    def make() -> aiohttp.ClientSession:
        import aiohttp

        from lllm.http.pool import once_more

        pool, through = connector(proxy, limit=connections, repeat_posts=repeat_posts)
        session = aiohttp.ClientSession(
            connector=pool,
            middlewares=(once_more,) if repeat_posts else (),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=through,
        )
        session._retry_connection = False  # aiohttp would send GET, PUT and DELETE again by itself
        return session

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
