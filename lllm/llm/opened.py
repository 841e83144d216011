"""The backends that this process has opened by name. A bounded number is kept open for whoever asks next."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Final

from lllm.plug_ins import PLUG_IN
from lllm.ports import Backend
from lllm.sync import run, spawn

MOST: Final = 64
"""How many backends stay open although nothing may use them any more."""

Key = tuple[str, str]
"""The provider, and its options as text."""

Table = dict[Key, Backend]
"""The backends that were asked for last, the latest at the end."""

_used: Table = {}
"""Those that were asked for longer ago, and that somebody had when it was looked at last: an agent, or a reply that is on
its way."""

_look_at = MOST
"""How many of them there may be before all are looked at again: an agent that is gone may leave one behind."""


def find(table: Table, key: Key) -> Backend | None:
    """The backend that was opened with these options, if it is still there. Under the caller's lock, as `keep`."""
    found = table.pop(key, None)
    if found is None:
        found = _used.pop(key, None)
    if found is not None:
        keep(table, key, found)
    return found


def keep(table: Table, key: Key, backend: Backend) -> None:
    """Keeps a backend open. Where there are too many, those that were asked for longest ago are let go: closed where nothing
    else refers to them, so that nothing in use is ever closed; else shared for as long as they are used."""
    global _look_at
    table[key] = backend
    while len(table) > MOST:
        _let_go(table, next(iter(table)))
    if len(_used) > _look_at:
        for old in list(_used):
            _let_go(_used, old)
        _look_at = MOST + 2 * len(_used)


def take_all(table: Table) -> list[Backend]:
    """All backends, those that are used elsewhere too; none is kept any longer."""
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
"""The count of a thing that only `_take` refers to, on this Python."""


def _close(backend: Backend) -> None:
    """Closes a backend that nobody has, in another thread: closing may take a while."""

    def close() -> None:
        with suppress(*PLUG_IN):
            run(backend.aclose())

    with suppress(RuntimeError):  # no more threads: it frees what it has when it is collected
        spawn(close)
