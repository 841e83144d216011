"""Reports why a local model runs slower than possible, once per process and model."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

_log: Final = logging.getLogger("lllm.backends")
_reported: set[str] = set()
_lock = Lock()


def report_loss(message: str) -> None:
    """Logs a warning, once per message; it goes to stderr unless the program has set up logging.

    For a fast path that the installed packages or the kind of model do not allow. Slowness that the user chose (a slower
    engine by name, `compile`) is not reported.
    """
    with _lock:
        if message in _reported:
            return
        _reported.add(message)
    _log.warning("%s", message)


def losses() -> list[str]:
    """The warnings reported so far, sorted."""
    with _lock:
        return sorted(_reported)


def forget() -> None:
    """Forgets what was reported, so that it is reported again."""
    with _lock:
        _reported.clear()
