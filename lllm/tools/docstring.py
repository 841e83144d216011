"""Parses docstrings in Google, NumPy or reST style: description, parameters and result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Doc(NamedTuple):
    """A docstring's prose, with its description of the result, and the text of each documented parameter."""

    description: str = ""
    parameters: Mapping[str, str] = {}


def read(docstring: str | None) -> Doc:
    """Parses a docstring that `inspect.getdoc` has cleaned. If no style fits, all of it is the description.

    The return (or yield) section becomes a last line `Returns: ...` of the description: a model that knows the result
    calls once. Sections about exceptions, examples and the like are left out.
    """
    if not docstring or not docstring.strip():
        return Doc()
    import docstring_parser

    try:
        # The parser cleans the text again. An empty first line makes that harmless: without it, the parser removes the
        # indentation of a section that begins the text.
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
