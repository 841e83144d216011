"""Where requests go: the base-URL rule.

The path that was given is kept. `/v1` is added only to a bare host, because every known server has its API there,
while gateways have theirs anywhere (`/api/v1`, `/openai/v1`, `/v1beta/openai`). A pasted endpoint address
(`.../chat/completions`) is cut back to its root.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lllm.errors import ConfigError

DEFAULT: Final = "https://api.openai.com/v1"
AZURE: Final = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_ENDPOINTS: Final = ("/chat/completions", "/completions", "/responses", "/models")


class Endpoint(NamedTuple):
    """An API root.

    Attributes:
        root: scheme, host and path, without a slash at the end.
        query: what every request repeats after `?`, without the mark; may hold a key, so it is never shown.
        host: in small letters.
    """

    root: str
    query: str
    host: str

    def at(self, path: str) -> str:
        """The address of one endpoint: `at("/chat/completions")`."""
        return f"{self.root}{path}?{self.query}" if self.query else f"{self.root}{path}"

    @property
    def loopback(self) -> bool:
        """Whether this is a server on the same machine, which wants no key."""
        return is_loopback(self.host)

    @property
    def azure(self) -> bool:
        """Whether the key goes into the header `api-key`."""
        return self.host.endswith(AZURE)

    @property
    def openai(self) -> bool:
        """Whether OpenAI itself answers, rather than a server that is compatible with it."""
        return self.host == "api.openai.com" or self.host.endswith(".api.openai.com") or self.azure

    @property
    def tool_parts(self) -> str:
        """Where chat completions take images that tools return: see `lllm.ports.Capabilities`. Mistral's refuse a message of
        the user behind that of a tool."""
        return "" if self.host == "api.mistral.ai" else "user"

    def with_query(self, name: str, value: str) -> Endpoint:
        """The same endpoint with one more query option."""
        pairs = [pair for pair in parse_qsl(self.query, keep_blank_values=True) if pair[0] != name]
        return self._replace(query=urlencode([*pairs, (name, value)]))


def is_loopback(host: str) -> bool:
    """Whether `host` means this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def endpoint(base_url: str) -> Endpoint:
    """Reads a base URL by the rule above. ConfigError when it cannot be one."""
    text = base_url.strip()
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname or ""
        if not is_loopback(host):
            raise ConfigError(
                f"base_url is {text!r}, which has no scheme", hint=f"Type: base_url = 'https://{text}'"
            )
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise ConfigError(f"base_url is not a URL: {error}", hint=_example()) from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise ConfigError(f"base_url has scheme {parts.scheme!r} and host {host!r}", hint=_example())
    if parts.username is not None:
        raise ConfigError(
            f"base_url for {host} holds a user or a password",
            hint="Give the key as api_key, or as headers={'Authorization': ...}; a URL is shown in messages.",
        )
    path = parts.path.rstrip("/")
    for known in _ENDPOINTS:
        if path.endswith(known):
            path = path.removesuffix(known)
            break
    if not path:
        path = "/openai/v1" if host.endswith(AZURE) else "/v1"
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port is None else f"{shown}:{port}"
    return Endpoint(urlunsplit((parts.scheme.lower(), netloc, path, "", "")), parts.query, host)


def _example() -> str:
    return "A base URL looks like https://api.openai.com/v1 or http://localhost:8000/v1."
