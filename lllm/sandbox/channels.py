"""The channels of a kernel: signed messages, sent and received.

Messages are those of Jupyter (https://jupyter-client.readthedocs.io/en/stable/messaging.html, protocol 5.3 and later), over
unix sockets, which also work where the sandbox has no network. What comes was made by code that nobody trusts.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from lllm.errors import DependencyError, SandboxError
from lllm.sandbox.untrusted import TooMany, parse
from lllm.sandbox.zmtp import Channel

CHANNELS: Final = ("shell", "iopub", "stdin", "control", "hb")
"""In the order of their ports: with `ipc`, that of "shell" is the file `IP-1`."""

LARGEST: Final = 128 * 2**20
"""Bytes of a message that are read."""

VALUE: Final = 64
"""Bytes of the largest message for each value that one may hold."""


def connection(folder: Path) -> dict[str, Any]:
    """The connection file of a kernel whose sockets are in this folder."""
    prefix = str(folder / "k")
    if len(prefix) + 2 > PATH:
        raise SandboxError(
            f"the path of the kernel's sockets is longer than {PATH} characters: '{prefix}'",
            hint="Set TMPDIR to a folder with a shorter path.",
        )
    ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, 1)}
    return {
        "transport": "ipc",
        "ip": prefix,
        **ports,
        "key": secrets.token_hex(32),
        "signature_scheme": "hmac-sha256",
        "kernel_name": "python3",
    }


PATH: Final = 100
"""Characters of a unix socket's path: the kernel takes 107 bytes at most."""


class Channels:
    """The channels of a kernel. A part of Kernel.

    Args:
        info: the connection file.
        largest: bytes of a message. A larger one is not read, and those that follow it may be lost.
    """

    def __init__(self, info: Mapping[str, Any], largest: int) -> None:
        self._info = info
        self._largest = largest
        self._session = _session(info["key"], largest // VALUE)
        self._channels: dict[str, Channel] = {}
        self._replies: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._idle: dict[str, asyncio.Future[None]] = {}

    def _path(self, name: str) -> str:
        return f"{self._info['ip']}-{self._info[f'{name}_port']}"

    @property
    def _are_there(self) -> bool:
        """Whether the kernel has made all of its sockets."""
        return all(Path(self._path(name)).exists() for name in CHANNELS)

    def _connect(self) -> None:
        for name in ("shell", "control", "iopub"):
            self._open(name)

    def _open(self, name: str) -> None:
        kind = "SUB" if name == "iopub" else "DEALER"
        self._channels[name] = Channel(self._path(name), kind, self._largest, partial(self._received, name))

    def _received(self, name: str, frames: list[bytes]) -> None:
        try:
            _, parts = self._session.feed_identities(frames)
            message = self._session.deserialize(parts)
            parent = message["parent_header"].get("msg_id", "")
            kind, content = message["header"]["msg_type"], message["content"]
        except TooMany:
            self._channels[name].lost += 1
            return
        except Exception:  # code inside wrote to our socket
            return
        if not (isinstance(parent, str) and isinstance(kind, str) and isinstance(content, Mapping)):
            return
        with suppress(Exception):  # signed, but not in the form of a message
            if name == "iopub":
                self._published(parent, kind, content)
            elif (waiting := self._replies.pop(parent, None)) is not None and not waiting.done():
                waiting.set_result(content)

    def _published(self, parent: str, kind: str, content: Mapping[str, Any]) -> None:
        """Takes a message of iopub."""
        raise NotImplementedError

    def _send(
        self, channel: str, kind: str, content: Mapping[str, Any]
    ) -> tuple[asyncio.Future[Mapping[str, Any]], asyncio.Future[None]]:
        """Sends a request. Returns the futures of its reply and of the end of its outputs."""
        loop = asyncio.get_running_loop()
        message = self._session.msg(kind, content)
        id = message["header"]["msg_id"]
        self._replies[id], self._idle[id] = reply, idle = loop.create_future(), loop.create_future()
        self._channels[channel].send(self._session.serialize(message))
        return reply, idle

    def _disconnect(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


def _session(key: str, values: int) -> Any:
    try:
        from jupyter_client.session import Session
    except ImportError:
        raise DependencyError("jupyter_client", "sandbox", "a sandbox") from None
    made = Session(key=key.encode(), signature_scheme="hmac-sha256", check_pid=False)
    made.pack, made.unpack = _pack, partial(parse, most=values)
    made.digest_history_size = 1024  # of 65,536, which take some megabytes
    return made


def _pack(value: Any) -> bytes:
    return json.dumps(value, default=str, ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )
