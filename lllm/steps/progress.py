"""The progress of a batch: a bar on a terminal, or calls of a function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from lllm.core.visible import visible_line

_OFTEN: Final = 0.1
"""Seconds between two looks of the bar."""
_WIDTH: Final = 30
_NAME: Final = 30
"""Characters of the name: with the bar and the numbers, a line of 80 columns."""


@contextmanager
def shown(progress: Any, name: str, count: int | None) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many items are done."""
    if callable(progress):
        yield lambda done: progress(done, count)
    elif progress and sys.stderr.isatty():
        bar = _Bar(name, count)
        try:
            yield bar.tell
        finally:
            bar.end()
    else:
        yield lambda done: None


class _Bar:
    """A line on stderr that says how far it is: nothing else writes on it."""

    def __init__(self, name: str, count: int | None) -> None:
        self._name, self._count = visible_line(name)[:_NAME], count
        self._began = time.monotonic()
        self._told = 0.0
        self._done = 0

    def tell(self, done: int) -> None:
        self._done = done
        now = time.monotonic()
        if now - self._told >= _OFTEN:
            self._told = now
            sys.stderr.write(f"\r{self._line(now)}\x1b[K")
            sys.stderr.flush()

    def _line(self, now: float) -> str:
        seconds = max(now - self._began, 1e-9)
        speed = f"{self._done / seconds:.1f}/s"
        if not self._count:
            return f"{self._name}: {self._done} done, {speed}"
        full = round(_WIDTH * self._done / self._count)
        return f"{self._name}: [{'#' * full}{'.' * (_WIDTH - full)}] {self._done}/{self._count}, {speed}"

    def end(self) -> None:
        sys.stderr.write(f"\r{self._line(time.monotonic())}\x1b[K\n")
        sys.stderr.flush()
