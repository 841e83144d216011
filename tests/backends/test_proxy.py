"""Proxies: the environment's and the argument's, HTTP and SOCKS."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.errors import ConfigError
from tests.backends.helpers import ask, reply
from tests.servers.openai_server import OpenAIServer, Script
from tests.servers.socks import Socks

FAR = "http://models.example:8000/v1"


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_socks_is_spoken(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as server:
        server.forever = Script("Hi.")
        async with Socks(urlsplit(server.url).port or 0) as socks:
            monkeypatch.setenv("ALL_PROXY", f"socks5h://me:secret-word@127.0.0.1:{socks.port}")
            backend = OpenAIBackend(FAR, "sk-key-for-the-test", api=api)  # type: ignore[arg-type]
            for stream in (False, True):
                assert (await reply(backend, ask(stream=stream))).content == "Hi."
            await backend.aclose()
            assert set(socks.asked) == {"models.example:8000"}  # the proxy looked the name up
            assert set(socks.users) == {"me"}


def test_the_argument_and_the_variable_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="proxy must be the URL of a proxy"):
        OpenAIBackend(FAR, "sk-key-for-the-test", proxy="gopher://127.0.0.1:70")
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1:70")
    with pytest.raises(ConfigError, match="http_proxy must be the URL of a proxy"):
        OpenAIBackend(FAR, "sk-key-for-the-test")
    OpenAIBackend("http://127.0.0.1:8000")
    OpenAIBackend(FAR, "sk-key-for-the-test", proxy="")
