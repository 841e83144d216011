"""Keys: text that is sent, but never shown."""

from __future__ import annotations

from collections.abc import Iterable

from lllm.errors import ConfigError


class Secret(str):
    """Text whose repr does not show it: for tracebacks that print variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[key]'"


class Scrubber:
    """Takes secrets out of text that may reach a message, a log or a screen."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # very short values would tear holes into ordinary words
        self._secrets = sorted({s for s in secrets if len(s) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[key]")
        return text


def check_header(name: str, value: str, source: str) -> None:
    """Raises ConfigError, without the value, if a header cannot hold `value`. `source` is where it comes from."""
    if any(character in value for character in "\r\n\0") or not value.isascii():
        raise ConfigError(
            f"the value of the header {name} holds characters that a header cannot",
            hint=f"It comes from {source}; a line break at its end is a frequent cause.",
        )
