"""A loopback chat-completions server that is not the bottleneck: a bare asyncio protocol with ready-made answers, in a
process of its own.

A request with fewer than K tool messages is answered with one tool call, any other with `<answer>391</answer>`.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
            length = int(
                head[start + 15 : head.find(b"\r", start) if head.find(b"\r", start) > 0 else len(head)]
            )
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            done = body.count(b'"role":"tool"') + body.count(b'"role": "tool"')
            answer = _CALLS[done] if done < self.rounds else _FINAL
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, answer)
            else:
                self.transport.write(answer)


def _serve(port: socket.socket, rounds: int, delay: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Http(rounds, delay), sock=port, backlog=4096)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def mock_server(rounds: int, delay: float = 0.0) -> Iterator[str]:
    """The base URL of a server that asks for `rounds` tool calls and answers after `delay` seconds."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(listening, rounds, delay), daemon=True
    )
    process.start()
    listening.close()
    try:
        yield url
    finally:
        process.terminate()
        process.join()
