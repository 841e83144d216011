"""Threads that are kept, and the loops in them."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lllm import loops, sync
from lllm.backends.scripted import ScriptedBackend
from lllm.llm.agent import Agent
from lllm.log.files import LocalFileLog
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.sync import in_thread, run, spawn


def test_a_thread_is_kept_for_later_jobs_and_its_loop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = sync._Workers()
    monkeypatch.setattr(sync, "_workers", workers)
    came: queue.SimpleQueue[tuple[threading.Thread, asyncio.AbstractEventLoop]] = queue.SimpleQueue()

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    seen = set()
    for _ in range(50):
        spawn(lambda: came.put((threading.current_thread(), run(loop()))))
        seen.add(came.get(timeout=120))
        assert workers._idle.acquire(timeout=120), "it is ready for the next job"
        workers._idle.release()
    assert len(seen) == 1
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


@contextmanager
def thread_limit(monkeypatch: pytest.MonkeyPatch, more: int) -> Iterator[None]:
    """So many threads of this package can be started, as at the process limit of a user or a container."""
    left = [more]
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("lllm-"):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr("lllm.sync._workers", type(sync._workers)())  # without idle threads of earlier tests
        patch.setattr(threading.Thread, "start", limited)
        yield


def test_an_idle_thread_holds_nothing_of_its_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_workers", workers := sync._Workers())

    class Held:
        def job(self) -> None:
            pass

    held = Held()
    kept = weakref.ref(held)
    sync.spawn(held.job)
    del held
    assert workers._idle.acquire(timeout=60)  # the thread has done it
    assert kept() is None


def test_a_job_without_a_thread_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    hold = threading.Event()
    with thread_limit(monkeypatch, 1):
        spawn(lambda: hold.wait(120))
        with pytest.raises(RuntimeError, match="can't start new thread"):
            spawn(lambda: ran.append(1))
        hold.set()
        while True:  # the one thread takes the next job as soon as it is idle
            try:
                spawn(lambda: done.put(1))
                break
            except RuntimeError:
                pass
        assert done.get(timeout=120) == 1
    assert ran == []


async def test_a_tool_without_a_thread_has_failed_and_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    paid: list[int] = []
    hold, started = threading.Event(), threading.Semaphore(0)

    @tool(effect="never")
    def pay(amount: int) -> str:
        """Pays."""
        started.release()
        hold.wait(120)
        paid.append(amount)
        return "paid"

    calls = [{"name": "pay", "arguments": {"amount": n}, "id": f"p{n}"} for n in range(60)]
    agent = Agent("a", ScriptedBackend([{"tool_calls": calls}, "done"]), tools=[pay], store=MemoryLog())
    with thread_limit(monkeypatch, 35):
        call = asyncio.create_task(agent.acall("pay"))
        for _ in range(35):
            await asyncio.to_thread(started.acquire)
        hold.set()
        reply = await call
        results = {m.tool_call_id: m.text for m in reply.messages if m.role == "tool"}
        reported = sorted(int(name[1:]) for name, text in results.items() if text == "paid")
        failed = [text for text in results.values() if text != "paid"]
        for _ in range(60):  # the threads are idle now, and take what is given to them
            await in_thread(int)
    assert sorted(paid) == reported
    assert len(paid) == 35
    assert len(failed) == 25
    assert all("can't start new thread" in text for text in failed)


async def test_a_log_append_without_a_thread_is_never_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    store = LocalFileLog(tmp_path, synchronous="full")
    with thread_limit(monkeypatch, 0), pytest.raises(RuntimeError, match="can't start new thread"):
        store._submit([], {"sha256:" + "0" * 64: b"late"})
    await store.append([], {})
    store.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"late"]


def test_a_loop_that_outlives_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit the interpreter may clear a module before it frees the last loop."""
    loop = loops.Loop()
    loop.close()
    with monkeypatch.context() as gone:
        gone.setattr(loops, "sys", None)
        loop.__del__()


@pytest.mark.parametrize("thread", ["new", "idle"])
def test_a_worker_whose_profile_is_refused_once(monkeypatch: pytest.MonkeyPatch, thread: str) -> None:
    """Python refuses it while another thread sets its own."""
    refused: list[object] = []
    set_profile = sys.setprofile

    def setprofile(function: Any) -> None:
        if not refused:
            refused.append(function)
            raise RuntimeError("another profile function is being installed")
        set_profile(function)

    workers = sync._Workers()
    if thread == "idle":
        workers.submit(lambda: None)
        assert workers._idle.acquire(timeout=30)
        workers._idle.release()
    before = threading.getprofile()
    threading.setprofile(lambda *_: None)
    monkeypatch.setattr(sys, "setprofile", setprofile)
    try:
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        workers.submit(lambda: done.put(None))
        done.get(timeout=30)
    finally:
        monkeypatch.undo()
        threading.setprofile(before)
    assert refused
