"""`${NAME}` and `${NAME:-default}` in the texts of a file; `$${` is a plain `${`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from lllm.config.layer import BROKEN, Keys, Layer
from lllm.config.problems import Problems
from lllm.errors import ConfigError

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def interpolate(layer: Layer, variable: Callable[[str], str | None], problems: Problems) -> None:
    """Replaces references in all values of a layer, and notes which values had some (`layer.loose`)."""
    layer.data = _walk(layer.data, (), layer, variable, problems)


def _walk(
    value: Any, path: Keys, layer: Layer, variable: Callable[[str], str | None], problems: Problems
) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, (*path, str(key)), layer, variable, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [
            _walk(item, (*path, str(index)), layer, variable, problems) for index, item in enumerate(value)
        ]
    if not isinstance(value, str) or "${" not in value:
        return value

    broken = False

    def replacement(match: re.Match[str]) -> str:
        nonlocal broken
        if match.group() == "$${":
            return "${"
        name, default = match.groups()
        if name is None:
            broken = True
            problems.add(
                ConfigError(
                    f"'{'.'.join(path)}' has a '${{' that is not ${{NAME}} or ${{NAME:-default}}",
                    hint="A plain '${' is written '$${'.",
                    where=layer.at(path),
                )
            )
            return match.group()
        layer.loose.add(path)
        found = variable(name)
        if found or (found is not None and default is None):
            return found
        if default is None:
            broken = True
            problems.add(
                ConfigError(
                    f"'{'.'.join(path)}' needs the variable {name}, which is not set",
                    hint=f"Set {name} in the environment or in .env, or write ${{{name}:-default}}.",
                    where=layer.at(path),
                )
            )
        return default or ""

    text = _REFERENCE.sub(replacement, value)
    return BROKEN if broken else text
