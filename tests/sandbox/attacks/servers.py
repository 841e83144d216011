"""What an attack may reach if it can: servers that send back what they are sent."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any, Final

ADDRESSES: Final = """
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.send(struct.pack("=IHHIIB3x", 20, 22, 0x301, 1, 0, 2))
data = s.recv(65536)
print([".".join(map(str, data[at:at + 4])) for at in range(len(data) - 3)])
"""
"""Code that prints all addresses of the machine: RTM_GETADDR, see rtnetlink(7)."""

accepted: Final[list[Any]] = []
"""The addresses at which somebody has connected, in their order."""


def outside() -> str:
    """An address that stands for another machine; the loopback where the world has none."""
    with socket.socket() as probe:
        try:
            probe.bind(("10.77.0.1", 0))
            return "10.77.0.1"
        except OSError:
            return "127.0.0.1"


def serve(folder: Path) -> dict[str, Any]:
    """Starts them, in threads. Returns where they are."""
    name = f"attacked-{os.getpid()}"
    addresses: dict[str, tuple[int, int, Any]] = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0)),
        "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}"),
        "pathname": (socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "stream")),
        "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM, str(folder / "datagram")),
    }
    found: dict[str, Any] = {}
    for kind, (family, type_, address) in addresses.items():
        server = socket.socket(family, type_)
        server.bind(address)
        if isinstance(address, str) and address.startswith("/"):
            os.chmod(address, 0o777)
        if type_ == socket.SOCK_STREAM:
            server.listen()
        found[kind] = server.getsockname()[1] if family == socket.AF_INET else address.lstrip("\0")
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
    return found


def _echo(server: socket.socket) -> None:
    while True:
        if server.type == socket.SOCK_DGRAM:
            data, sender = server.recvfrom(999)
            if sender:
                server.sendto(data, sender)
        else:
            with server.accept()[0] as client:
                accepted.append(server.getsockname())
                client.sendall(client.recv(999))
