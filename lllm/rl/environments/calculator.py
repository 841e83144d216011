"""A calculator of arithmetic expressions. It evaluates no other Python."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal
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
_NUMBER: Final = re.compile(
    r"(?P<sign>(?<!\d)[-\u2212])?"  # the hyphen of 3-5 is not a sign
    r"(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<rest>(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\d))?)"
)
"""A number of a text, also `1,250`, which is one, and `1,2`, which is two."""
_LONGEST: Final = 300
_DIGITS: Final = 400
_NEAR: Final = Decimal("1e-6")
_ROUNDED: Final = Decimal("5e-5")
_RELATIVE: Final = Decimal("1e-12")


def calculate(expression: str) -> str:
    """Calculates an arithmetic expression.

    Args:
        expression: numbers, + - * / // % ** and parentheses.
    """
    return plain(evaluate(expression))


def evaluate(expression: str) -> Number:
    """Returns the value of an expression. Raises ValueError for other texts and for values that are too large, and
    ZeroDivisionError."""
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
        raise ValueError("the value is not a finite number")
    return value


def plain(value: Number) -> str:
    """Returns the shortest text of a value; whole floats lose their `.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def numbers_in(text: str) -> list[Decimal]:
    """Returns the numbers in a text, in order and exactly: as a float, a very long number would be infinite, and close to every
    answer."""
    return [
        Decimal(f"{'-' if one['sign'] else ''}{one['whole'].replace(',', '')}{one['rest']}")
        for one in _NUMBER.finditer(text)
    ]


def same(found: Decimal, wanted: str) -> bool:
    """Returns True if a number equals an answer, up to rounding errors of floats; a fraction may be rounded to four digits."""
    if found.adjusted() > _DIGITS:  # beyond what arithmetic on decimals takes
        return False
    value = Decimal(wanted)
    near = _NEAR if value == value.to_integral_value() else _ROUNDED
    return abs(found - value) <= max(near, abs(value) * _RELATIVE)


def last_is(text: str, wanted: str) -> bool:
    """Returns True if the last number of a text equals the answer."""
    found = numbers_in(text)
    return bool(found) and same(found[-1], wanted)
