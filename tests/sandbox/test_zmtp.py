"""What the client of ZMTP takes from the other end, and what it leaves."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from lllm.sandbox import zmtp
from lllm.sandbox.zmtp import GREETING, Channel

READY = b"\x04\x06\x05READY"
LARGEST = 10_000


def message(*parts: bytes) -> bytes:
    return b"".join(zmtp._framed(part, more=at < len(parts) - 1) for at, part in enumerate(parts))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def served(
    folder: Path, script: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> tuple[Channel, list[list[bytes]]]:
    """A channel whose other end runs a script, once they have greeted each other."""
    heard: list[list[bytes]] = []
    done = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + READY)
        try:
            await script(writer)
            await writer.drain()
        except OSError:
            pass
        done.set()
        while await reader.read(65536):  # until the channel is closed
            pass
        writer.close()

    server = await asyncio.start_unix_server(connected, folder / "s")
    channel = Channel(str(folder / "s"), "SUB", LARGEST, heard.append)
    await done.wait()
    await asyncio.sleep(0.05)
    server.close()
    return channel, heard


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_messages_however_they_arrive(step: int, tmp_path: Path) -> None:
    sent = [[b"a"], [b"", b"b" * 255, b"c" * 256], [b"d" * 9000], [b""]]

    async def script(writer: asyncio.StreamWriter) -> None:
        data = b"".join(message(*parts) for parts in sent)
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            if step > 1 or at % 997 == 0:
                await asyncio.sleep(0)

    async def main() -> None:
        channel, heard = await served(tmp_path, script)
        await until(lambda: len(heard) == len(sent))
        assert heard == sent
        channel.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


@pytest.mark.parametrize(
    "large",
    [
        [b"x" * (LARGEST + 1)],
        [b"x" * 6000, b"y" * 6000, b"z"],
        [b""] * (zmtp.PARTS + 5),
        [b"x" * 6000, b"y" * 6000, b""],
    ],
    ids=["one part", "several parts", "many parts", "an empty last part"],
)
def test_a_message_over_the_limit_is_forgotten_and_the_next_is_heard(
    large: list[bytes], tmp_path: Path
) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(message(b"before") + message(*large) + message(b"after"))

    async def main() -> None:
        channel, heard = await served(tmp_path, script)
        await until(lambda: len(heard) == 2)
        assert heard == [[b"before"], [b"after"]]
        assert channel.lost == 1
        channel.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_a_message_without_end_is_not_kept(tmp_path: Path) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        part = zmtp._framed(b"x" * 1000, more=True)
        for _ in range(1000):
            writer.write(part)
            await writer.drain()

    async def main() -> None:
        channel, heard = await served(tmp_path, script)
        assert heard == []
        assert len(channel._buffer) <= LARGEST
        assert sum(map(len, channel._parts)) <= LARGEST
        assert channel.received < 20 * LARGEST + 2**20, "it has stopped reading"
        assert channel._closed
        channel.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


@pytest.mark.parametrize(
    "nonsense",
    [b"\0" * 64, b"HTTP/1.1 400 Bad Request\r\n" * 5, GREETING + b"\x06" + struct.pack(">Q", 2**40)],
    ids=["zeros", "http", "a huge command"],
)
def test_an_end_that_speaks_something_else_is_left(nonsense: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(nonsense)
            await reader.read(65536)
            writer.close()

        server = await asyncio.start_unix_server(connected, tmp_path / "s")
        channel = Channel(str(tmp_path / "s"), "DEALER", LARGEST, lambda parts: None)
        await until(lambda: channel._closed)
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_with_zmq_itself_and_after_a_lost_connection(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/s"

    async def main() -> None:
        context = zmq.asyncio.Context()
        heard: list[list[bytes]] = []
        channel = Channel(f"{tmp_path}/s", "DEALER", LARGEST, heard.append)
        channel.send([b"early", b"x" * 300])  # nobody listens yet
        for _ in range(2):
            router = context.socket(zmq.ROUTER)
            router.linger = 0
            router.bind(address)
            async with asyncio.timeout(30):
                identity, *parts = await router.recv_multipart()
            assert parts == [b"early", b"x" * 300]
            await router.send_multipart([identity, b"answer", b"y" * 3000])
            await until(lambda: bool(heard))
            assert heard.pop() == [b"answer", b"y" * 3000]
            router.close()
            await until(lambda: channel._transport is None)
            channel.send(parts)
        channel.close()
        context.term()

    asyncio.run(main())


@pytest.mark.parametrize("frame", [b"\0\0", b"\4\0", b"\1\0", message(b"x" * 300)])
def test_others_have_their_turn_while_much_is_read(
    frame: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, turns = 0, set()
    take = Channel._frame

    def seen(self: Channel) -> bool:
        turns.add(turn)
        return take(self)

    monkeypatch.setattr(zmtp, "TURN", 0.0)
    monkeypatch.setattr(Channel, "_frame", seen)

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(frame * 500 + message(b"last"))

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.get_running_loop().create_task(others())
        channel, heard = await served(tmp_path, script)
        await until(lambda: bool(heard) and heard[-1][-1] == b"last" and not channel.behind)
        assert len(turns) > 400
        other.cancel()
        channel.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_what_came_before_the_end_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmtp, "TURN", 0.0)
    count = 2_000

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(GREETING))
        writer.write(GREETING + READY + b"".join(message(b"%d" % number) for number in range(count)))
        await writer.drain()
        writer.close()  # before they can have been taken

    async def main() -> None:
        server = await asyncio.start_unix_server(connected, tmp_path / "s")
        heard: list[list[bytes]] = []
        channel = Channel(str(tmp_path / "s"), "SUB", LARGEST, heard.append)
        await until(lambda: len(heard) >= 2 * count)  # and it has connected again
        channel.close()
        server.close()
        assert heard[: 2 * count] == [[b"%d" % number] for number in range(count)] * 2
        await asyncio.sleep(0.05)

    asyncio.run(main())


@pytest.mark.parametrize("ahead", [0, 1000])
def test_no_more_is_read_ahead_than_is_allowed(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmtp, "TURN", 0.0)
    monkeypatch.setattr(zmtp, "AHEAD", ahead)
    most, take, count = 0, Channel._frame, 5_000

    def seen(self: Channel) -> bool:
        nonlocal most
        most = max(most, len(self._buffer))
        return take(self)

    monkeypatch.setattr(Channel, "_frame", seen)

    async def script(writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            writer.write(message(b"x" * 1000))

    async def main() -> None:
        channel, heard = await served(tmp_path, script)
        await until(lambda: len(heard) == count)
        assert most < ahead + 2 * 2**18 + 2_000  # a read is of 256 KiB
        channel.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())
