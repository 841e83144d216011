"""Sessions: one per event loop, closed with it; and what is sent twice."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import pytest

from lllm.http.pool import Pool, once_more
from lllm.http.sessions import PerLoop, sessions

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Forgetful:
    """A server that answers the first request of each connection, and closes the connection at the second."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for answer in (OK, None):
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.split(b"\r\n")[0].decode())
                if answer is not None:
                    writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def forgetful() -> AsyncIterator[Forgetful]:
    server = Forgetful()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield server


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_nothing_is_sent_twice_by_itself(method: str) -> None:
    async with forgetful() as server:
        clients = sessions()
        async with clients.get().request(method, server.url) as response:
            assert await response.read() == b"ok"
        with pytest.raises(aiohttp.ClientConnectionError):
            await clients.get().request(method, server.url)
        assert (len(server.requests), server.connections) == (2, 1)
        await clients.close()


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_request_that_may_be_is_sent_once_more(method: str) -> None:
    async with forgetful() as server:
        clients = sessions()
        for _ in range(3):
            async with clients.get().request(method, server.url, middlewares=(once_more,)) as response:
                assert await response.read() == b"ok"
        assert (len(server.requests), server.connections) == (5, 3)
        await clients.close()


async def test_heads_are_kept_only_where_posts_repeat() -> None:
    for repeat_posts in (False, True):
        async with forgetful() as server:
            clients = sessions(repeat_posts=repeat_posts)
            for number in range(3):
                async with clients.get().post(
                    f"{server.url}{number}", data=b"x", middlewares=(once_more,)
                ) as response:
                    await response.read()
            assert len(cast(Pool, clients.get().connector).heads) == (3 if repeat_posts else 0)
            await clients.close()


def test_nothing_but_the_pool_loads_aiohttp() -> None:
    names = "forward_proxy limiter network_errors retry_after secret_text sessions sse url watch".split()
    program = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(f'lllm.http.{{name}}')\n"
        "assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.parametrize("first", ["owner", "loop"])
def test_a_loop_that_ends_while_its_client_does(first: str) -> None:
    closed: list[str] = []
    noise: list[object] = []

    async def close(thing: str) -> None:
        await asyncio.sleep(0.02)
        closed.append(thing)

    async def use() -> str:
        return things.get()

    things = PerLoop(lambda: "client", close, alive=lambda _: True, bury=lambda _: None)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: noise.append(context))
    loop.run_until_complete(use())
    kept = things._open[loop]
    if first == "owner":
        kept.release()
        loop.run_until_complete(asyncio.sleep(0.005))
    else:
        loop.call_later(0.005, kept.release)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    gc.collect()
    assert (closed, noise) == (["client"], [])
