"""Reading files of JSON lines that people and other programs wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lllm.core.jsonable import unicode_only
from lllm.core.visible import visible_line
from lllm.errors import ConfigError


def read_lines(path: Path, what: str, read: Callable[[str], Any] = json.loads) -> Iterator[tuple[int, Any]]:
    """Yields the value of each line that is not empty, with the number of the line, from 1. Skips a byte order mark at the
    beginning; halves of surrogate pairs become U+FFFD.

    Args:
        what: the file is, for errors. read: gives the value of a line.

    Raises ConfigError: the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = read(line)
                except ValueError as error:
                    raise ConfigError(
                        f"{visible_line(path.name)}, line {number}, is not JSON: {visible_line(str(error))}"
                    ) from error
                except RecursionError:
                    raise ConfigError(
                        f"{visible_line(path.name)}, line {number}, is nested too deep"
                    ) from None
                yield number, unicode_only(value)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what} {visible_line(str(path))} cannot be read: line {_undecodable(path)} is not UTF-8"
        ) from error
    except OSError as error:
        words = error.strerror or str(error)
        raise ConfigError(f"{what} {visible_line(str(path))} cannot be read: {words}") from error


def _undecodable(path: Path) -> int:
    """Returns the number of the first line that is not UTF-8."""
    whole = path.read_bytes()
    try:
        whole.decode("utf-8")
    except UnicodeDecodeError as error:
        return whole[: error.start].count(b"\n") + 1
    return 1
