"""`docs/promises.md` names tests that exist, and every promise of its list."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NUMBERS = {
    # in the order of the page
    "L": range(1, 26),
    "F": range(1, 42),
    "T": range(1, 48),
    "R": range(1, 41),
}
WANTED = [f"{letter}{number}" for letter, numbers in NUMBERS.items() for number in numbers]
ROWS = {
    row[0]: row
    for row in re.findall(r"^\| ([LFTR]\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
}
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def named_in(file: str) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), f"docs/promises.md: {file}"
    assert name in named_in(file), f"docs/promises.md: {file}::{name}"


@pytest.mark.parametrize("promise", WANTED)
def test_a_promise_has_a_test_and_a_status(promise: str) -> None:
    _, _, held, status = ROWS[promise]
    if status.startswith("Missing: "):
        assert held.strip() == "none", f"{promise}: {held}"
        return
    assert "::test_" in held, f"{promise}: no test holds it"
    assert status.strip() == "Kept" or status.startswith("Partly: "), f"{promise}: {status}"


def test_nothing_else_stands_there() -> None:
    assert list(ROWS) == WANTED
