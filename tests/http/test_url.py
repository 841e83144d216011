"""Base URLs, and the hosts that are this machine."""

from __future__ import annotations

import pytest

from lllm.errors import ConfigError
from lllm.http.url import BaseURL, is_loopback, parse_base_url


def parse(text: str, setting: str = "root") -> BaseURL:
    return parse_base_url(text, setting=setting, example="Like https://api.example.", key_hint="Give a key.")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://API.example/v2/", ("https", "api.example", "api.example", "/v2", "")),
        (" http://api.example:8080?key=x ", ("http", "api.example:8080", "api.example", "", "key=x")),
        ("localhost:8000/a//", ("http", "localhost:8000", "localhost", "/a", "")),
        ("HTTPS://[::1]:8443/x", ("https", "[::1]:8443", "::1", "/x", "")),
    ],
)
def test_the_parts(text: str, parts: tuple[str, ...]) -> None:
    assert parse(text) == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("api.example/v1", "Type: root = 'https://api.example/v1'"),
        ("file:///etc/passwd", "root has scheme 'file'"),
        ("https://", "Like https://api.example."),
        ("http://[::1", "root is not a URL"),
        ("http://host:port", "root is not a URL"),
        ("https://me:hidden@api.example", "root for api.example holds a user or a password\n  Give a key."),
    ],
)
def test_what_is_no_base_url(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("me.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
        ("::1%lo", True), ("localhost.example", False), ("10.0.0.1", False), ("0.0.0.0", False), ("", False),
    ],
)  # fmt: skip
def test_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
