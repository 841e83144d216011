"""Reads the text of a document: JSON or YAML, within limits."""

from __future__ import annotations

from typing import Any, Final

from lllm.core.strict_json import read_json
from lllm.errors import ConfigError
from lllm.proxies.openapi.yaml_values import TooLarge, read_yaml

MAX_BYTES: Final = 64 * 2**20
"""Size of a document."""
MAX_DEPTH: Final = 600
"""Levels of objects and lists within one another."""
MAX_VALUES: Final = 5_000_000
"""Values of a document, those that YAML repeats by an alias counted each time."""


def read(data: bytes, name: str) -> dict[str, Any]:
    """The document as a mapping. `name` is shown in errors.

    Raises:
        ConfigError: it is too large, or not text, not JSON or YAML, or not a mapping.
    """
    if len(data) > MAX_BYTES:
        raise _refused(name, f"it has more than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(name, f"it is not UTF-8: byte {error.start}") from None
    if not text.strip():
        raise _refused(name, "it is empty")
    start = text.lstrip()[:1]
    if start == "<":
        raise _refused(
            name, "it is HTML or XML", "The page about an API often links its document: openapi.json."
        )
    is_json = name.partition("?")[0].endswith(".json") or (
        start in "{[" and not name.partition("?")[0].endswith((".yaml", ".yml"))
    )
    try:
        value = read_json(text) if is_json else read_yaml(text, MAX_DEPTH, MAX_VALUES)
    except RecursionError:
        raise _refused(name, f"it is nested too deep: more than {MAX_DEPTH} levels") from None
    except TooLarge as error:
        raise _refused(name, str(error)) from None
    except ValueError as error:
        raise _refused(name, f"it is not {'JSON' if is_json else 'YAML'}: {error}") from None
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise _refused(name, f"it must be a mapping, got {kind}")
    if is_json:
        _check_depth(value, name)
    return value


def _refused(name: str, reason: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{name} is not an OpenAPI document: {reason}", hint=hint)


def _check_depth(value: Any, name: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise _refused(name, f"it is nested too deep: more than {MAX_DEPTH} levels")
