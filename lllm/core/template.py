"""Templates: `{name}` is replaced where `name` is an argument, and nothing else in the text is touched.

A prompt is full of braces that are not ours: JSON, code, LaTeX, other template languages. So the rule is small:

- `{name}` (a Python identifier directly between two braces) is a place. It is replaced where `name` is an argument.
- `{{name}}` is text, both pairs of braces stay, with and without arguments.
- Every other brace is text. A value's own braces are text too: values are never expanded again.
- A place without an argument is a PromptError that lists what is wanted and what was given. Wanted are the places of
  the template, except Python keywords (`{return}`) and LaTeX arguments (`\\boxed{answer}`), which are filled when
  given and text when not; or exactly the declared names, where the prompt declares them.
- An argument that has no place is a PromptError with the nearest name, unless `strict=False`.
- A value is written with `str()`. None is refused: it is a forgotten value far more often than the word "None".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from keyword import iskeyword
from typing import Any, Final

from lllm.errors import PromptError, listing, nearest, text_of

_PLACE: Final = re.compile(r"\{([^\W\d]\w*)\}")
_LATEX: Final = re.compile(r"\\[A-Za-z]+\*?$")
_LONGEST_COMMAND: Final = 40  # a look behind is bounded, so that a page of letters stays linear


def render(
    template: str,
    args: Mapping[str, Any] | None = None,
    *,
    declared: Iterable[str] | None = None,
    strict: bool = True,
) -> str:
    """The template with its places filled.

    Args:
        template: the text.
        args: values by name.
        declared: the names that must be given; None means the places of the template.
        strict: whether an argument without a place, and not declared, is an error.

    Raises:
        PromptError: an argument is missing, unknown or None. All of them are named at once.
    """
    args = args or {}
    wanted = variables(template) if declared is None else tuple(declared)
    check(wanted, places(template), args, strict=strict)
    return fill(template, args)


def fill(template: str, args: Mapping[str, Any]) -> str:
    """The template with the places filled that have an argument; the others stay as they are."""
    if not args or "{" not in template:
        return template

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return _shown(name, args[name]) if name in args and not _doubled(match) else match[0]

    return _PLACE.sub(value, template)


def _shown(name: str, value: Any) -> str:
    """An argument as text. Raises PromptError if it has none: nested too deeply, or its `__str__` fails."""
    try:
        return str(value)
    except Exception as error:
        raise PromptError(f"argument {name} cannot be shown as text: {text_of(error)}") from error


def check(
    wanted: Iterable[str], known: Iterable[str], args: Mapping[str, Any], *, strict: bool = True
) -> None:
    """Raises PromptError when `args` lacks a wanted name, holds None, or (strict) a name neither wanted nor known."""
    wanted = tuple(wanted)
    known = {*wanted, *known}
    problems: list[str] = []
    missing = [name for name in wanted if name not in args]
    if missing:
        problems.append(f"missing argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in args:
        if args[name] is None:
            problems.append(f"argument {name} is None (give '' for nothing)")
        if strict and name not in known:
            close = nearest(str(name), known)
            problems.append(f"unknown argument {name}" + (f" (did you mean {close}?)" if close else ""))
    if problems:
        hint = (
            "A place that is meant as text is written {{name}}, or the prompt declares its arguments: args=(...)."
            if missing
            else None
        )
        raise PromptError(
            f"{'; '.join(problems)}. Wanted: {', '.join(wanted) or 'nothing'}. Given: {listing(map(str, args))}",
            hint=hint,
        )


@lru_cache(maxsize=1024)
def places(template: str) -> tuple[str, ...]:
    """Every name that an argument could fill, in order of first appearance."""
    return tuple(dict.fromkeys(match[1] for match in _PLACE.finditer(template) if not _doubled(match)))


@lru_cache(maxsize=1024)
def variables(template: str) -> tuple[str, ...]:
    """The names that a template wants when nothing is declared, in order of first appearance."""
    return tuple(
        dict.fromkeys(
            match[1]
            for match in _PLACE.finditer(template)
            if not _doubled(match) and not iskeyword(match[1]) and not _in_latex(match)
        )
    )


def _doubled(match: re.Match[str]) -> bool:
    text, start, end = match.string, match.start(), match.end()
    return start > 0 and text[start - 1] == "{" and end < len(text) and text[end] == "}"


def _in_latex(match: re.Match[str]) -> bool:
    start = match.start()
    return _LATEX.search(match.string[max(0, start - _LONGEST_COMMAND) : start]) is not None
