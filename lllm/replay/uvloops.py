"""Programs that start a uvloop: while they are replayed, resumed or forked, they get a loop whose order can be kept.

Loops of uvloop cannot be looked into, and live runs in them are not touched. `uvloop.run`, `uvloop.new_event_loop` and its
event loop policy make a `uvloop.Loop`: code of a program that is run again and does so gets a `lllm.loops.Loop`, other code a
real one. A resumed or forked program keeps that loop when it has left the record.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, Final

from lllm.inputs import ANSWERS
from lllm.loops import Loop
from lllm.session import current

_lock: Final = Lock()
_running = 0  # so many replays
_real: Any = None


class _StandIn(type):
    """Stands for the class `uvloop.Loop`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        scope = current.get()
        again = scope is not None and scope.session.rerun
        return Loop() if again else _real(*args, **kwargs)

    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, (Loop, _real))

    def __subclasscheck__(cls, one: type) -> bool:
        return issubclass(one, (Loop, _real))


class _UVLoop(metaclass=_StandIn):
    """See `_StandIn`."""


@contextmanager
def replaced(record: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """While it lasts, replayed programs that start a uvloop get another loop. Nothing is done where the record shows that no
    foreign loop was used, or uvloop is not installed."""
    global _running, _real
    foreign = any(event["data"].get("inputs") == ANSWERS for event in record[:1])
    if "uvloop" not in sys.modules and not (foreign and find_spec("uvloop") is not None):
        yield
        return
    module: Any = import_module("uvloop")

    with _lock:
        _running += 1
        if _running == 1:
            _real, module.Loop = module.Loop, _UVLoop
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                module.Loop, _real = _real, None
