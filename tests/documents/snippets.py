"""Runs code as a document has it."""

from __future__ import annotations

from typing import Any

ROOTS = {"tframex": "lllm", "mythic_core.engine.llm": "lllm"}
"""The import roots of the documents, and what they are here. Nothing else of a snippet is changed."""


def ported(snippet: str) -> str:
    """A snippet under the import root of lllm."""
    for theirs, here in ROOTS.items():
        snippet = snippet.replace(f"from {theirs}", f"from {here}")
    return snippet


def play(snippet: str, **names: Any) -> dict[str, Any]:
    """Runs a snippet with some names that it takes for granted, and gives all that it has then. The value of an expression on
    its last line is under `_`."""
    import ast

    tree = ast.parse(ported(snippet))
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], last.value), last)
        ast.fix_missing_locations(tree)
    exec(compile(tree, "document", "exec"), names)
    return names
