"""Spans to a collector: OTLP over HTTP, as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from lllm.config.environ import everything
from lllm.core.redact import scrub
from lllm.core.secret_names import header_parts, secret_parts
from lllm.errors import ConfigError, ConnectionFailed, LLMError, ProviderError
from lllm.log.export.lines import text
from lllm.log.export.otel import envelope, spans
from lllm.log.export.source import Source
from lllm.sync import run

PORTION: Final = 1 << 20
"""About how many characters of spans one request takes."""
PATH: Final = "/v1/traces"
HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"


def send(
    source: Source, endpoint: str, *, content: bool = False, headers: Mapping[str, str] | None = None
) -> int:
    """Sends a session's spans to a collector, and gives how many there were. `endpoint` is its URL; `/v1/traces` is added
    where it has no path. Headers are those of `$OTEL_EXPORTER_OTLP_HEADERS` (`name=value,name=value`) by default.

    Raises:
        ConfigError: the endpoint is not a URL.
        ConnectionFailed: nobody answers. ProviderError: the collector refused the spans.
    """
    given = _headers(os.environ.get(HEADERS, "")) if headers is None else dict(headers)
    redactor = everything()
    for part in secret_parts("ENDPOINT", endpoint):
        redactor.add("endpoint", part)
    for name, value in given.items():
        for part in header_parts(name, str(value)):
            redactor.add("header", part)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"'{redactor.text(endpoint)}' is not the URL of a collector", hint="E.g. http://127.0.0.1:4318"
        )
    url = endpoint.rstrip("/") + PATH if parts.path in ("", "/") else endpoint
    try:
        return run(_send(source, url, content, given))
    except LLMError as error:
        scrub(error, redactor)  # a collector's error may repeat what was sent
        raise


async def _send(source: Source, url: str, content: bool, headers: Mapping[str, str]) -> int:
    import aiohttp

    count = 0
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client:
            for number, body in _bodies(source, content):
                async with client.post(
                    url, data=body, headers={**headers, "Content-Type": "application/json"}
                ) as answer:
                    said = await answer.text(errors="replace")
                    if answer.status >= 300:
                        raise ProviderError(
                            f"the collector answered {answer.status}: {said[:500]}", status=answer.status
                        )
                count += number
    except (aiohttp.ClientError, TimeoutError) as error:
        place = urlsplit(url).hostname
        raise ConnectionFailed(
            f"the collector at {place} does not answer: {error or 'timeout'}",
            hint="Is it running, and is that its port?",
        ) from error
    return count


def _bodies(source: Source, content: bool) -> Iterator[tuple[int, bytes]]:
    head, tail = envelope()
    redactor = everything()
    portion: list[str] = []
    size = 0
    for span in spans(source, content=content):
        written = redactor.text(text(span))
        portion.append(written)
        size += len(written)
        if size >= PORTION:
            yield len(portion), (head + ",".join(portion) + tail).encode()
            portion, size = [], 0
    if portion:
        yield len(portion), (head + ",".join(portion) + tail).encode()


def _headers(given: str) -> dict[str, Any]:
    pairs = (item.partition("=") for item in given.split(",") if "=" in item)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}
