"""F34, T42: a whole agent in five lines, and a page each for a model, an agent and a system of one's own."""

from __future__ import annotations

import re

import pytest

from lllm.agents import BaseAgent
from lllm.model import BaseModel
from lllm.systems.base import System
from tests.pages.blocks import ROOT, blocks, pages

RECIPES = {
    "your-own-model.md": BaseModel,
    "your-own-agent.md": BaseAgent,
    "your-own-system.md": System,
}
"""The page, and the class that is derived from."""

FIVE_LINES = '''
from lllm import Agent
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b
print(Agent("calculator", tools=[multiply])("What is 17 times 23?"))
'''


def test_a_tool_agent_is_five_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(FIVE_LINES.strip().splitlines()) <= 5
    exec(compile(FIVE_LINES, "five lines", "exec"), {})
    assert "391" in capsys.readouterr().out


@pytest.mark.parametrize("page", RECIPES)
def test_a_recipe_is_a_page_that_runs(page: str) -> None:
    """That it prints what it says is the test of all pages."""
    path = ROOT / "docs" / "guides" / page
    assert path in pages()
    assert len(path.read_text().splitlines()) <= 150
    found = list(blocks(path))
    derived = re.search(rf"^class \w+\({RECIPES[page].__name__}\):", path.read_text(), re.MULTILINE)
    assert derived is not None, f"{page} derives nothing from {RECIPES[page].__name__}"
    assert any(block.language == "text" and "output" in block.info for block in found)
    assert f"(guides/{page})" in (ROOT / "docs" / "index.md").read_text()
