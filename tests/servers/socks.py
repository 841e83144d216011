"""A SOCKS5 proxy (RFC 1928, 1929) on this machine, which says where it was asked to connect to."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress


class Socks:
    """`async with Socks() as proxy:`; `proxy.port` is where it listens, `proxy.asked` has the targets, `proxy.users` who
    logged in."""

    def __init__(self, port: int) -> None:
        self.target = port  # all connections lead there
        self.asked: list[str] = []
        self.users: list[str] = []
        self.port = 0

    async def __aenter__(self) -> Socks:
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if 2 in methods:
            writer.write(b"\x05\x02")
            _, size = await reader.readexactly(2)
            self.users.append((await reader.readexactly(size)).decode())
            await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\x01\x00")
        else:
            writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        size = (await reader.readexactly(1))[0] if kind == 3 else 4
        name = await reader.readexactly(size)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.asked.append(f"{name.decode() if kind == 3 else '.'.join(map(str, name))}:{port}")
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, back]
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        ways = [asyncio.ensure_future(_pass(reader, back)), asyncio.ensure_future(_pass(there, writer))]
        self._tasks |= set(ways)
        await asyncio.wait(ways)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
