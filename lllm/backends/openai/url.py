"""Where requests go: the base-URL rule.

The path that was given is kept. `/v1` is added only to a bare host, because every known server has its API there,
while gateways have theirs anywhere (`/api/v1`, `/openai/v1`, `/v1beta/openai`). A pasted endpoint address
(`.../chat/completions`) is cut back to its root.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlunsplit

from lllm.http.url import is_loopback, parse_base_url

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


def endpoint(base_url: str) -> Endpoint:
    """Reads a base URL by the rule above. ConfigError when it cannot be one."""
    parts = parse_base_url(
        base_url,
        example="A base URL looks like https://api.openai.com/v1 or http://localhost:8000/v1.",
        key_hint="Give the key as api_key, or as headers={'Authorization': ...}; a URL is shown in messages.",
    )
    path = parts.path
    for known in _ENDPOINTS:
        if path.endswith(known):
            path = path.removesuffix(known)
            break
    if not path:
        path = "/openai/v1" if parts.host.endswith(AZURE) else "/v1"
    return Endpoint(urlunsplit((parts.scheme, parts.netloc, path, "", "")), parts.query, parts.host)
