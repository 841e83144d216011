"""A scripted endpoint and a backend that talks to it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lllm.backends.openai import OpenAIBackend
from tests.servers.openai_server import OpenAIServer


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
async def backend(server: OpenAIServer) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(server.url, "sk-secret-of-the-test")
    yield backend
    await backend.aclose()
