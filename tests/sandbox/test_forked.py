"""Kernels that are forked from a zygote have nothing of it, and nothing of each other."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import SandboxBroken
from lllm.sandbox.host import host
from lllm.sandbox.isolation import forked, tree
from lllm.sandbox.isolation.forked import Zygote
from lllm.sandbox.isolation.tiers import choose
from lllm.sandbox.jupyter import JupyterSession
from lllm.sandbox.kernel import Kernel, ZygoteEnded
from lllm.sandbox.limits import Limits
from lllm.sandbox.pool import Pool, pool_of
from tests.sandbox.tier import needs_namespace

LIMITS = {"start_seconds": 29.0}
"""Others have a pool of their own."""


pytestmark = needs_namespace


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[JupyterSession, JupyterSession]]:
    with (
        JupyterSession(tier="namespace", required=True, warm=2, limits=LIMITS) as one,
        JupyterSession(tier="namespace", required=True, warm=2, limits=LIMITS) as other,
    ):
        for notebook in (one, other):
            assert notebook.run_cell(notebook.append_code_cell("x = 1"))
        yield one, other


def kernel_of(notebook: JupyterSession) -> Kernel:
    assert notebook._engine is not None
    assert notebook._engine._kernel is not None
    return notebook._engine._kernel


def said(notebook: JupyterSession, code: str) -> str:
    result = notebook.run_cell(notebook.append_code_cell(code))
    assert result, result.text
    return result.text


def opened(pid: int) -> set[str]:
    """The sockets and pipes of a process."""
    links = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return {link for link in links if re.match(r"(socket|pipe):", link)}


def test_no_descriptor_of_another_process(two: tuple[JupyterSession, JupyterSession]) -> None:
    for notebook in two:
        init = kernel_of(notebook).process.pid
        inside = tree.below(init)[1:]
        assert inside
        mine = set().union(*map(opened, inside))
        assert mine
        for pid in [os.getpid(), *tree.below(os.getpid())]:
            if pid not in inside:
                try:
                    others = opened(pid)
                except OSError:
                    continue
                assert not mine & others, pid


def test_no_variable_of_another_process(two: tuple[JupyterSession, JupyterSession]) -> None:
    code = "print(open('/proc/self/environ').read().replace(chr(0), '\\n')); import os; print(os.environ)"
    for notebook in two:
        seen = said(notebook, code)
        for folder in (sys.prefix, sys.base_prefix):
            seen = seen.replace(folder, "")
        assert str(Path.home()) not in seen
        assert not [name for name in os.environ if "KEY" in name and name in seen]


def test_keys_and_random_numbers_are_its_own(two: tuple[JupyterSession, JupyterSession]) -> None:
    code = """
