"""A calculator: the value of an arithmetic expression, and nothing else that Python could do."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Final

Number = int | float

_BINARY: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_LONGEST: Final = 300


def calculate(expression: str) -> str:
    """Calculates an arithmetic expression.

    Args:
        expression: numbers, + - * / // % ** and parentheses.
    """
    return plain(evaluate(expression))


def evaluate(expression: str) -> Number:
    """The value of an expression. Raises ValueError for all else, and for values that are too large; ZeroDivisionError."""
    if len(expression) > _LONGEST:
        raise ValueError(f"the expression is longer than {_LONGEST} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        return _finite(_walk(tree))
    except (SyntaxError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an arithmetic expression: {expression}") from error


def _walk(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _walk(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _walk(node.left), _walk(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e9):
            raise ValueError("the power is too large")
        return _finite(_BINARY[type(node.op)](left, right))
    raise ValueError("only numbers, + - * / // % ** and parentheses can be calculated")


def _finite(value: Number) -> Number:
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("the value is no finite number")
    return value


def plain(value: Number) -> str:
    """The shortest text of a value; whole floats lose their `.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def numbers_in(text: str) -> list[float]:
    """The numbers that a text has, in order; `1,250` is one."""
    return [float(one.replace(",", "")) for one in _NUMBER.findall(text) if one.count(",") < 10]


def same(left: float, right: float) -> bool:
    """Equal up to rounding in the last digits."""
    return abs(left - right) <= 1e-6 * max(1.0, abs(left), abs(right))
