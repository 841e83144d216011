"""TOML -> plain values with line numbers.

The standard library's parser does not say where a key stands, so a second, forgiving pass over the lines finds the
headers and keys. Where that pass is wrong, only a line number in a message is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lllm.config.layer import Keys, Layer, shown
from lllm.config.problems import Problems
from lllm.errors import ConfigError

_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER: Final = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_KEY: Final = re.compile(rf"\s*({_DOTTED})\s*=")
_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")


def read_toml(path: Path, problems: Problems) -> Layer:
    """Reads a file. What is wrong with it goes to `problems`, and the layer is empty then."""
    import tomllib

    name = shown(path)
    layer = Layer(name, {}, path.parent)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(ConfigError(f"not UTF-8: {error.reason} at byte {error.start}", where=name))
        return layer
    except OSError as error:
        problems.add(ConfigError(f"cannot be read: {error.strerror or error}", where=name))
        return layer
    try:
        layer.data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        place = _PLACE.search(said)
        line = (place and place.group(1)) or len(text.splitlines()) or 1
        message = f"not valid TOML: {_PLACE.sub('', said)}"
        problems.add(ConfigError(message, where=f"{name}:{line}"))
    except RecursionError:
        problems.add(ConfigError("nested too deeply", where=name))
    layer.where = lines(text, name)
    return layer


def lines(text: str, name: str) -> dict[Keys, str]:
    """Path of keys -> `name:line`."""
    found: dict[Keys, str] = {}
    table: Keys = ()
    inside = ""  # the quotes of the long text that this line is in
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        if not inside:
            if header := _HEADER.match(line):
                table = _parts(header.group(1))
                found.setdefault(table, where)
            elif key := _KEY.match(line):
                found.setdefault(table + _parts(key.group(1)), where)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2 and inside in ("", quotes):
                inside = "" if inside else quotes
    return found


def _parts(dotted: str) -> Keys:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, dotted))
