"""Chooses the forward proxy for requests (`https_proxy` and similar), and creates the connector for it."""

from __future__ import annotations

import os
import urllib.request
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from lllm.errors import ConfigError, DependencyError
from lllm.http.url import SCHEMES, is_loopback

if TYPE_CHECKING:
    import aiohttp

SOCKS: Final = ("socks4", "socks4a", "socks5", "socks5h")


class ForwardProxy(NamedTuple):
    """A server that requests go through, not to be confused with the proxies of APIs in `lllm.proxies`.

    Attributes:
        url: its address; may hold a password.
        source: the argument or environment variable that named it.
    """

    url: str
    source: str

    @property
    def socks(self) -> bool:
        """True for SOCKS, which aiohttp does not support."""
        return _scheme(self.url) in SOCKS

    @property
    def secrets(self) -> tuple[str, ...]:
        """Its password, as written and decoded."""
        password = urlsplit(self.url).password
        return () if password is None else (password, unquote(password))


def forward_proxy_for(scheme: str, host: str, given: str | None) -> ForwardProxy | None:
    """Returns `given` (None if it is ""), else the environment's proxy (`https_proxy`, `all_proxy` and similar). The
    environment's is never used for this machine.

    Raises:
        ConfigError: its address cannot be used. DependencyError: it speaks SOCKS, and the package for that is missing.
    """
    if given is not None:
        return _checked(ForwardProxy(given, "proxy")) if given else None
    if is_loopback(host):
        return None
    proxies = urllib.request.getproxies()
    if not proxies or urllib.request.proxy_bypass(host):
        return None
    for kind in (scheme, "all"):
        if found := proxies.get(kind):
            return _checked(ForwardProxy(found, _variable(kind, found)))
    return None


def connector(proxy: ForwardProxy | None, **options: Any) -> tuple[aiohttp.TCPConnector, str | None]:
    """Creates the connector for a session. Also returns the proxy to pass to the session itself. `options` are those of
    `Pool`."""
    from lllm.http.pool import Pool

    if proxy is None or not proxy.socks:
        return Pool(**options), None if proxy is None else proxy.url
    from aiohttp_socks import ProxyConnector, ProxyType

    parts = urlsplit(proxy.url)
    scheme = _scheme(proxy.url)
    made: Any = type("SocksPool", (Pool, ProxyConnector), {})
    return (
        made(
            host=parts.hostname,
            port=parts.port or 1080,
            proxy_type=ProxyType.SOCKS4 if scheme.startswith("socks4") else ProxyType.SOCKS5,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            rdns=True,  # the proxy resolves names: this machine may not be able to
            **options,
        ),
        None,
    )


def _checked(proxy: ForwardProxy) -> ForwardProxy:
    if "://" not in proxy.url:
        proxy = proxy._replace(url=f"http://{proxy.url}")  # like curl
    try:
        parts = urlsplit(proxy.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    scheme = _scheme(proxy.url)
    if host is None or scheme not in (*SCHEMES, *SOCKS):
        given = f"scheme '{scheme}'" if host is not None else "no host"
        raise ConfigError(
            f"{proxy.source} must be the URL of a proxy, got one with {given}",
            hint=f"Possible: {', '.join(f'{name}://host:port' for name in (*SCHEMES, *SOCKS))}.",
        )
    if proxy.socks and find_spec("aiohttp_socks") is None:
        raise DependencyError("aiohttp-socks", "socks", f"the SOCKS proxy of {proxy.source}")
    return proxy


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _variable(kind: str, value: str) -> str:
    """The environment variable that named a proxy; as in curl, case does not matter."""
    names = [name for name in os.environ if name.lower() == f"{kind}_proxy" and os.environ[name] == value]
    return names[0] if names else "the system's settings"
