"""Proxies: the environment's and the argument's, HTTP and SOCKS."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

import pytest

from lllm.backends.openai import OpenAIBackend, proxy
from lllm.errors import ConfigError, DependencyError
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


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "http_proxy"])
def test_a_missing_package_is_named_with_the_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "socks5://127.0.0.1:1080")
    monkeypatch.setattr(proxy, "find_spec", lambda package: None)
    with pytest.raises(
        DependencyError, match=rf"the SOCKS proxy of {name} needs the package 'aiohttp-socks'"
    ) as e:
        OpenAIBackend(FAR, "sk-key-for-the-test")
    assert e.value.extra == "socks"
    OpenAIBackend("http://127.0.0.1:8000")  # never for this machine
    OpenAIBackend(FAR, "sk-key-for-the-test", proxy="")
    assert importlib.util.find_spec("aiohttp_socks") is not None


@pytest.mark.parametrize("value", ["gopher://127.0.0.1:70", "http://", "http://host:port", "socks6://h:1"])
def test_an_address_that_cannot_be_used_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match=r"(?i)http_proxy must be the URL of a proxy"):
        OpenAIBackend(FAR, "sk-key-for-the-test")
    with pytest.raises(ConfigError, match="proxy must be the URL of a proxy"):
        OpenAIBackend(FAR, "sk-key-for-the-test", proxy=value)


def test_an_address_without_a_scheme_is_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "squid.example:3128")
    backend = OpenAIBackend(FAR, "sk-key-for-the-test")
    assert backend._proxy == proxy.Proxy("http://squid.example:3128", "http_proxy")
