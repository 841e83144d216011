"""What makes a local model slower than it could be, said once per process and model."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

_log: Final = logging.getLogger("lllm.backends")
_reported: set[str] = set()
_lock = Lock()


def report_loss(message: str) -> None:
    """Logs a warning, which goes to stderr unless the program has set up logging; the same message only once.

    For a fast path that the installed packages, or the kind of model, do not allow. What the user has asked for (a slower
    engine by name, `compile`) is not reported.
    """
    with _lock:
        if message in _reported:
            return
        _reported.add(message)
    _log.warning("%s", message)


def losses() -> list[str]:
    """What was reported so far, sorted."""
    with _lock:
        return sorted(_reported)


def forget() -> None:
    """Reports everything again."""
    with _lock:
        _reported.clear()
