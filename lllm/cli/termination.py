"""SIGTERM: the process ends at once, and says how to go on with the session that it was writing.

Nothing is written to the log: what had happened is there, and a session without an end can be resumed, which one that was
cancelled could not.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lllm.cli import output

EXIT: Final = 128 + signal.SIGTERM


@contextmanager
def told() -> Iterator[None]:
    """Within, SIGTERM is answered, unless somebody else answers it already."""
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not mine:
        yield
        return
    process = os.getpid()

    def terminated(number: int, frame: Any) -> None:
        if os.getpid() != process:  # a forked child, which has its own end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        output.terminated()
        os._exit(EXIT)

    signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
