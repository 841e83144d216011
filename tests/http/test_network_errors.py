"""Exceptions of the network, sorted: what kind they are, and whether the request may have been sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import aiohttp
import pytest

from lllm.http.network_errors import NetworkError, network_error
from lllm.http.sessions import sessions

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


async def meet(answer: bytes) -> NetworkError:
    """Returns the error of a request to a server that sends these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    clients, started = sessions(), False
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        try:
            async with clients.get().get(
                f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
            ) as response:
                started = True
                await response.read()
        except Exception as error:
            return network_error(error, started=started)
        finally:
            await clients.close()
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "dropped"),
        (HEAD, "interrupted"),
        (HEAD + b"some", "interrupted"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not_http"),
    ],
)
async def test_what_a_server_may_do(answer: bytes, kind: str) -> None:
    error = await meet(answer)
    assert (error.kind, error.sent) == (kind, True)
    assert error.text


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    clients = sessions()
    with pytest.raises(aiohttp.ClientError) as caught:
        await clients.get().get(f"http://127.0.0.1:{port}/")
    await clients.close()
    error = network_error(caught.value, started=False)
    assert (error.kind, error.sent) == ("unreachable", False)
    assert "ssl:default" not in error.text


async def test_no_connection_in_time() -> None:
    clients, limit = sessions(), aiohttp.ClientTimeout(connect=0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # never speaks TLS
        pytest.raises(aiohttp.ClientError) as caught,
    ):
        await clients.get().get(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=limit)
    await clients.close()
    error = network_error(caught.value, started=False)
    assert (error.kind, error.sent) == ("timeout", False)


def _key() -> Any:
    return aiohttp.client_reqrep.ConnectionKey("api.example", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ClientConnectorDNSError(_key(), OSError(-2, "Name or service not known")), "name"),
        (
            aiohttp.ClientConnectorCertificateError(_key(), ssl.SSLCertVerificationError("self-signed")),
            "certificate",
        ),
        (aiohttp.ClientConnectorSSLError(_key(), ssl.SSLError(1, "wrong version number")), "unreachable"),
        (aiohttp.ClientProxyConnectionError(_key(), OSError(111, "refused")), "unreachable"),
        (aiohttp.ClientHttpProxyError(None, (), status=407, message="Authenticate"), "not_http"),  # type: ignore[arg-type]
    ],
)
def test_what_comes_before_the_request(error: Exception, kind: str) -> None:
    found = network_error(error, started=False)
    assert (found.kind, found.sent) == (kind, False)
    assert found.text


def test_a_socks_proxy_that_refuses_comes_before_the_request() -> None:
    python_socks = pytest.importorskip("python_socks")
    error = network_error(python_socks.ProxyError("Connection refused by destination host"), started=False)
    assert (error.kind, error.sent) == ("unreachable", False)
