"""An API on this machine for each test."""

from collections.abc import Iterator

import pytest

from lllm.proxies import client
from tests.servers.api import Api, api


@pytest.fixture
def server() -> Iterator[Api]:
    with api() as one:
        yield one


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits before a further try are short."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
