"""Threads of plain functions: bounded, and none that a program waits for when it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from lllm.steps import threads
from lllm.steps.threads import Threads

HANGS = """
import signal
import threading
import time

from lllm import NoLog, step

began = threading.Semaphore(0)


def hang(value):
    began.release()
    time.sleep(600)


def stop():
    for _ in range(3):
        began.acquire()
    time.sleep(0.3)  # Python misses a signal that comes just before it waits
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


threading.Thread(target=stop, daemon=True).start()
try:
    step(hang).batch([1, 2, 3], store=NoLog())
except KeyboardInterrupt:
    print("stopped")
"""


def test_a_function_that_hangs_does_not_keep_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def test_so_many_run_at_once_and_all_are_run() -> None:
    pool, running, most = Threads(3), [0], [0]
    lock = threading.Lock()

    def work(n: int) -> int:
        with lock:
            running[0] += 1
            most.append(running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        if n == 7:
            raise ValueError("seven")
        return n

    jobs = [pool.submit(work, n) for n in range(20)]
    assert [job.result(20) for n, job in enumerate(jobs) if n != 7] == [n for n in range(20) if n != 7]
    with pytest.raises(ValueError, match="seven"):
        jobs[7].result(20)
    assert max(most) == 3


def test_a_job_that_is_cancelled_while_it_waits_is_not_run() -> None:
    pool, ran, go = Threads(1), [], threading.Event()
    first = pool.submit(go.wait)
    second: Future[None] = pool.submit(ran.append, 2)
    third: Future[None] = pool.submit(ran.append, 3)
    assert second.cancel()
    go.set()
    third.result(20)
    assert first.result(20)
    assert ran == [3]


def test_a_thread_that_cannot_be_started_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Threads(1)

    def refuses(job: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threads, "spawn", refuses)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit(time.sleep, 0)
    assert pool.submit(int, "5").result(20) == 5
