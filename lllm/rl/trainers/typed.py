"""Checks of settings against the types that a class declares, which TRL's config classes do not check."""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

_WORDS: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


@cache
def hints_of(owner: Callable[..., Any]) -> dict[str, Any]:
    """Returns the types of the fields of a class, or of the parameters of a function."""
    return get_type_hints(owner)


def misfit(hint: Any, value: Any) -> str | None:
    """Returns a description of the expected type where a value does not fit it; None where it fits, or where the type is not a
    plain one."""
    words = _words(hint)
    if words is None:
        return None
    from pydantic import TypeAdapter, ValidationError  # slow to import, and needed by trainings alone

    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        return words
    return None


def _words(hint: Any) -> str | None:
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(str(one.value) for one in hint)
    parts = [_words(one) for one in get_args(hint)]
    if not parts or None in parts:
        return None
    if get_origin(hint) is list:
        return f"a list ({parts[0]})"
    if get_origin(hint) in (Union, types.UnionType):
        named = any(isinstance(one, type) and issubclass(one, Enum) for one in get_args(hint))
        return " or ".join(str(one) for one in parts if not (named and one == "text"))
    return None
