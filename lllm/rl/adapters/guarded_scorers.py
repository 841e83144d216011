"""Guards against scorers of reasoning-gym that run an answer as Python in this process, by `eval` or by sympy's `parse_expr`.
Unguarded, a policy could change its own reward, or keep the process busy forever: `9**9**9`.

Their modules get readers in place of these, under the same names: of literals, and of sums of numbers, letters and a few
functions.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

_LONGEST: Final = 2000
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\s+\-*/^().,=]*")
_NAME: Final = re.compile(r"[A-Za-z]+")
_NAMES: Final = frozenset(
    "sin cos tan sec csc cot asin acos atan sinh cosh tanh asinh acosh atanh exp log ln sqrt pi Abs".split()
)
_POWER: Final = re.compile(
    r"\*\*\s*(?:[A-Za-z]\b|\d{1,2}(?:\.\d+)?(?![\d.])|\(\s*-?\d{1,2}(?:\.\d+)?(?:\s*/\s*\d{1,2})?\s*\))(?!\s*\*\*)"
)
_OF_PARENTHESES: Final = re.compile(r"\)\s*\*\*")
_ATTRIBUTE: Final = re.compile(r"\.\s*[A-Za-z]")


def guard(modules: Iterable[ModuleType]) -> None:
    """Replaces `eval` and `parse_expr` in the modules of datasets. A second call changes nothing."""
    for module in modules:
        if "eval(answer)" in _source(module):
            vars(module)["eval"] = read_literal
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and value.__name__ == "sympy":
                vars(module)[name] = _Sympy(value)
            elif name == "parse_expr" and getattr(value, "__module__", "").startswith("sympy."):
                vars(module)[name] = _Sympy(ModuleType("sympy"), value).parse_expr


def read_literal(text: str) -> Any:
    """Returns the value of a literal. Raises ValueError for every other text."""
    if len(text) > _LONGEST:
        raise ValueError("the literal is too long")
    return ast.literal_eval(text)


def require_harmless(text: str) -> None:
    """Raises ValueError unless a text is an expression that can be evaluated at once."""
    if (
        len(text) > _LONGEST
        or not _CHARACTERS.fullmatch(text)
        or _ATTRIBUTE.search(text)
        or any(len(name) > 1 and name not in _NAMES for name in _NAME.findall(text))
        or text.count("**") != len(_POWER.findall(text))
        or len(_OF_PARENTHESES.findall(text)) > 2
    ):
        raise ValueError(
            "an expression has numbers, letters, + - * / **, parentheses and functions such as sin"
        )


class _Sympy(ModuleType):
    """Sympy, with a `parse_expr` that checks the text first."""

    def __init__(self, real: ModuleType, parse: Any = None) -> None:
        super().__init__("guarded_sympy")
        self._real = real
        self._parse = parse or real.parse_expr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def parse_expr(self, text: str, *arguments: Any, **more: Any) -> Any:
        """See sympy. Raises ValueError for everything but an arithmetic expression."""
        require_harmless(text)
        return self._parse(text, *arguments, **more)


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""
