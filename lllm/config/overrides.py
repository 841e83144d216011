"""`--set a.b=c`: single keys from the command line or a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lllm.config.environ import remember
from lllm.config.keys import Key, find
from lllm.config.kinds import FREE
from lllm.config.layer import Layer, put
from lllm.config.problems import Problems
from lllm.config.secret import secrets_in, without_variables
from lllm.core.redact import MARK
from lllm.core.secret_names import secret_parts
from lllm.errors import ConfigError
from lllm.models.checks import DEEPEST, deeper


class Typed(str):
    """An override that was typed as its own option (`--profile fast` is `profile=fast`): messages name that option."""

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
        if len(path) > DEEPEST or deeper(value):
            problems.add(ConfigError("nested too deeply", where=f"--set {dotted[:40]}..."))
            continue
        entry = find(path)
        if loose and isinstance(entry, Key) and entry.kind is not FREE:
            layer.loose.add(path)  # the kind decides how the text is read
        elif loose:
            value = _scalar(value)
        put(layer.data, path, value)
        layer.where[path] = typed
    for secret in secrets_in(without_variables(layer.data)):
        remember("configuration", secret)  # messages may quote what was typed
    return layer


def given_again(sets: Iterable[str], later: Iterable[str] = (), *, needed: bool) -> list[str]:
    """The overrides of a recorded session. One whose value was a secret is not in the log: it is read from the variable
    that held it, else omitted, because a replay sends no requests. `needed`: requests will be sent, so a missing value is
    a ConfigError unless `later` sets it."""
    out: list[str] = []
    anew = {item.partition("=")[0].strip() for item in later}
    for item in sets:
        key, _, value = item.partition("=")
        found = _restored(value)
        if found is not None:
            out.append(f"{key}={found}")
        elif needed and key.strip() not in anew:
            raise ConfigError(
                f"the session was run with --set {key}=..., whose value was a secret, so the log does not hold it",
                hint=f"Write {key.rpartition('.')[2]}: ${{NAME}} into the configuration and set that variable, or fork the "
                f"session: lllm fork ID --set {key}=VALUE.",
            )
    return out


def _restored(value: str) -> str | None:
    """A value with its secrets restored; None if that is not certain."""
    from lllm.config.load import variable

    names = {mark: mark[len("[redacted:") : -1] for mark in MARK.findall(value)}
    for mark, name in names.items():
        held = variable(name) or ""
        if len({part.strip() for part in secret_parts(name, held)}) != 1:  # an address may hold more
            return None
        value = value.replace(mark, held)
    return value


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
