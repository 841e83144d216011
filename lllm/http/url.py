"""Base URLs: parsed and checked; and which hosts are this machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from lllm.errors import ConfigError

if TYPE_CHECKING:
    from yarl import URL

SCHEMES: Final = ("http", "https")


class BaseURL(NamedTuple):
    """A base URL in its parts.

    Attributes:
        scheme: `http` or `https`.
        netloc: host and port as a URL writes them.
        host: in lower case, IPv6 without brackets.
        path: without a slash at the end; may be empty.
        query: without the mark; may hold a key, so it must not be shown.
    """

    scheme: str
    netloc: str
    host: str
    path: str
    query: str


def parse_base_url(text: str, *, setting: str = "base_url", example: str, key_hint: str) -> BaseURL:
    """Parses a base URL. The scheme may be missing for a host on this machine.

    Arguments:
        setting: name of the argument or key, for messages.
        example: hint for text that is not a URL.
        key_hint: hint for a URL that holds a user or password: where to put them instead.

    Raises:
        ConfigError: it has no http or https scheme, no host, or a user or password.
    """
    text = text.strip()
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname or ""
        if not is_loopback(host):
            raise ConfigError(
                f"{setting} is {text!r}, which has no scheme", hint=f"Type: {setting} = 'https://{text}'"
            )
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise ConfigError(f"{setting} is not a URL: {error}", hint=example) from None
    if parts.scheme.lower() not in SCHEMES or not host:
        raise ConfigError(f"{setting} has scheme {parts.scheme!r} and host {host!r}", hint=example)
    if parts.username is not None:
        raise ConfigError(f"{setting} for {host} holds a user or a password", hint=key_hint)
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port is None else f"{shown}:{port}"
    return BaseURL(parts.scheme.lower(), netloc, host, parts.path.rstrip("/"), parts.query)


def foreign_url(text: str) -> URL:
    """A URL that somebody else wrote, parsed. ValueError where it is none, whatever is wrong with it."""
    from yarl import URL

    try:
        return URL(text)
    except IndexError:  # yarl 1.20, of `http://[::1]@`
        raise ValueError("not a URL") from None


def is_loopback(host: str) -> bool:
    """Returns whether `host` means this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
