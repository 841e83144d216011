"""Forward proxies: the argument's, else the environment's."""

from __future__ import annotations

import importlib.util

import pytest

from lllm.errors import ConfigError, DependencyError
from lllm.http import forward_proxy
from lllm.http.forward_proxy import ForwardProxy, forward_proxy_for

FAR = ("http", "models.example")


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "http_proxy"])
def test_a_missing_package_is_named_with_the_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "socks5://127.0.0.1:1080")
    monkeypatch.setattr(forward_proxy, "find_spec", lambda package: None)
    with pytest.raises(
        DependencyError, match=rf"the SOCKS proxy of {name} needs the package 'aiohttp-socks'"
    ) as e:
        forward_proxy_for(*FAR, None)
    assert e.value.extra == "socks"
    assert forward_proxy_for("http", "127.0.0.1", None) is None  # never for this machine
    assert forward_proxy_for(*FAR, "") is None
    assert importlib.util.find_spec("aiohttp_socks") is not None


@pytest.mark.parametrize("value", ["gopher://127.0.0.1:70", "http://", "http://host:port", "socks6://h:1"])
def test_an_address_that_cannot_be_used_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match=r"(?i)http_proxy must be the URL of a proxy"):
        forward_proxy_for(*FAR, None)
    with pytest.raises(ConfigError, match="proxy must be the URL of a proxy"):
        forward_proxy_for(*FAR, value)


def test_an_address_without_a_scheme_is_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "squid.example:3128")
    found = ForwardProxy("http://squid.example:3128", "http_proxy")
    assert forward_proxy_for(*FAR, None) == found


def test_the_password_is_a_secret_as_written_and_decoded() -> None:
    assert ForwardProxy("http://me:p%40ss@squid.example", "proxy").secrets == ("p%40ss", "p@ss")
    assert ForwardProxy("http://squid.example", "proxy").secrets == ()
