"""Threads for plain functions: so many side by side, and none that keeps the interpreter from exiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from lllm.sync import spawn

Job = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """Runs functions, `limit` at a time, the others in turn. A function that hangs keeps its thread, and nothing else: the
    executors of the standard library wait for it when the program ends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy = 0
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Runs a function in a thread. RuntimeError where the system cannot start one."""
        future: Future[Any] = Future()
        job = future, partial(function, *args, **more)
        with self._lock:
            if self._busy >= self._limit:
                self._waiting.append(job)
                return future
            self._busy += 1
        try:
            spawn(partial(self._work, [job]))
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise
        return future

    def _work(self, jobs: list[Job]) -> None:
        while jobs:
            _do(*jobs.pop())
            with self._lock:
                if self._waiting:
                    jobs.append(self._waiting.popleft())
                else:
                    self._busy -= 1


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
