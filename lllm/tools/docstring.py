"""Docstrings: what a function says about itself and its parameters, in Google, NumPy or reST style."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import NamedTuple


class Doc(NamedTuple):
    """The prose of a docstring without its sections, and a text for each parameter that has one."""

    description: str = ""
    parameters: Mapping[str, str] = {}


def read(docstring: str | None) -> Doc:
    """Reads a docstring. Of one that no style fits, everything is description."""
    if not docstring or not docstring.strip():
        return Doc()
    import docstring_parser

    text = inspect.cleandoc(docstring)
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return Doc(text)
    parameters = {}
    for item in parsed.params:
        if item.args[0] in ("attribute",):
            continue
        for name in item.arg_name.split(","):  # NumPy: `x, y : int`
            if item.description:
                parameters[name.strip().lstrip("*")] = " ".join(item.description.split())
    description = parsed.description or ""
    return Doc(description.strip() or ("" if parsed.meta else text), parameters)
