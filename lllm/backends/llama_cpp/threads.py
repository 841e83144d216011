"""What threads inside the engine's library need: to be waited for at exit, and to be forgotten after a fork."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Holder:
    """Whoever holds an engine, or may."""

    def forget(self) -> bool:
        """In a forked child: the parent's threads are not here. Says whether the child must not take an engine down."""
        return False

    def leave(self) -> None:
        """The interpreter ends, and no thread is inside an engine any more."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()
_gate = threading.Condition()
_inside = 0
_leaving = False
_forked = False
"""Whether this process was forked from one that had an engine."""


def register(holder: Holder) -> None:
    """Has the holder told of a fork, and of the end."""
    _holders.add(holder)


def leaving() -> bool:
    """Whether the interpreter ends: nothing is generated any more."""
    return _leaving


@contextmanager
def inside() -> Iterator[None]:
    """Counts the threads that are inside the engine."""
    global _inside
    with _gate:
        _inside += 1
    try:
        yield
    finally:
        with _gate:
            _inside -= 1
            _gate.notify_all()


def keep(thing: Any) -> None:
    """Never takes a thing down, not even when the interpreter ends: one reference more than there is."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def loaded(engine: Any) -> None:
    """An engine was loaded. In a forked child it cannot be taken down."""
    if _forked:
        keep(engine)


def _leave() -> None:
    # a thread that comes back from the engine while the interpreter is taken down aborts the process
    global _leaving
    _leaving = True
    with _gate:
        empty = _gate.wait_for(lambda: not _inside, timeout=5.0)
    for holder in list(_holders) if empty else ():
        with suppress(Exception):
            holder.leave()


def _after_fork() -> None:
    global _gate, _inside, _forked
    _gate, _inside = threading.Condition(), 0
    inherited = [holder.forget() for holder in list(_holders)]
    if any(inherited) and not _forked:
        _forked = True
        _exit_at_once()


def _exit_at_once() -> None:
    # When a process ends, the engine's library waits for threads that a forked child does not have, for ever. The C
    # library calls the latest handler first: the child leaves after Python has cleaned up and before the engine does.
    import ctypes

    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc
        library.on_exit(library._exit, None)


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
