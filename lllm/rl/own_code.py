"""Calls of an environment's own code: rewards, hooks, states."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from lllm.errors import text_of
from lllm.sync import in_thread, is_async


async def call(function: Callable[..., Any], /, *args: Any, **arguments: Any) -> Any:
    """Returns what a function returns, plain (then it runs in a thread) or async. Raises an Exception for whatever it raises:
    sys.exit() or a cancellation within it ends neither the rollout nor the run. Ctrl-C, and a cancellation of the caller, pass.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        if is_async(function):
            return await function(*args, **arguments)
        value = await in_thread(function, *args, **arguments)
        return await value if inspect.isawaitable(value) else value
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling() > before:
            raise
        raise RuntimeError("it was cancelled by its own code") from error
    except SystemExit as error:
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__} raised: {text_of(error)}") from error


class Thread:
    """A plain function in a thread. The thread cannot be stopped: after a time limit, it is abandoned while it runs on.

    Args:
        late: is given in that thread what the function gives after it was left.
    """

    def __init__(self, function: Callable[..., Any], late: Callable[[Any], None]) -> None:
        self._function, self._late = function, late
        self._lock = threading.Lock()
        self._left = False
        self._value: Any = None
        self.running = False

    def __call__(self, **arguments: Any) -> Any:
        self.running = True
        try:
            value = self._function(**arguments)
        finally:
            self.running = False
        with self._lock:
            self._value, left = value, self._left
        if left:
            self._late(value)
        return value

    def leave(self) -> Any:
        """Abandons the thread. Returns the result if there is one by now; None while it still runs."""
        with self._lock:
            self._left = True
            return self._value


def copied(value: Any) -> Any:
    """Returns the value with copies of its lists, dicts and sets, so that no rollout sees the changes of another."""
    return _copied(value, {})


def _copied(value: Any, known: dict[int, Any]) -> Any:
    kind = type(value)
    if kind not in (list, dict, set, tuple, bytearray):
        return value
    if id(value) in known:
        return known[id(value)]
    made: Any
    if kind is tuple:
        return tuple(_copied(one, known) for one in value)
    if kind is dict:
        made = known[id(value)] = {}
        made.update((name, _copied(one, known)) for name, one in value.items())
    elif kind is list:
        made = known[id(value)] = []
        made.extend(_copied(one, known) for one in value)
    else:
        made = kind(value)
    return made
