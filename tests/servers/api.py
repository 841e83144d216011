"""An HTTP API on this machine, in a thread of its own: answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """`answer` is an async function of an aiohttp request, or a list of answers, the last of which repeats."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.now = self.most = 0
        self.answer: Handler | list[Any] = echo
        self.url = ""

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(Asked(request.method, request.raw_path, dict(request.headers), body))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            answer = self.answer
            if isinstance(answer, list):
                answer = answer[min(len(self.asked), len(answer)) - 1]
            if callable(answer):
                return await answer(request)
            if isinstance(answer, int):
                return web.Response(status=answer, text=f"status {answer}")
            if isinstance(answer, tuple):
                status, headers, content = answer
                data = content if isinstance(content, bytes) else str(content).encode()
                return web.Response(status=status, headers=headers, body=data)
            return web.json_response(answer)
        finally:
            self.now -= 1


async def echo(request: web.Request) -> web.Response:
    """What was asked, as JSON."""
    body = (await request.read()).decode("utf-8", "replace")
    return web.json_response({"target": request.raw_path, "headers": dict(request.headers), "body": body})


@contextmanager
def in_thread(start: Callable[[], Awaitable[Callable[[], Awaitable[None]]]]) -> Iterator[None]:
    """Runs a server in a loop of its own."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop: list[Callable[[], Awaitable[None]]] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        stop.append(loop.run_until_complete(start()))
        ready.set()
        loop.run_forever()
        loop.run_until_complete(stop[0]())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


@contextmanager
def api(**options: Any) -> Iterator[Api]:
    """A server; `options` are those of `web.AppRunner`."""
    one = Api()

    async def start() -> Callable[[], Awaitable[None]]:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", one.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **options)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        one.url = f"http://127.0.0.1:{port}"
        return runner.cleanup

    with in_thread(start):
        yield one


class Raw:
    """A server that writes bytes as they are: `script` gets reader, writer and the number of the connection."""

    def __init__(
        self, script: Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
    ) -> None:
        self.script = script
        self.connections = self.closed = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.script(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self.closed += 1

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """Reads one request without a body."""
        found = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(found)
        return found


@contextmanager
def raw(
    script: Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]],
) -> Iterator[Raw]:
    """A server that answers as `script` writes."""
    one = Raw(lambda reader, writer, n: script(one, reader, writer, n))

    async def start() -> Callable[[], Awaitable[None]]:
        server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def stop() -> None:
            server.close()

        return stop

    with in_thread(start):
        yield one


@contextmanager
def bytes_server(*answers: bytes, close: bool = True) -> Iterator[Raw]:
    """Answers each request with the next bytes (the last ones repeat), and closes the connection after each."""
    count = 0

    async def script(one: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        nonlocal count
        while True:
            await one.head(reader)
            count += 1
            writer.write(answers[min(count, len(answers)) - 1])
            await writer.drain()
            if close:
                return

    with raw(script) as one:
        yield one
