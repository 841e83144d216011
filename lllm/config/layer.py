"""Layer: the keys that one source gives, and where each of them stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Keys = tuple[str, ...]

BROKEN: Final = object()
"""Stands for a value that could not be read and has been reported."""


@dataclass(slots=True)
class Layer:
    """What one file, the environment or an argument says.

    Attributes:
        name: for messages: the file's path as a person would write it, `--set`, `argument`.
        data: nested dicts and lists.
        where: path of keys -> `file:line`, or the name of a variable.
        base: the folder that relative paths in this layer start from.
        loose: paths of texts that may be read as something else (from the environment, or interpolated).
        plain: paths of texts without quotes in a YAML file: once interpolated, below free keys, they may be numbers.
    """

    name: str
    data: dict[str, Any]
    base: Path
    where: dict[Keys, str] = field(default_factory=dict)
    loose: set[Keys] = field(default_factory=set)
    plain: set[Keys] = field(default_factory=set)

    def at(self, path: Keys) -> str:
        """Where a key stands, or the nearest key above it whose place is known."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.where:
                return self.where[path[:length]]
        return self.name


def put(data: dict[str, Any], path: Keys, value: Any) -> None:
    """Sets a value deep inside, making the dicts on the way."""
    for part in path[:-1]:
        inner = data.get(part)
        if not isinstance(inner, dict):
            inner = data[part] = {}
        data = inner
    data[path[-1]] = value


def peek(data: Any, path: Keys, default: Any = None) -> Any:
    """The value deep inside, or `default`."""
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return default
        data = data[part]
    return data


def shown(path: Path) -> str:
    """A path as a person would write it here: relative where the file is below the working folder."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return str(path)
