"""The tool that the templates bring: arithmetic, and nothing but arithmetic."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from typing import Any

import pytest

from lllm.cli.create import templates


@pytest.fixture(scope="module")
def calculate() -> Any:
    path = templates()["init_template"] / "system" / "tools.py"
    spec = importlib.util.spec_from_file_location("template_tools", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17 * 23", "391"),
        ("17 × 23", "391"),
        ("8 ÷ 2", "4"),
        ("10 / 4", "2.5"),
        ("0.1 + 0.2", "0.3"),
        ("2 ^ 10", "1024"),
        ("2 ** -1", "0.5"),
        ("-(3 + 4) * 2", "-14"),
        ("−5 + +3", "-2"),
        ("7 // 2", "3"),
        ("7 % 4", "3"),
        (" 1 + 1 ", "2"),
        ("2 ** 100", str(2**100)),
        ("1e3 * 2", "2000"),
        ("((((1))))", "1"),
    ],
)
def test_arithmetic(calculate: Any, expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 2 ** 64", "too large"),
        ("10.0 ** 1000", "too large"),
        ("1e308 * 10", "too large"),
        ("(-8) ** 0.5", "not a real number"),
        ("__import__('os')", "not arithmetic"),
        ("open('x')", "not arithmetic"),
        ("(1).__class__", "not arithmetic"),
        ("x + 1", "not arithmetic"),
        ("'a' * 9", "not arithmetic"),
        ("True + 1", "not arithmetic"),
        ("1 if 1 else 2", "not arithmetic"),
        ("[1]", "not arithmetic"),
        ("1j", "not arithmetic"),
        ("1 << 9", "not arithmetic"),
        ("", "not an arithmetic expression"),
        ("1 +", "not an arithmetic expression"),
        ("\x00", "not an arithmetic expression"),
        ("1+" * 400 + "1", "longer than"),
        ("(" * 240 + "1" + ")" * 240, "."),
        ("9" * 480, "."),
    ],
)
def test_anything_else_is_a_message(calculate: Any, expression: str, says: str) -> None:
    begun = time.process_time()
    if says == ".":
        with contextlib.suppress(ValueError):
            calculate(expression)  # whatever Python's parser allows
    else:
        with pytest.raises(ValueError, match=says):
            calculate(expression)
    assert time.process_time() - begun < 5


def test_the_model_is_told_what_it_takes(calculate: Any) -> None:
    function = calculate.spec()["function"]
    assert function["name"] == "calculate"
    assert list(function["parameters"]["properties"]) == ["expression"]
    assert calculate.effect == "pure"
