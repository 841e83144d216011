"""What threads print is in the cell that started them, also where another one has run since, or runs."""

from __future__ import annotations

import time
from typing import Any

import pytest

import lllm
from lllm import MemoryLog, resume_session
from lllm.sandbox import JupyterSession
from lllm.sandbox.host import host
from lllm.sync import run
from tests.sandbox.test_record import events, newest, until, verified
from tests.sandbox.tier import needs_namespace

GATE = (
    "import threading, time, os, sys\n"
    "def later(name, *calls):\n"
    "    while not os.path.exists(name): time.sleep(0.005)\n"
    "    for call in calls: call()\n"
)
"""What waits for a file, and then calls something."""


def texts(notebook: JupyterSession) -> list[list[str]]:
    return [
        [str(one.get("text") or one.get("ename") or one.get("data")) for one in cell["outputs"]]
        for cell in notebook.get_cells()
    ]


def ran(notebook: JupyterSession, source: str) -> Any:
    result = notebook.run_cell(notebook.append_code_cell(source))
    assert result, result.text
    return result


LATE = {
    "thread": "threading.Thread(target=later, args=('go', lambda: print('late'))).start()",
    "timer": "threading.Timer(0, later, ('go', lambda: print('late'))).start()",
    "daemon": "threading.Thread(target=later, args=('go', lambda: print('late')), daemon=True).start()",
    "of a class": (
        "class Mine(threading.Thread):\n    def run(self): later('go', lambda: print('late'))\nMine().start()"
    ),
    "within a thread": (
        "inner = lambda: threading.Thread(target=later, args=('go', lambda: print('late'))).start()\n"
        "threading.Thread(target=inner).start()"
    ),
    "a pool": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\n"
        "future = pool.submit(later, 'go', lambda: print('late'))"
    ),
    "an executor of asyncio": (
        "import asyncio\nfuture = asyncio.get_running_loop().run_in_executor(None, later, 'go', lambda: print('late'))"
    ),
    "asyncio.to_thread": (
        "import asyncio\ntask = asyncio.ensure_future(asyncio.to_thread(later, 'go', lambda: print('late')))"
    ),
    "a task": (
        "import asyncio\nasync def main():\n    while not os.path.exists('go'): await asyncio.sleep(0.005)\n"
        "    print('late')\ntask = asyncio.ensure_future(main())"
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_late_output_is_in_its_cell_when_another_has_run(name: str) -> None:
    with JupyterSession() as notebook:
        ran(notebook, GATE + LATE[name])
        ran(notebook, "print('second')")
        ran(notebook, "open('go', 'w').close()\nawait __import__('asyncio').sleep(0.5); print('third')")
        end = time.monotonic() + 20
        while not texts(notebook)[0] and time.monotonic() < end:
            notebook.save()
            time.sleep(0.05)
        assert texts(notebook) == [["late\n"], ["second\n"], ["third\n"]]


def test_every_kind_of_output_of_a_thread() -> None:
    with JupyterSession() as notebook:
        calls = "lambda: print('out'), lambda: print('err', file=sys.stderr), lambda: display('shown'), lambda: 1 / 0"
        ran(notebook, GATE + f"thread = threading.Thread(target=later, args=('go', {calls})); thread.start()")
        ran(notebook, "open('go', 'w').close(); thread.join(); print('second')")
        first, second = texts(notebook)
        assert second == ["second\n"]
        assert first[0] == "out\n"
        assert "shown" in str(first)
        assert "ZeroDivisionError" in str(first)
        assert "err" in str(first)


@needs_namespace  # multiprocessing has no locks in the tier `process`
def test_work_belongs_to_the_cell_that_gave_it() -> None:
    """Workers live on; what they do for a cell is that cell's."""
    with JupyterSession() as notebook:
        ran(
            notebook,
            "from concurrent.futures import ThreadPoolExecutor\nfrom multiprocessing.pool import ThreadPool\n"
            "pool, other = ThreadPoolExecutor(1), ThreadPool(1)\n"
            "pool.submit(print, 'one').result(); other.apply(print, ('1',))",
        )
        ran(notebook, "list(pool.map(print, ['two'])); other.map(print, ['2']); 5")
        ran(notebook, "other.terminate(); pool.shutdown()")
        assert [sorted("".join(one[:1]).split()) for one in texts(notebook)] == [
            ["1", "one"],
            ["2", "two"],
            [],
        ]


def test_a_thread_of_lllm_itself_writes_to_the_cell_that_runs() -> None:
    """What lllm runs in a kernel is no cell: what its threads read of child processes, say, is not lost."""
    with JupyterSession() as notebook:
        ran(notebook, "1;")
        kernel = notebook._engine and notebook._engine._kernel
        assert kernel is not None
        loop = f"{GATE}threading.Thread(target=later, args=('go', lambda: print('read'))).start()"
        run(host_call(kernel.begin(loop, 10)))
        ran(notebook, "open('go', 'w').close(); time.sleep(0.5)")
        assert texts(notebook) == [[], ["read\n"]]


async def host_call(work: Any) -> None:
    await host().call(work)


def test_threads_are_what_they_were() -> None:
    with JupyterSession() as notebook:
        source = (
            "import threading, contextvars\nvalue = contextvars.ContextVar('value', default='none'); value.set('cell')\n"
            "seen = []\nclass Sealed(threading.Thread):\n    run = property(lambda self: lambda: seen.append('sealed'))\n"
            "class Slow(threading.Thread):\n    def __init__(self, n): super().__init__(); self.n = n\n"
            "    def run(self): seen.append((self.n, value.get())); super().run()\n"
            "threads = [Slow(1), Sealed(), threading.Thread(target=seen.append, args=('plain',))]\n"
            "for one in threads: one.start(); one.join()\n"
            "try: threads[0].start()\nexcept RuntimeError as error: seen.append(str(error))\n"
            "print(seen)"
        )
        assert ran(notebook, source).text == (
            "[(1, 'none'), 'sealed', 'plain', 'threads can only be started once']"
        )


def test_it_is_recorded_where_it_is() -> None:
    store = MemoryLog()

    def entry(store: Any) -> Any:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession() as notebook:
                source = (
                    GATE
                    + "thread = threading.Thread(target=later, args=('go', lambda: print('late'))); thread.start()"
                )
                results = [
                    ran(notebook, source),
                    ran(notebook, "open('go', 'w').close(); thread.join(); print('second')"),
                ]
                results.append(ran(notebook, "print('third')"))
                return [one.outputs for one in results[1:]], texts(notebook)

        return main

    came = entry(store)()
    assert came[1] == [["late\n"], ["second\n"], ["third\n"]]
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry(store)()))
    assert again == [came]
    kept = [e["data"]["value"] for e in events(store) if e["kind"] == "EffectReturned"]
    assert "late" in str(kept[1].get("$dict", kept[1])["others"])
    left = until(store, 3)
    resumed = resume_session(newest(store), store=left, entry=entry(left)).result
    assert resumed[1][0] == ["late\n"]
    assert resumed[0][0] == came[0][0]
