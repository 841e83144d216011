"""Docstrings of newer packages open with a verb or a noun phrase, which says the contract."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lllm

ROOT = Path(lllm.__file__).parent
PACKAGES = ("rl", "steps", "systems")
OPENING = re.compile(r"(What|Whether|Who|Whoever|Whose|How|Where|In which)\b")


def questions(tree: ast.Module) -> Iterator[str]:
    """The docstrings that open like a question, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and OPENING.match(text):
                yield f"{node.body[0].lineno}: {text.splitlines()[0]}"


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_open_with_the_contract(package: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix(): wrong
        for path in sorted((ROOT / package).rglob("*.py"))
        if (wrong := list(questions(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {}, "write 'Returns ...', 'Raises ...', 'True if ...', or what the thing is"


@pytest.mark.parametrize("text", ["Whether it is.", "What it gives.", "Who asks."])
def test_a_question_is_found(text: str) -> None:
    for source in (f'"""{text}"""', f'def f():\n    """{text}"""', f'class A:\n    """{text}"""'):
        assert len(list(questions(ast.parse(source)))) == 1


def test_a_contract_is_no_question() -> None:
    assert list(questions(ast.parse('"""Returns what it has."""'))) == []