import random, secrets, tempfile, uuid
try: import numpy; print(numpy.random.rand())
except ImportError: pass
print(random.random()); print(secrets.token_hex()); print(uuid.uuid4()); print(tempfile.mktemp())
print(get_ipython().kernel.session.key); print(get_ipython().kernel.session.session)
"""
    lines = [said(notebook, code).splitlines() for notebook in two]
    assert len(lines[0]) == len(lines[1]) >= 6
    assert not set(lines[0]) & set(lines[1])


def test_its_folder_is_closed_to_others(two: tuple[JupyterSession, JupyterSession]) -> None:
    for notebook in two:
        assert notebook._engine is not None
        assert notebook._engine.files.root.stat().st_mode & 0o077 == 0


def test_another_one_is_started_where_the_zygote_has_died() -> None:
    limits = Limits(start_seconds=28.0)
    with JupyterSession(tier="namespace", required=True, warm=1, limits=limits) as notebook:
        said(notebook, "open('kept.txt', 'w').write('kept')")
        zygote = pool_of(choose("namespace").launch, 1, limits, (), forks=True)._zygote
        os.kill(zygote._process.pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while notebook.alive:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "kernel had died" in notebook.run_cell(notebook.append_code_cell("1")).before
        assert "kept" in said(notebook, "print(open('kept.txt').read())")
        with JupyterSession(tier="namespace", required=True, warm=1, limits=limits) as other:
            assert said(other, "1") == "1"
            assert type(kernel_of(other).process).__name__ == "Forked"


def test_a_zygote_that_dies_while_it_forks_is_not_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    started: list[Zygote] = []

    async def start() -> Zygote:
        started.append(Zygote(tmp_path))
        return started[0]

    zygote = asyncio.run(host().call(start()))
    zygote.ready()
    os.kill(zygote._process.pid, signal.SIGSTOP)
    for pid in tree.below(zygote._process.pid):
        os.kill(pid, signal.SIGSTOP)
    for name in ("work", "s0"):
        (tmp_path / name).mkdir()
    timer = threading.Timer(0.5, os.kill, (zygote._process.pid, signal.SIGKILL))
    timer.start()
    monkeypatch.setattr("lllm.sandbox.isolation.forked.SECONDS", 10_000.0)
    with pytest.raises(ZygoteEnded):
        zygote.launch(tmp_path / "s0", tmp_path / "work", Limits())
    with pytest.raises(ZygoteEnded):
        zygote.launch(tmp_path / "s0", tmp_path / "work", Limits())
    zygote.close()
    assert sorted(os.listdir(tmp_path)) == ["s0", "work"]
    assert os.listdir(tmp_path / "s0") == []


@pytest.mark.parametrize(("release", "more"), [((5, 10), 1000), ((6, 1), 0)])
def test_processes_of_the_user_count_where_linux_counts_them(
    release: tuple[int, int], more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked.namespace, "_release", lambda: release)
    monkeypatch.setattr(forked.users, "tasks", lambda user: 1000)
    job = forked._job(tmp_path, tmp_path, tmp_path, Limits(processes=50), None)
    assert job["limits"]["NPROC"] == 50 + more


def test_a_pool_makes_one_more_zygote_and_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Dying:
        alive = False

        def __init__(self, *_: Any) -> None:
            made.append("zygote")

        def ready(self) -> None: ...
        def close(self) -> None: ...
        def launch(self, *_: Any) -> Any:
            raise ZygoteEnded("it has ended")

    monkeypatch.setattr("lllm.sandbox.isolation.forked.Zygote", Dying)

    async def take() -> None:
        pool = Pool(choose("namespace").launch, 0, Limits())
        try:
            await pool.take()
        finally:
            await pool.close()

    with pytest.raises(SandboxBroken, match="it has ended"):
        asyncio.run(host().call(take()))
    assert len(made) == 2


def test_a_kernel_that_forks_slowly_does_not_stop_others() -> None:
    limits = Limits(start_seconds=27.0)
    with (
        JupyterSession(tier="namespace", required=True, warm=1, limits=limits) as slow,
        JupyterSession(tier="namespace", required=True) as other,
    ):
        said(slow, "1")
        said(other, "1")
        assert slow._engine is not None
        fork, waits = slow._engine._fork, threading.Event()
        assert fork is not None

        def slowly(*args: Any) -> Any:
            assert waits.wait(60)
            return fork(*args)

        slow._engine._fork = slowly
        slow.restart()
        cell = slow.append_code_cell("2")
        asking = threading.Thread(target=slow.run_cell, args=(cell,))
        asking.start()
        assert said(other, "3") == "3"
        assert asking.is_alive()
        waits.set()
        asking.join()
        assert slow.get_cells()[cell]["outputs"]


def test_a_fork_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    from lllm.sandbox.pool import forked as waited

    go, killed = threading.Event(), threading.Event()

    class Made:
        def kill(self) -> None:
            killed.set()

    def fork(*_: Any) -> Any:
        go.wait(60)
        return Made()

    async def run() -> None:
        task = asyncio.get_running_loop().create_task(waited(fork, tmp_path, tmp_path, Limits()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert killed.is_set()
