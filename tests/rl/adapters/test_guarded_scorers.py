"""Answers that a scorer would run as Python are read, and not run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sympy

from lllm.log.none import NoLog
from lllm.rl.adapters.guarded_scorers import guard, require_harmless
from lllm.rl.adapters.reasoning_gym import ReasoningGym
from tests.rl.adapters import stand_ins

SCORERS = """
import sympy as sp
from sympy.parsing.sympy_parser import parse_expr

def by_eval(answer):
    return "".join(eval(answer))

def by_sympy(answer):
    return sp.parse_expr(answer) == sp.Symbol("x") + 1

def by_name(answer):
    return int(parse_expr(answer)) == 24

def own():
    return eval("6 * 4") if False else 24
"""


@pytest.fixture
def scorers(tmp_path: Path) -> ModuleType:
    """A module with scorers as reasoning-gym has them, guarded."""
    file = tmp_path / "scorers.py"
    file.write_text(SCORERS)
    spec = importlib.util.spec_from_file_location("scorers", file)
    assert spec is not None
    assert spec.loader is not None
    found: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    guard([found])
    guard([found])  # as for a second environment
    return found


def test_right_answers_are_read_as_before(scorers: Any) -> None:
    assert scorers.by_eval("['a', 'b']") == "ab"
    assert scorers.by_sympy("1 + x")
    assert scorers.by_name("(9 - 5) * 3 * 2")
    assert scorers.sp.sqrt(4) == 2


ATTACKS = (
    "__import__('pathlib').Path('run').touch()",
    "exec(\"open('run', 'w')\")",
    "[open('run', 'w') for _ in [1]]",
    "x.__class__",
    "exit()",
    "9**9**9",
    "((9**99)**99)**99 + (x)**2",
    "2**(9**9)",
    "2**(99*99*99*99)",
    "factorial(99999999)",
    "9**99999999",
    "1 + " * 1000 + "1",
)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("scorer", ["by_eval", "by_sympy", "by_name"])
def test_what_runs_is_refused(
    scorers: Any, scorer: str, attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, SyntaxError)):
        getattr(scorers, scorer)(attack)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fine",
    [
        "3*x**2 - 4*x + 7/2 + C",
        "-5*cos(3*x)/9 + sqrt(10)*exp(-x)",
        "(x**2 + 1)**(3/2)",
        "x**(1/2)",
        "2**x",
        "-12*x**10 + 4.5*x**9.5",
        "(50 - 2) / 2",
    ],
)
def test_sums_are_evaluated(fine: str) -> None:
    require_harmless(fine)
    sympy.parse_expr(fine)


@pytest.mark.parametrize("answer", ["²", "nan", "-inf", "the answer is NaN", "1e999"])
def test_an_answer_that_a_scorer_cannot_read_is_wrong(answer: str) -> None:
    """And not missing: a policy would do better with it than with a wrong answer."""
    stand_ins.reasoning_gym()
    env = ReasoningGym("doubles", size=2)
    for text in (answer, f"<answer>{answer}</answer>"):
        found = env.rollouts(lambda prompt, text=text: text, store=NoLog())
        assert (found.reward, found.missing) == (0.0, [])
