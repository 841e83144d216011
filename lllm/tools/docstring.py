"""Docstrings: what a function says about itself, its parameters and its result, in Google, NumPy or reST style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Doc(NamedTuple):
    """The prose of a docstring with what it says of the result, and a text for each parameter that has one."""

    description: str = ""
    parameters: Mapping[str, str] = {}


def read(docstring: str | None) -> Doc:
    """Reads a docstring that `inspect.getdoc` has cleaned. Of one that no style fits, everything is description.

    What is returned (or yielded) ends the description as a line `Returns: ...`: a model that knows it asks once. Sections
    about exceptions, examples and the like are left out.
    """
    if not docstring or not docstring.strip():
        return Doc()
    import docstring_parser

    try:
        # The parser cleans the text again. Behind an empty first line that changes nothing: otherwise it takes the
        # indentation of a section away that the text begins with.
        parsed = docstring_parser.parse("\n" + docstring)
    except docstring_parser.ParseError:
        return Doc(docstring)
    parameters = {}
    for item in parsed.params:
        if item.args[0] in ("attribute",):
            continue
        for name in item.arg_name.split(","):  # NumPy: `x, y : int`
            if item.description:
                parameters[name.strip().lstrip("*")] = " ".join(item.description.split())
    description = (parsed.description or "").strip()
    results = [
        f"{'Yields' if item.is_generator else 'Returns'}: {' '.join(text.split())}"
        for item in parsed.many_returns
        if (text := item.description or item.type_name)
    ]
    if not (description or results or parameters or parsed.raises):
        return Doc(docstring)
    return Doc("\n\n".join(filter(None, (description, "\n".join(results)))), parameters)
