"""A loopback chat-completions server that is not the bottleneck: a bare asyncio protocol with ready-made answers, in a
process of its own.

A request with fewer than K tool messages is answered with one tool call, any other with `<answer>391</answer>`.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar


def _response(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _reply(message: dict[str, Any], finish: str) -> bytes:
    return _response(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "mock",
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    )


def _call(number: int) -> bytes:
    arguments = json.dumps({"expression": f"17 * 23 + {number}"})
    function = {"name": "calculate", "arguments": arguments}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return _reply({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")


_CALLS = [_call(number) for number in range(64)]
_FINAL = _reply({"role": "assistant", "content": "<answer>391</answer>"}, "stop")


class _Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough for clients that send Content-Length."""

    def __init__(self, rounds: int, delay: float) -> None:
        self.rounds = rounds
        self.delay = delay
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            start = head.find(b"content-length:")
            stop = head.find(b"\r", start)
            length = int(head[start + 15 : stop if stop > 0 else len(head)]) if start >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            answer = self.answer(head, body)
            if self.delay and body:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, answer)
            else:
                self.transport.write(answer)

    def answer(self, head: bytes, body: bytes) -> bytes:
        done = body.count(b'"role":"tool"') + body.count(b'"role": "tool"')
        return _CALLS[done] if done < self.rounds else _FINAL


class _Counting(_Http):
    """Answers with the last message and a `+`, and counts how often each was sent. GET gives the counts."""

    asked: ClassVar[Counter[str]] = Counter()

    def answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"get "):
            return _response(self.asked)
        words = json.loads(body)["messages"][-1]["content"]
        self.asked[words] += 1
        return _reply({"role": "assistant", "content": f"{words}+"}, "stop")


def _serve(make: Callable[[], asyncio.Protocol], port: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make, sock=port, backlog=4096)
        await server.serve_forever()

    asyncio.run(main())


def mock_server(rounds: int, delay: float = 0.0) -> AbstractContextManager[str]:
    """The base URL of a server that asks for `rounds` tool calls and answers after `delay` seconds."""
    return _running(partial(_Http, rounds, delay))


def counting_server(delay: float = 0.0) -> AbstractContextManager[str]:
    """The base URL of a server that answers with what it is asked and a `+` after `delay` seconds: see `counts`."""
    return _running(partial(_Counting, 0, delay))


def counts(url: str) -> Counter[str]:
    """How often a counting server was asked each thing."""
    with urllib.request.urlopen(f"{url}/counts", timeout=30) as answer:
        return Counter(json.load(answer))


@contextmanager
def _running(make: Callable[[], asyncio.Protocol]) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(make, listening), daemon=True)
    process.start()
    listening.close()
    try:
        yield url
    finally:
        process.terminate()
        process.join()
