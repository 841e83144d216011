"""A connection that has served a request serves the next one as a new one would: what is sent, and what comes of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.errors import ProviderError, ProviderTimeout
from lllm.ports import Completed, Request
from tests.backends.helpers import ask, limits, reply


def whole(text: str) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def answer(body: bytes, *head: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *head]
    if not any(line.startswith(("Content-Length", "Transfer-Encoding", "Connection")) for line in head):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return (
        b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
        )
        + end
    )


def events(*texts: str, done: bool = True) -> bytes:
    deltas = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    deltas.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    out = b"".join(b"data: %b\n\n" % json.dumps(delta).encode() for delta in deltas)
    return out + b"data: [DONE]\n\n" if done else out


OK = answer(whole("Ready."))
SSE = "text/event-stream"
ANSWERS = {
    "whole": answer(whole("Hello.")),
    "in chunks": answer(chunked(whole("Hello.")), "Transfer-Encoding: chunked"),
    "compressed": answer(gzip.compress(whole("Hello.")), "Content-Encoding: gzip"),
    "until the end": answer(whole("Hello."), "Connection: close"),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(whole("Hello.")),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(whole("Hello.")),
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "old": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + whole("Hello."),
    "a fault": answer(b'{"error": {"message": "no"}}', status="500 Internal Server Error"),
    "busy": answer(b'{"error": {"message": "later"}}', "Retry-After: 7", status="429 Too Many Requests"),
    "elsewhere": answer(b"", "Location: /other", status="307 Temporary Redirect"),
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "cut": answer(whole("Hello."))[:-10],
    "cut in chunks": answer(chunked(whole("Hello."), b""), "Transfer-Encoding: chunked"),
    "wrong chunks": answer(b"zz\r\nHello", "Transfer-Encoding: chunked"),
    "wrong length": answer(whole("Hello."), "Content-Length: many"),
    "wrong compression": answer(b"Hello.", "Content-Encoding: gzip"),
    "long header": answer(whole("Hello."), "X-Long: " + "x" * 20_000),
    "not JSON": answer(b"Hello."),
    "media type": answer(whole("Hello."), kind="Application/JSON; charset=utf-8"),
    "no media type": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
    % (len(whole("Hello.")), whole("Hello.")),
    "events": answer(chunked(events("Hel", "lo.")), "Transfer-Encoding: chunked", kind=SSE),
    "events until the end": answer(events("Hel", "lo."), "Connection: close", kind=SSE),
    "events without an end": answer(
        chunked(events("Hel", "lo.", done=False), b""), "Transfer-Encoding: chunked", kind=SSE
    ),
    "cut events": answer(chunked(events("Hel", "lo.")[:80], b""), "Transfer-Encoding: chunked", kind=SSE),
}


class Server:
    """Answers the first `ready` requests well, and any later one with `bytes`; then it closes the connection."""

    def __init__(self, answer: bytes, ready: int) -> None:
        self.answer, self.ready = answer, ready
        self.heads: list[bytes] = []
        self.connections = 0
        self.hang = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
                ready = len(self.heads) <= self.ready
                if not ready and self.hang:
                    await reader.read()
                writer.write(OK if ready else self.answer)
                if not ready:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def backend_of(server: Server) -> AsyncIterator[OpenAIBackend]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        backend = OpenAIBackend(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", "sk-of-the-test"
        )
        yield backend
        await backend.aclose()


async def outcome(backend: OpenAIBackend, request: Request) -> dict[str, Any]:
    """All deltas, or the error and those before it."""
    deltas: list[Any] = []
    try:
        async for delta in backend.stream(request):
            deltas += [delta.reply.record() if isinstance(delta, Completed) else delta]
    except ProviderError as error:
        told = vars(error)
        return {
            "deltas": deltas,
            "error": type(error),
            "message": _portless(str(error)),
            **{k: _portless(repr(v)) for k, v in told.items()},
        }
    return {"deltas": deltas}


def _portless(text: str) -> str:
    """Without what differs from one connection to the next: the port, and how many bytes came at once."""
    return re.sub(r"\(\d+\)", "(N)", re.sub(r"127\.0\.0\.1:\d+", "HOST", text))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_read_as_on_a_new_connection(name: str, stream: bool) -> None:
    found = []
    for ready in (0, 1, 2):
        server = Server(ANSWERS[name], ready)
        async with backend_of(server) as backend:
            for _ in range(ready):
                assert (await reply(backend, ask())).content == "Ready."
            found.append(await outcome(backend, ask(stream=stream)))
            assert server.connections == 1
            assert len(server.heads) == ready + 1
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_is_sent(stream: bool) -> None:
    server = Server(ANSWERS["events" if stream else "whole"], 2)
    async with backend_of(server) as backend:
        for _ in range(2):
            await reply(backend, ask())
        await outcome(backend, ask("Hellö " * 30_000, stream=stream))
    heads = [re.sub(rb"(?i)content-length: \d+\r\n", b"", head) for head in server.heads]
    assert heads[0] == heads[1] == heads[2]
    assert b"Authorization: Bearer sk-of-the-test\r\n" in heads[2]
    assert server.connections == 1


async def test_the_key_is_not_shown() -> None:
    server = Server(ANSWERS["whole"], 1)
    async with backend_of(server) as backend:
        await reply(backend, ask())
        pool: Any = backend._sessions.get().connector
        (head,) = pool.heads.values()
        assert "sk-of-the-test" not in repr(head) + repr(vars(pool))


@pytest.mark.parametrize("stream", [False, True])
async def test_limits_and_cancellation_end_the_connection(stream: bool) -> None:
    server = Server(b"", 1)
    server.hang = True
    async with backend_of(server) as backend:
        await reply(backend, ask())
        with pytest.raises(ProviderTimeout):
            await reply(backend, ask(stream=stream, timeouts=limits(total=0.05)))
        pool: Any = backend._sessions.get().connector
        assert not pool._acquired
        assert not pool._conns
        task = asyncio.create_task(outcome(backend, ask(stream=stream)))
        while len(server.heads) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not pool._acquired
        assert not pool._conns
    assert server.connections == 2
