"""Threads that are kept, and the loops in them."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading

from lllm.sync import run, spawn


def test_a_thread_is_kept_for_later_jobs_and_its_loop_too() -> None:
    came: queue.SimpleQueue[tuple[threading.Thread, asyncio.AbstractEventLoop]] = queue.SimpleQueue()

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    seen = set()
    for _ in range(50):
        spawn(lambda: came.put((threading.current_thread(), run(loop()))))
        seen.add(came.get(timeout=120))
    assert len(seen) < 25
    assert all(thread.daemon for thread, _ in seen)


def test_jobs_that_wait_for_each_other_all_run() -> None:
    barrier = threading.Barrier(21)

    def wait() -> None:
        barrier.wait(120)

    for _ in range(20):
        spawn(wait)
    barrier.wait(120)


EXIT = """
import asyncio, threading
from lllm.sync import run

def work():
    run(asyncio.to_thread(len, ""))
    done.set()
    threading.Event().wait()

done = threading.Event()
threading.Thread(target=work, daemon=True).start()
done.wait()
print("out", flush=True)
"""


def test_the_loop_of_a_daemon_thread_does_not_keep_the_interpreter() -> None:
    """Its executor cannot be closed any more when the interpreter goes: that starts a thread and waits for it."""
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "")
