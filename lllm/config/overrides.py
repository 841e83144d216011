"""`--set a.b=c`: single keys from the command line or a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lllm.config.keys import Key, find
from lllm.config.kinds import FREE
from lllm.config.layer import Layer, put
from lllm.config.problems import Problems
from lllm.errors import ConfigError


class Typed(str):
    """An override that was typed as an option of its own (`--profile fast` is `profile=fast`): messages name that."""

    option: str

    def __new__(cls, override: str, option: str) -> Typed:
        made = super().__new__(cls, override)
        made.option = option
        return made


def overrides_layer(overrides: Iterable[str] | Mapping[str, Any], base: Path, problems: Problems) -> Layer:
    """The layer of `key=value` texts, whose values are read as YAML, or of a mapping from dotted keys to values."""
    layer = Layer("--set", {}, base)
    if isinstance(overrides, str):
        overrides = [overrides]
    triples: Iterable[tuple[str, Any, str]]
    loose = not isinstance(overrides, Mapping)
    triples = (
        ((key, value, f"--set {key}") for key, value in overrides.items())
        if isinstance(overrides, Mapping)
        else (_split(text, problems) for text in overrides)
    )
    for dotted, value, typed in triples:
        path = tuple(part.strip() for part in dotted.split("."))
        if not all(path):
            if dotted:
                problems.add(ConfigError(f"'{dotted}' is not a dotted key", where="--set"))
            continue
        entry = find(path)
        if loose and isinstance(entry, Key) and entry.kind is not FREE:
            layer.loose.add(path)  # the kind decides how the text is read
        elif loose:
            value = _scalar(value)
        put(layer.data, path, value)
        layer.where[path] = typed
    return layer


def _split(text: str, problems: Problems) -> tuple[str, str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        problems.add(
            ConfigError(f"'{text}' is not of the form key=value", hint="Type: --set a.b=c", where="--set")
        )
        return "", "", ""
    return key.strip(), value.strip(), text.option if isinstance(text, Typed) else f"--set {key.strip()}"


def _scalar(text: str) -> Any:
    from lllm.config.yaml_source import scalar

    return scalar(text)
