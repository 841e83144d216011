"""The clock of a session."""

from __future__ import annotations

import os
import threading
import time

_clocks = threading.Lock()  # of all clocks: each is held for an assignment


class Clock:
    """Microseconds since the epoch, for the times in a log.

    The wall clock, which may be set at any time. While an agent call is running it is that of the call's beginning plus
    what has passed since, by the monotonic clock: a deadline is neither missed nor met too early because somebody, or NTP,
    has set the clock. A machine that was suspended in a call has not worked in that time, and it is not counted.
    """

    __slots__ = ("_calls", "_offset")

    def __init__(self) -> None:
        self._calls = 0
        self._offset: int | None = None  # from the monotonic clock to the wall clock, in nanoseconds

    def __call__(self) -> int:
        offset = self._offset
        return (time.time_ns() if offset is None else offset + time.monotonic_ns()) // 1000

    def call_begins(self) -> None:
        """From now on, nobody can set it. Calls may overlap."""
        with _clocks:
            self._calls += 1
            if self._calls == 1:
                self._offset = time.time_ns() - time.monotonic_ns()

    def call_ends(self) -> None:
        """With the last of the calls it is the wall clock again."""
        with _clocks:
            self._calls -= 1
            if self._calls == 0:
                self._offset = None


def _forked() -> None:
    # another thread of the parent may have held it
    global _clocks
    _clocks = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
