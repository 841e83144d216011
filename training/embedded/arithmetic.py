"""A safe evaluator for the expressions that the model writes, and plain text for its results."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

Value = int | float

_BINARY: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(expression: str) -> Value:
    """The value of an arithmetic expression.

    Raises ValueError for anything else than numbers, + - * / // % ** and parentheses, for complex or huge values,
    and ZeroDivisionError as Python does.
    """
    if len(expression) > 300:
        raise ValueError("expression too long")
    try:
        return _walk(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"invalid expression: {expression}") from error


def _walk(node: ast.expr) -> Value:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _walk(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _walk(node.left), _walk(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e9):
            raise ValueError("power too large")
        value = _BINARY[type(node.op)](left, right)
        if isinstance(value, complex):
            raise ValueError("complex result")
        return value
    raise ValueError("only numbers and + - * / % ** ( ) are allowed")


def plain(value: Value) -> str:
    """The shortest text of a value; whole floats lose their `.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def same(left: Value, right: Value) -> bool:
    """Equal up to rounding in the last digits."""
    return abs(left - right) <= 1e-6 * max(1.0, abs(left), abs(right))
