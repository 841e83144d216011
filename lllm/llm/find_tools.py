"""The tool `find_tools`: what it finds among tools that are not listed can be called from then on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final

from lllm.errors import ToolError
from lllm.models.function import Function, tool_from
from lllm.models.parts import Offers

if TYPE_CHECKING:
    from lllm.tools.search import Index

FINDER: Final = "find_tools"
FOUND: Final = 5
"""Tools that one search offers."""
QUERIES: Final = 5
"""Searches in one call."""
GROUPS: Final = 40
"""Groups of tools that are named."""


def tool_finder(functions: Sequence[Function]) -> Function:
    """`find_tools` over some functions. They are made searchable by its first call."""

    @cache
    def index() -> Index:
        from lllm.tools.search import Index

        return Index(functions)

    def find_tools(
        query: Annotated[
            str,
            "what a tool should do, in a few words: a verb and a thing; several searches at once with ';' between",
        ],
        offset: Annotated[int, "how many of the best matches to pass over, to see those behind them"] = 0,
    ) -> Offers:
        if offset < 0:
            raise ToolError(f"offset must be 0 or more, got {offset}")
        queries = [one for one in map(str.strip, query.split(";")) if one][:QUERIES]
        if not queries:
            raise ToolError("query must say what a tool should do, as in 'list invoices'")
        texts: list[str] = []
        names: dict[str, None] = {}
        for one in queries:
            matches = index().search(one, offset + FOUND + 1)
            found = matches[offset : offset + FOUND]
            texts.append(_result(one, found, offset, len(matches) > offset + FOUND, len(queries) > 1))
            names |= dict.fromkeys(function.name for function in found)
        if not names and not offset:
            texts.append(_groups(functions))
        return Offers("\n".join(texts), tuple(names))

    text = (
        f"Finds tools by what they do, among {len(functions)} that are not listed. What it finds can be called "
        f"afterwards. {_groups(functions)}"
    )
    return tool_from(find_tools, name=FINDER, description=text.strip(), effect="pure", timeout=None)


def _result(query: str, found: Sequence[Function], offset: int, more: bool, several: bool) -> str:
    """What one search says."""
    where = f" for {query!r}" if several or not found else ""
    if not found:
        behind = f" behind the first {offset}" if offset else ""
        return f"No tool is found{where}{behind}. Try other words: a verb and a thing."
    lines = [f"These tools can be called from now on{where}, the best match first:"]
    lines += [json.dumps({"name": one.name, "description": _first(one)}, ensure_ascii=False) for one in found]
    if more:
        lines.append(f"More: offset={offset + FOUND}.")
    return "\n".join(lines)


def _groups(functions: Sequence[Function]) -> str:
    """The groups of the functions and their sizes: the proxies of endpoints, and what stands before `__` in other names."""
    groups = Counter(
        one.endpoint.rpartition(".")[0] if one.endpoint else one.name.rpartition("__")[0] for one in functions
    )
    del groups[""]
    if not groups:
        return ""
    largest = groups.most_common(GROUPS)
    named = ", ".join(f"{name} ({count})" for name, count in sorted(largest))
    return f"There are tools of: {named}{', and others' if len(largest) < len(groups) else ''}."


def _first(function: Function) -> str:
    return function.description.strip().partition("\n")[0][:300]
