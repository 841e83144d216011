"""What can stand on either side of `>>`: models, agents, systems, and steps."""

from __future__ import annotations

from typing import Any


class Composable:
    """Base of what is a stage of a chain as it is: `agent >> function >> system`."""

    __slots__ = ()
    __array_ufunc__ = None  # else numpy would make an array of chains of `array >> step`

    def __rshift__(self, other: Any) -> Any:
        return _chain(self, other)

    def __rrshift__(self, other: Any) -> Any:
        return _chain(other, self)


def _chain(before: Any, after: Any) -> Any:
    """The chain of two stages. ConfigError where one of them is not callable."""
    from lllm.registry import registry

    return registry.get("step", ">>")(before, after)
