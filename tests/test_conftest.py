"""The switches of conftest.py do what the other tests rely on."""

import os
import socket
from pathlib import Path

import pytest

from tests.conftest import NetworkRefused


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "0.0.0.1"])
def test_connecting_to_another_machine_is_refused(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock, pytest.raises(NetworkRefused, match="only talk to this machine"):
        sock.connect((address, 80))


def test_sending_a_datagram_to_another_machine_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(NetworkRefused):
        sock.sendto(b"", ("192.0.2.1", 53))


def test_resolving_another_machine_is_refused() -> None:
    with pytest.raises(NetworkRefused, match=r"example\.com"):
        socket.getaddrinfo("example.com", 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()


def test_home_is_empty_and_the_working_folder() -> None:
    assert Path.home() == Path.cwd()
    assert list(Path.home().iterdir()) == []
    assert [name for name in os.environ if name.startswith("LLLM_")] == []
