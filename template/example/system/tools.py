"""The tools of the system. A tool is a Python function: the model reads its name, docstring and parameters."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Final

from lllm import tool

MOST_CHARACTERS: Final = 500
MOST_BITS: Final = 4096  # of a power: about 1,200 digits

Number = int | float


@tool(effect="pure")  # running it again does no harm: a session that was interrupted may
def calculate(expression: str) -> str:
    """Calculate an arithmetic expression.

    Args:
        expression: numbers with + - * / // % ** and parentheses, e.g. "17 * (3 + 20)".
    """
    text = expression.translate(str.maketrans("×÷−", "*/-")).replace("^", "**").strip()
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the expression is longer than {MOST_CHARACTERS} characters")
    try:
        value = evaluate(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not an arithmetic expression: {expression}") from None
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except (OverflowError, MemoryError, RecursionError):
        raise ValueError("the expression or its result is too large") from None
    return written(value)


def evaluate(node: ast.expr) -> Number:
    """The value of a parsed expression. What is not arithmetic (names, calls, attributes) is refused, never run."""
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
            return SIGNS[type(op)](evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](evaluate(left), evaluate(right))
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")


def power(base: Number, exponent: Number) -> Number:
    """`base ** exponent`, unless that would fill the memory."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MOST_BITS:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError("the root of a negative number is not a real number")
    return value


def written(value: Number) -> str:
    """A number as one writes it: 0.1 + 0.2 is 0.3, and 10 / 2 is 5."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise ValueError("the result is too large")
    return f"{value:.12g}"


SIGNS: Final[dict[type[ast.unaryop], Callable[[Number], Number]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
OPERATIONS: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}
