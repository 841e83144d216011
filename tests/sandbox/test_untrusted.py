"""JSON and sockets that code in a sandbox has made."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from lllm.sandbox.channels import connection
from lllm.sandbox.kernel import Kernel
from lllm.sandbox.outputs import Outputs
from lllm.sandbox.untrusted import TooMany, parse, socket_at
from tests.sandbox.test_watch import Seen


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, 1.5, None, "ab", [[]]])
def test_too_many_values_are_not_made(value: Any) -> None:
    text = json.dumps([value] * 5_000).encode()
    with pytest.raises(TooMany, match="more than 1,000 values"):
        parse(text, 1_000)
    assert parse(text, 50_000) == [value] * 5_000


@pytest.mark.parametrize("text", ["a,b:[{\n", 'he said "yes", \\', "\\" * 3, ",\ud800"])
def test_marks_in_texts_are_no_values(text: str) -> None:
    value = {"text": text * 5_000, "more": [text, text]}
    assert parse(json.dumps(value).encode(), 100) == value


@pytest.mark.parametrize("text", [b'["' + b'\\",' * 2**20, b'"' * 2**20 + b"," * 9, b'["\\' + b"," * 999])
def test_texts_without_an_end(text: bytes) -> None:
    with pytest.raises((TooMany, ValueError)):
        parse(text, 100)


def test_messages_that_break_their_reader_do_not_break_the_channel(tmp_path: Path) -> None:
    deepest: list[Any] = []
    for _ in range(2_000):
        deepest = [deepest]

    async def run() -> None:
        outputs = Outputs(1_000)

        def heard(request: str, kind: str, content: Any) -> bool:
            outputs.add(kind, content)
            return False

        kernel = Kernel(Seen(0), connection(tmp_path), heard)
        unpack = kernel._session.unpack
        kernel._session.unpack = lambda data: {"text": deepest} if data == b"deep" else unpack(data)
        sender = kernel._session
        for content in (b"deep", b'{"text": "x"}'):
            header, parent = (sender.pack(sender.msg_header("stream")) for _ in range(2))
            parts = [header, parent, b"{}", content]
            kernel._received("iopub", [b"<IDS|MSG>", sender.sign(parts), *parts])
        assert outputs.items == [{"output_type": "stream", "name": "stdout", "text": "x"}]

    asyncio.run(run())


def test_links_and_files_are_no_sockets(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        (tmp_path / "link").symlink_to("socket")
        for name in ("link", "file", "missing"):
            with pytest.raises(OSError), socket_at(tmp_path / name):
                pass
        before = os.listdir("/proc/self/fd")
        with socket_at(tmp_path / "socket") as path, socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert os.listdir("/proc/self/fd") == before
