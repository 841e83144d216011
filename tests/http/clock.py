"""A clock that a test turns, and a moment for what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Time:
    """A clock that a test turns, and the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, action: Callable[[], None]) -> Any:
        entry = (self.now + seconds, action)
        self.timers.append(entry)
        return Cancel(self.timers, entry)

    async def pass_(self, seconds: float) -> None:
        """Lets time pass, timer by timer."""
        end = self.now + seconds
        while due := [entry for entry in self.timers if entry[0] <= end + 1e-9]:
            entry = min(due, key=lambda one: one[0])
            self.timers.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1]()
            await settle()
        self.now = end
        await settle()


class Cancel:
    def __init__(self, timers: list[Any], entry: Any) -> None:
        self._timers, self._entry = timers, entry

    def cancel(self) -> None:
        if self._entry in self._timers:
            self._timers.remove(self._entry)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
