"""What can stand on either side of `>>`: models, agents, systems, and steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Composable:
    """Base of what is a stage of a chain as it is: `agent >> function >> system`."""

    __slots__ = ()
    __array_ufunc__ = None  # else numpy would make an array of chains of `array >> step`

    def __rshift__(self, other: Any) -> Any:
        return _chain(self, other)

    def __rrshift__(self, other: Any) -> Any:
        return _chain(other, self)

    def batch(self, values: Iterable[Any], **more: Any) -> list[Any]:
        """The results for several values, in their order; see `lllm.steps.Step.abatch`."""
        found: list[Any] = _chain(self).batch(values, **more)
        return found

    async def abatch(self, values: Iterable[Any], **more: Any) -> list[Any]:
        """`batch` for async code."""
        found: list[Any] = await _chain(self).abatch(values, **more)
        return found


def _chain(*stages: Any) -> Any:
    """The chain of some stages. ConfigError where one of them is not callable."""
    from lllm.registry import registry

    return registry.get("step", ">>")(*stages)
