"""Threads of a kernel: what they print belongs to the cell that began them, also while another one runs.

The text of this file runs in the kernel, without lllm. ipykernel knows which request a thread belongs to by a context variable,
which a new thread does not have: then it takes the latest request. `begin` gives each thread that of whoever started it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from functools import partial, wraps
from typing import Any, Final

NAME: Final = "_lllm_threads"
"""Of the module in the kernel."""


def begin() -> None:
    """Has threads belong to the request in which they are started, and work that is given to a ThreadPoolExecutor to that in
    which it is given. Does nothing the second time, and in a kernel that cannot tell threads apart."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    if NAME in sys.modules or not hasattr(shell, "set_thread_parent"):
        return
    sys.modules[NAME] = type(sys)(NAME)
    _bind_threads(shell)
    _bind_work(shell)


def _bind_threads(shell: Any) -> None:
    if getattr(sys.flags, "thread_inherit_context", False):
        return  # they do already
    start, report = threading.Thread.start, threading.excepthook
    contexts: weakref.WeakKeyDictionary[Any, Context] = weakref.WeakKeyDictionary()

    @wraps(start)
    def bound(self: threading.Thread) -> None:
        parent = shell.get_parent()
        # the workers of a ThreadPool are for whichever cell has work for them; and a silent request is no cell
        if type(self).__module__ != "multiprocessing.dummy" and not parent.get("content", {}).get("silent"):
            # as a thread begins with, but for the request; and `Context.run` is in no traceback
            context = contexts[self] = Context()
            context.run(shell.set_thread_parent, parent)
            with suppress(AttributeError):  # a class in which `run` cannot be set
                self.run = partial(context.run, self.run)  # type: ignore[method-assign]
        start(self)

    def reported(args: Any) -> None:
        """What a thread did not catch comes after its run."""
        context = contexts.get(args.thread)
        report(args) if context is None else context.run(report, args)

    threading.Thread.start = bound  # type: ignore[method-assign]
    threading.excepthook = reported


def _bind_work(shell: Any) -> None:
    submit: Any = ThreadPoolExecutor.submit

    @wraps(submit)
    def bound(self: Any, work: Callable[..., Any], /, *args: Any, **more: Any) -> Any:
        parent = shell.get_parent()

        @wraps(work)
        def within(*args: Any, **more: Any) -> Any:
            tokens = shell.set_thread_parent(parent)
            try:
                return work(*args, **more)
            finally:
                shell.reset_thread_parent(tokens)

        return submit(self, within, *args, **more)

    ThreadPoolExecutor.submit = bound  # type: ignore[method-assign]


if __name__ == NAME:
    begin()
