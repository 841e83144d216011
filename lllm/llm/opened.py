"""The backends that this process has opened by name. A bounded number is kept open for reuse."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Final

from lllm.plug_ins import PLUG_IN
from lllm.ports import Backend
from lllm.sync import run, spawn

MOST: Final = 64
"""Number of backends that stay open although possibly unused."""

Key = tuple[str, str]
"""The provider, and its options as text."""

Table = dict[Key, Backend]
"""The most recently requested backends, latest last."""

_used: Table = {}
"""Backends requested longer ago that were in use at the last check: by an agent, or by a reply in progress."""

_look_at = MOST
"""Size of `_used` at which all are checked again: a deleted agent may leave one behind."""


def find(table: Table, key: Key) -> Backend | None:
    """The backend that was opened with these options, or None. The caller must hold the lock, as for `keep`."""
    found = table.pop(key, None)
    if found is None:
        found = _used.pop(key, None)
    if found is not None:
        keep(table, key, found)
    return found


def keep(table: Table, key: Key, backend: Backend) -> None:
    """Keeps a backend open. Above the limit, the least recently requested ones are released: closed if nothing else refers to
    them, so that a backend in use is never closed; otherwise shared as long as they are used."""
    global _look_at
    table[key] = backend
    while len(table) > MOST:
        _let_go(table, next(iter(table)))
    if len(_used) > _look_at:
        for old in list(_used):
            _let_go(_used, old)
        _look_at = MOST + 2 * len(_used)


def take_all(table: Table) -> list[Backend]:
    """Returns all backends, including those in use, and keeps none."""
    found = [*table.values(), *_used.values()]
    table.clear()
    _used.clear()
    return found


def _let_go(table: Table, key: Key) -> None:
    backend, references = _take(table, key)
    if references <= _ALONE:
        _close(backend)
    else:
        _used[key] = backend


def _take(table: dict[Any, Any], key: Any) -> tuple[Any, int]:
    thing = table.pop(key)
    return thing, sys.getrefcount(thing)


_ALONE: Final = _take({0: object()}, 0)[1]
"""The reference count, on this Python, of an object that only `_take` refers to."""


def _close(backend: Backend) -> None:
    """Closes an unused backend in another thread: closing may take a while."""

    def close() -> None:
        with suppress(*PLUG_IN):
            run(backend.aclose())

    with suppress(RuntimeError):  # no more threads: garbage collection frees its resources
        spawn(close)
