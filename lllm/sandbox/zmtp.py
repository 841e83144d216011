"""A client's side of ZMTP 3.0 over a unix socket, which is what ZMQ speaks: https://rfc.zeromq.org/spec/23.

What is at the other end is code that nobody trusts, and it may speak past ZMQ. ZMQ's own client keeps a message of many parts
until its last one has come, however large it grows; this one reads on and forgets what is over the limit.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from lllm.sandbox.untrusted import socket_at

GREETING: Final = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
"""Signature, version, mechanism, and that this is no server."""
PARTS: Final = 1000
"""Of a message at most."""
COMMAND: Final = 1 << 16
"""Bytes of the largest command."""
AGAIN: Final = 0.02
"""Seconds until a connection is tried again."""
PATIENCE: Final = 8
"""Messages of the largest size that are read and forgotten, in all. Then nothing more is read."""

TURN: Final = 0.005
"""Seconds for which frames are taken at a time. Then others have their turn: a kernel can send faster than they are taken."""
AHEAD: Final = 16 << 20
"""Bytes that are read before their frames are taken: a kernel forgets what it publishes while nobody reads."""

_MORE, _LONG, _IS_COMMAND = 1, 2, 4


class Channel(asyncio.Protocol):
    """A connection that is made again when it is lost, until it is closed.

    Args:
        path: of the socket. kind: `DEALER`, or `SUB` for one that gets all that is published.
        largest: bytes of a message. Of a larger one nothing is kept.
        heard: called with the parts of each message.
    """

    def __init__(self, path: str, kind: str, largest: int, heard: Callable[[list[bytes]], None]) -> None:
        self.lost = 0
        """Messages that were too large."""
        self.received = 0
        """Bytes that have come."""
        self.behind = False
        """Whether frames that have come wait for their turn."""
        self._path, self._kind, self._largest, self._heard = path, kind, largest, heard
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._waiting: list[bytes] = []
        self._forgotten = 0
        self._clear()
        self._connecting = self._loop.create_task(self._connect())

    def _clear(self) -> None:
        self._buffer = bytearray()
        self.behind = False
        self._greeted = self._ready = False
        self._parts: list[bytes] = []
        self._size = 0
        self._skip = 0
        self._more = False
        self._too_large = False

    async def _connect(self) -> None:
        while not self._closed:
            try:
                with socket_at(self._path) as path:
                    await self._loop.create_unix_connection(lambda: self, path)
            except OSError:  # nobody listens yet
                await asyncio.sleep(AGAIN)
            else:
                return

    def send(self, parts: Sequence[bytes]) -> None:
        """Sends a message, as soon as there is a connection."""
        data = b"".join(_framed(part, more=at < len(parts) - 1) for at, part in enumerate(parts))
        if self._transport is None or not self._ready:
            self._waiting.append(data)
        else:
            self._transport.write(data)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def close(self) -> None:
        """Ends it."""
        self._closed = True
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()

    # --- called by the loop

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        self._transport = transport
        kind = b"\x0bSocket-Type" + struct.pack(">I", len(self._kind)) + self._kind.encode()
        ready = b"\x05READY" + kind + b"\x08Identity" + bytes(4)
        transport.write(GREETING + bytes([_IS_COMMAND, len(ready)]) + ready)

    def _begin(self) -> None:
        """Sends what has waited: the other end has said that it is ready."""
        if self._transport is None:  # it has ended meanwhile
            return
        self._ready = True
        waiting, self._waiting = self._waiting, []
        first = _framed(b"\x01", more=False) if self._kind == "SUB" else b""  # all that is published
        self._transport.write(first + b"".join(waiting))

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        if not self.behind:
            self._ended()

    def _ended(self) -> None:
        """All has been taken that came before the connection was lost."""
        self._clear()
        if not self._closed:
            self._connecting = self._loop.create_task(self._again())

    async def _again(self) -> None:
        await asyncio.sleep(AGAIN)
        await self._connect()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.received += len(data)
        self._buffer += data
        if not self.behind:
            self._take()
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Reads on, unless too much waits for its turn."""
        if self._transport is None or self._closed:
            return
        if self.behind and len(self._buffer) > AHEAD:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _take(self) -> None:
        """Takes the frames that have come, as many as there is time for."""
        if self._closed:
            return
        if not self._greeted:
            if len(self._buffer) < len(GREETING):
                return
            if self._buffer[0] != 0xFF or self._buffer[9] != 0x7F or self._buffer[10] < 3:
                self.close()
                return
            self._greeted = True
            del self._buffer[: len(GREETING)]
        until = self._loop.time() + TURN
        while not self._closed and self._frame():
            if self._loop.time() >= until:
                self.behind = True
                self._loop.call_soon(self._take)
                self._read_or_wait()
                return
        if self.behind:
            self.behind = False
            self._read_or_wait()
            if self._transport is None:
                self._ended()

    def _frame(self) -> bool:
        """Takes a frame, or a part of one that is forgotten, from what has come. False where it has not yet come."""
        if self._skip:
            taken = min(self._skip, len(self._buffer))
            del self._buffer[:taken]
            self._skip -= taken
            self._forgotten += taken
            if self._forgotten > PATIENCE * self._largest:
                self.close()
            elif not self._skip:
                self._end()
            return taken > 0
        if len(self._buffer) < 2:
            return False
        flags = self._buffer[0]
        header = 9 if flags & _LONG else 2
        if len(self._buffer) < header:
            return False
        size = struct.unpack_from(">Q", self._buffer, 1)[0] if flags & _LONG else self._buffer[1]
        if flags & _IS_COMMAND:
            if size > COMMAND:
                self.close()
                return False
        else:
            self._more = bool(flags & _MORE)
            if self._too_large or self._size + size > self._largest or len(self._parts) >= PARTS:
                self._too_large = True
                self._parts.clear()
                self._skip = size
                del self._buffer[:header]
                if not size:
                    self._end()
                return True
        if len(self._buffer) < header + size:
            return False
        if not flags & _IS_COMMAND:
            self._parts.append(bytes(self._buffer[header : header + size]))
            self._size += size
        del self._buffer[: header + size]
        if not flags & _IS_COMMAND:
            self._end()
        elif not self._ready:
            self._begin()
        return True

    def _end(self) -> None:
        """Gives a message on, when its last part has come."""
        if self._more:
            return
        parts, lost = self._parts, self._too_large
        self._parts, self._size, self._too_large = [], 0, False
        if lost:
            self.lost += 1
        else:
            self._heard(parts)


def _framed(part: bytes, *, more: bool) -> bytes:
    if len(part) < 256:
        return bytes([_MORE * more, len(part)]) + part
    return bytes([_MORE * more | _LONG]) + struct.pack(">Q", len(part)) + part
