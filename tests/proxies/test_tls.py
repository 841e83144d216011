"""Encrypted connections: the first request of a loop and later ones, and a certificate that nobody vouches for."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from lllm.errors import EndpointUnreachable
from lllm.proxies import BaseProxy, Proxy
from tests.servers.api import in_thread

CERTIFICATE = Path(__file__).parents[1] / "servers" / "localhost.pem"
"""Of this test alone: for localhost, with its key, signed by itself."""

PROGRAM = """
import sys
from lllm.proxies import BaseProxy, Proxy

class Shop(BaseProxy):
    base_url = sys.argv[1]

    @BaseProxy.endpoint(endpoint="a")
    def get(self): ...

    @BaseProxy.endpoint(endpoint="a", method="HEAD")
    def head(self): ...

proxy = Proxy([Shop])
print([proxy(f"Shop.{key}") for key in ("get", "head", "get", "head", "get")])
"""


@pytest.fixture
def url() -> Iterator[str]:
    found: list[str] = []

    async def start() -> Callable[[], Awaitable[None]]:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response(request.method)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        found.append(f"https://localhost:{runner.addresses[0][1]}")
        return runner.cleanup

    with in_thread(start):
        yield found[0]


def test_a_certificate_that_is_trusted(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, url],
        env={"SSL_CERT_FILE": str(CERTIFICATE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "['GET', None, 'GET', None, 'GET']\n", done.stderr


def test_a_certificate_that_is_not(url: str) -> None:
    class Shop(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(endpoint="a")
        def get(self) -> None: ...

    with pytest.raises(EndpointUnreachable, match="CERTIFICATE_VERIFY_FAILED") as caught:
        asyncio.run(Proxy([Shop]).acall("Shop.get"))
    assert not caught.value.sent
    assert "tried" not in str(caught.value)


def test_pages_are_fetched_from_the_host_that_the_certificate_names(url: str) -> None:
    """The connection leads to an address that was checked; who answers there must still be the host of the URL."""
    port = url.rpartition(":")[2]
    program = """
import socket, sys
from lllm.proxies import Proxy

real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: real("127.0.0.1" if host == "other.test" else host, *more, **named)
port = sys.argv[1]
allowed = {"allow": [f"localhost:{port}", f"other.test:{port}"], "allow_private": [f"127.0.0.0/8:{port}", f"[::1]:{port}"]}
proxy = Proxy(["fetch"], options={"fetch": allowed})
for host in ("localhost", "other.test"):
    try:
        print(proxy("fetch.page", url=f"https://{host}:{port}/")["data"])
    except Exception as error:
        print(type(error).__name__, error.retryable, "CERTIFICATE_VERIFY_FAILED" in str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, port],
        env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == ["GET", "EndpointUnreachable False True"], done.stderr
