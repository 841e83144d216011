"""The time that a cell has: it can be stopped while somebody is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class CellClock:
    """Seconds of one cell, by the monotonic clock.

    Args:
        seconds: how many it has, or None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._since = time.monotonic()
        self._spent = 0.0
        self._pauses = 0

    @property
    def spent(self) -> float:
        """Seconds that have passed, without pauses."""
        return self._spent + (0.0 if self._pauses else time.monotonic() - self._since)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at least 0.0; None without a limit."""
        return None if self.seconds is None else max(self.seconds - self.spent, 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock. Pauses may overlap."""
        if not self._pauses:
            self._spent += time.monotonic() - self._since
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._since = time.monotonic()
