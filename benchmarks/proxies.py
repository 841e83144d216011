"""What a call of an endpoint costs beside bare `aiohttp`, against the same loopback server, in the same run, interleaved.

    python -m benchmarks.proxies            # the whole table, about a minute
    python -m benchmarks.proxies --quick

Both send the same request and read the same JSON. Ours checks the arguments and adds a credential; with a log, intent and
answer of each call are in SQLite (its default durability), redacted.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

One = Callable[[], Awaitable[Any]]
VALUE = {"id": 5, "name": "abc", "tags": ["a", "b"], "price": 12.5, "stock": {"oslo": 3, "rome": 0}}
BODY = b'{"id":5,"name":"abc","tags":["a","b"],"price":12.5,"stock":{"oslo":3,"rome":0}}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY
KEY = "a-key-that-nobody-should-see"


class _Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive for requests without a body. Keeps how many are on their way."""

    now = most = 0

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            if head.startswith(b"GET /most "):
                text = b"%d" % _Http.most
                _Http.most = 0
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
                continue
            _Http.now += 1
            _Http.most = max(_Http.most, _Http.now)
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        _Http.now -= 1
        self.transport.write(ANSWER)


def _serve(port: socket.socket, delay: float) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Http(delay), sock=port, backlog=4096)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def server(delay: float = 0.0) -> Iterator[str]:
    """The URL of a server in a process of its own, which answers after `delay` seconds."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(listening, delay), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()
    try:
        yield url
    finally:
        process.terminate()
        process.join()


def bare(session: Any, url: str) -> One:
    """What a careful person writes by hand."""

    async def one() -> Any:
        headers = {"X-Key": KEY, "Accept": "application/json"}
        async with session.get(f"{url}/items/5", params={"q": "abc"}, headers=headers) as response:
            response.raise_for_status()
            return await response.json()

    return one


def ours(url: str, concurrency: int | None = None) -> One:
    """The same by a proxy."""
    from lllm.proxies import BaseProxy, Header, Proxy

    limit = concurrency

    class Shop(BaseProxy, register=False):
        base_url = url
        auth = Header("X-Key", env="SHOP_KEY")
        concurrency = limit

        @BaseProxy.endpoint(endpoint="items/{item}")
        def item(self, item: int, q: str) -> dict: ...  # type: ignore[empty-body, type-arg]

    proxy = Proxy([Shop], variables={"SHOP_KEY": KEY})
    return lambda: proxy.acall("Shop.item", item=5, q="abc")


async def cpu(one: One, calls: int) -> float:
    """CPU microseconds of this process per call, one after the other."""
    start = time.process_time()
    for _ in range(calls):
        assert await one() == VALUE
    return (time.process_time() - start) / calls * 1e6


async def wall(one: One, calls: int, at_once: int) -> float:
    """Microseconds per call, `at_once` at a time."""
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            assert await one() == VALUE

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (time.perf_counter() - start) / calls * 1e6


async def contest(
    measure: Callable[[One], Awaitable[float]], delay: float, repeats: int, folder: Path
) -> dict[str, float]:
    """The median of each contender."""
    import aiohttp

    import lllm
    from lllm.log import NoLog, SQLiteLog

    samples: dict[str, list[float]] = {}
    with server(delay) as url:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            by_hand, call = bare(session, url), ours(url)

            async def recorded(store: Any) -> float:
                async with lllm.arecord("bench", store=store):
                    return await measure(call)

            store = SQLiteLog(folder / f"{delay}.db")
            contenders: dict[str, Callable[[], Awaitable[float]]] = {
                "aiohttp by hand": lambda: measure(by_hand),
                "a proxy, no session": lambda: measure(call),
                "a proxy, log off": lambda: recorded(NoLog()),
                "a proxy, SQLite": lambda: recorded(store),
            }
            for n in range(repeats + 1):
                for name, work in contenders.items():
                    took = await work()
                    if n:  # what is opened and imported once is not counted, for nobody
                        samples.setdefault(name, []).append(took)
            store.close()
    return {name: statistics.median(values) for name, values in samples.items()}


async def limited(folder: Path) -> tuple[float, int]:
    """Seconds of 1,000 calls at once under a limit of 50, in a session, and the most that the server saw."""
    import aiohttp

    import lllm
    from lllm.log import SQLiteLog

    with server(0.005) as url:
        call = ours(url, concurrency=50)
        store = SQLiteLog(folder / "limited.db")
        async with lllm.arecord("bench", store=store):
            await call()
            start = time.perf_counter()
            await asyncio.gather(*(call() for _ in range(1000)))
            took = time.perf_counter() - start
        store.close()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/most") as response:
            return took, int(await response.text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    options = parser.parse_args()
    repeats, calls = (3, 100) if options.quick else (9, 300)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = asyncio.run(contest(lambda one: cpu(one, calls), 0.0, repeats, folder))
        many = asyncio.run(contest(lambda one: wall(one, calls * 4, 32), 0.005, repeats, folder))
        first = alone["aiohttp by hand"]
        print(f"{'':22}{'CPU us, one at a time':>26}{'us per call, 32 at once, 5 ms':>36}")
        for contender, took in alone.items():
            each = many[contender]
            cells = (
                f"{took:12.0f} ({took - first:+6.0f})",
                f"{each:14.0f} ({each / many['aiohttp by hand']:5.2f})",
            )
            print(f"{contender:22}{cells[0]:>26}{cells[1]:>36}")
        took, most = asyncio.run(limited(folder))
        print(f"\n1,000 calls at once, concurrency = 50: {took:.2f} s, at most {most} at the server")


if __name__ == "__main__":
    main()
