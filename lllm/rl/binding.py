"""Hooks: functions of a user that receive the arguments that their parameters name, as `setup(rng)` and `step(state,
completion)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, listing
from lllm.rl.own_code import copied

_OBJECTS: Final = ("state", "reply", "rng")
"""Names whose values hooks get uncopied. Of all others they get copies, which they may change."""


class Hook(NamedTuple):
    """A function with the names of its parameters.

    Attributes:
        name: `setup`, `step`, ... names: its parameters. optional: those of them that have a default.
        further: True: it gets all columns of the row, too (`**kwargs`).
    """

    name: str
    function: Callable[..., Any]
    names: tuple[str, ...]
    optional: frozenset[str]
    further: bool

    def arguments(self, values: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the keyword arguments of a call. Raises KeyError where the value of a required parameter is missing."""
        found: dict[str, Any] = {}
        for name in self.names:
            if name in values:
                found[name] = values[name]
            elif name in columns:
                found[name] = columns[name]
            elif name not in self.optional:
                raise KeyError(name)
        if self.further:
            found |= {name: value for name, value in columns.items() if name not in found}
        return {name: value if name in _OBJECTS else copied(value) for name, value in found.items()}


def hook(name: str, function: Any, known: Mapping[str, str], columns: Collection[str] | None) -> Hook | None:
    """Returns the Hook of a function; None for None. Raises ConfigError where it has a parameter for which there is no value.

    Args:
        known: the values that it can receive, each with a line about it. columns: those of the rows; None: not known yet.
    """
    if function is None:
        return None
    if not callable(function):
        raise ConfigError(f"{name} is {type(function).__name__}, and must be a function or a class")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: its signature cannot be read: {error}") from error
    names: list[str] = []
    optional: set[str] = set()
    further = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            further = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(f"{name} has the parameter '{parameter}', which cannot be given by name")
        else:
            names.append(parameter.name)
            if parameter.default is not parameter.empty:
                optional.add(parameter.name)
    unknown = [
        one
        for one in names
        if one not in known and one not in optional and columns is not None and one not in columns
    ]
    if unknown:
        raise ConfigError(
            f"{name} has parameters that nothing provides: {listing(unknown)}",
            hint="There are " + ", ".join(known) + f"; columns of the rows: {listing(columns or ())}.",
        )
    return Hook(name, function, tuple(names), frozenset(optional), further)
