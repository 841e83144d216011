"""A proxy in plain Python: its methods do the work themselves, and agents and code use them as they would any API."""

import ast
import operator
from collections.abc import Callable
from typing import Any, Final

from lllm import BaseProxy, ProxyRegistrator

MOST_CHARACTERS: Final = 500
LARGEST_EXPONENT: Final = 64
LARGEST: Final = 10**300
TOO_LARGE: Final = "the result must be a real number below 10^300"

SIGNS: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
OPERATIONS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@ProxyRegistrator(path="arithmetic", name="Arithmetic", description="Works out numbers.")
class Arithmetic(BaseProxy):
    @BaseProxy.endpoint(effect="pure", params={"expression": {"example": "17 * 23"}})
    def calculate(self, expression: str) -> float:
        """Calculate an arithmetic expression.

        Args:
            expression: numbers with + - * / // % ** and parentheses, e.g. "17 * (3 + 20)".
        """
        text = expression.translate(str.maketrans("×÷−", "*/-")).replace("^", "**").strip()
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"the expression is longer than {MOST_CHARACTERS} characters")
        try:
            result = evaluate(ast.parse(text, mode="eval").body)
        except SyntaxError:
            raise ValueError(f"not an arithmetic expression: {expression}") from None
        except ZeroDivisionError:
            raise ValueError("division by zero") from None
        except OverflowError:
            raise ValueError(TOO_LARGE) from None
        return float(f"{result:.12g}") if isinstance(result, float) else result  # 0.1 + 0.2 is 0.3


def evaluate(node: ast.expr) -> float:
    """The value of a parsed expression. What is not arithmetic (names, calls, attributes) is refused, never run."""
    result: Any
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            result = value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
            result = SIGNS[type(op)](evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            first, second = evaluate(left), evaluate(right)
            if isinstance(op, ast.Pow) and abs(second) > LARGEST_EXPONENT:
                raise ValueError(f"the exponent must be at most {LARGEST_EXPONENT}, got {second}")
            result = OPERATIONS[type(op)](first, second)
        case _:
            raise ValueError(f"not arithmetic: {ast.unparse(node)}")
    if isinstance(result, complex) or not abs(result) < LARGEST:
        raise ValueError(TOO_LARGE)
    return result
