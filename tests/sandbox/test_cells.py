"""Cells that fail, run too long, print too much, or take their kernel with them; and who may call, from where."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lllm.errors import ConfigError, SandboxError
from lllm.sandbox import CellResult, JupyterSession, engine
from lllm.sandbox.folders import PREFIX
from tests.sandbox.late import go, later, until_late
from tests.sandbox.tier import weaker


@pytest.fixture(scope="module")
def shared() -> Iterator[JupyterSession]:
    # with time to end by itself, which on a busy machine it needs
    with JupyterSession(limits={"cell_seconds": 60, "grace_seconds": 30}) as notebook:
        yield notebook


def ran(notebook: JupyterSession, source: str, seconds: float | None = None) -> CellResult:
    return notebook.run_cell(notebook.append_code_cell(source), seconds)


def interrupted(notebook: JupyterSession, condition: Any) -> None:
    until(condition)
    notebook.interrupt()


def until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- what a model reads


def test_traceback_has_the_lines_of_the_cell(shared: JupyterSession) -> None:
    result = ran(shared, "def half(x):\n    return x / 0\n\nhalf(1)")
    assert result.status == "error"
    assert f"Cell In[{result.number}], line 4" in result.text
    assert "----> 4 half(1)" in result.text
    assert result.text.endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in result.text
    assert "\x1b[" in "".join(result.outputs[0]["traceback"])  # the notebook has it as the kernel sent it


def test_syntax_error_has_its_line(shared: JupyterSession) -> None:
    text = ran(shared, "x = 1\ny = = 2").text
    assert "line 2" in text
    assert text.endswith("SyntaxError: invalid syntax")


@pytest.mark.parametrize("source", ["input('Name: ')", "import getpass\ngetpass.getpass()"])
def test_input_is_refused_plainly(shared: JupyterSession, source: str) -> None:
    result = ran(shared, source)
    assert result.status == "error"
    assert "nobody can be asked in a sandbox" in result.text
    assert "Cell In[" in result.text
    assert len(result.text) < 500


def test_library_frames_are_few(shared: JupyterSession) -> None:
    text = ran(shared, "import json\njson.loads('{bad')").text
    assert "JSONDecodeError: Expecting property name" in text
    assert len(text) < 1_500


def test_streams_of_child_processes_are_in_their_cell(shared: JupyterSession) -> None:
    for n in range(3):
        result = ran(
            shared,
            f"import subprocess\nsubprocess.run(['bash', '-c', 'echo to {n}; echo err >&2']).returncode",
        )
        # two pipes, each read by a thread of its own: on a busy machine in any order
        assert sorted(result.text.splitlines()) == ["0", "err", f"to {n}"]


def test_child_processes_may_write_much(shared: JupyterSession) -> None:
    """More than a pipe holds, to both of its streams; and in characters of several bytes."""
    child = "import sys; print('a' + 'ü' * 100_000); print('ö' * 100_000, file=sys.stderr)"
    result = ran(
        shared, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}]).returncode", 30
    )
    texts = {one.get("name"): one.get("text") for one in result.outputs}
    assert (result.status, texts["stdout"], texts["stderr"]) == (
        "ok",
        f"a{'ü' * 100_000}\n",
        f"{'ö' * 100_000}\n",
    )


def test_no_display_is_lost(shared: JupyterSession) -> None:
    result = ran(shared, "from IPython.display import display\nfor i in range(5000): display(i)")
    assert [one["data"]["text/plain"] for one in result.outputs] == [str(n) for n in range(5000)]


def test_late_output_is_in_the_cell_that_started_it() -> None:
    with JupyterSession() as notebook:
        first = ran(notebook, later("print('late')") + "print('early')")
        assert first.text == "early"
        go(notebook)
        until_late(notebook)
        second = ran(notebook, "print('second')")
        assert second.text == "second"
        outputs = [cell["outputs"] for cell in notebook.get_cells()]
        assert [one[0]["text"] for one in outputs] == ["early\nlate\n", "second\n"]
        ran(notebook, later("print('last')", 2))
        go(notebook, 2)
        until_late(notebook)
    assert notebook.get_cells()[2]["outputs"][0]["text"] == "last\n"  # taken when it was closed


# --- stopped


def test_timeout_gives_what_there_is(shared: JupyterSession) -> None:
    result = ran(shared, "kept = 1\nprint('partial')\nimport time\ntime.sleep(600)", 2)
    assert (result.status, result.alive) == ("timeout", True)
    assert result.text.startswith("partial\n")
    assert (
        "ran longer than its 2 s and was interrupted. The kernel and its variables are still there"
        in result.text
    )
    after = ran(shared, "kept", 30)
    assert (after.status, after.text) == ("ok", "1")
    assert after.seconds < 20


def test_timeout_of_awaiting_cell(shared: JupyterSession) -> None:
    result = ran(shared, "awaited = 1\nimport asyncio\nawait asyncio.sleep(600)", 2)
    assert (result.status, result.alive) == ("timeout", True)
    assert ran(shared, "awaited").text == "1"


@pytest.mark.parametrize("source", ["!sleep 600", "%%bash\nsleep 600", "import os; os.system('sleep 600')"])
def test_timeout_ends_the_processes_that_a_cell_waits_for(shared: JupyterSession, source: str) -> None:
    ran(shared, "stays = 1")
    result = ran(shared, source, 1)
    assert (result.status, result.alive) == ("timeout", True)
    found = "import pathlib; [f for f in pathlib.Path('/proc').glob('[0-9]*/cmdline') if b'sleep\\0600' in f.read_bytes()]"
    assert ran(shared, f"{found}, stays").text == "([], 1)"


@pytest.mark.parametrize(
    "source",
    [
        "sum(range(10**12))",
        "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass",
    ],
)
def test_what_cannot_be_interrupted_is_killed(source: str) -> None:
    with JupyterSession(limits={"grace_seconds": 0.5}) as notebook:
        ran(notebook, "open('a.txt', 'w').write('kept')\nx = 1")
        result = ran(notebook, f"import time\nprint('partial', flush=True); time.sleep(0.2)\n{source}", 2)
        assert (result.status, result.alive) == ("timeout", False)
        assert result.text.startswith("partial\n")
        assert "it did not stop within 0.5 s, so its kernel was killed with all its processes" in result.text
        assert "all variables are gone, files are still there" in result.text
        assert ran(notebook, "open('a.txt').read(), 'x' in globals()").text == "('kept', False)"


def test_flood_is_stopped_and_its_rest_is_in_a_file(tmp_path: Path) -> None:
    limits = {"output_bytes": 10_000, "flood_bytes": 2_000_000}
    with JupyterSession("nb", tmp_path, limits=limits) as notebook:
        result = ran(notebook, "n = 0\nwhile True:\n    print('line', n); n += 1")
        assert (result.status, result.alive) == ("flood", True)
        assert len(result.text) < 15_000
        file = tmp_path / "nb.outputs" / "cell-1.txt"
        assert str(file) in result.text
        assert 100_000 < file.stat().st_size <= 2_000_000
        whole = result.outputs[0]["text"] + file.read_text()
        assert whole.startswith("line 0\nline 1\n")
        assert "line 9000\nline 9001\n" in whole
        assert ran(notebook, "n > 9000").text == "True"
        result = notebook.run_cell(0, 20)  # the file is that of the last run
        assert file.stat().st_size <= 2_000_000


def test_one_message_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LARGEST", 1_000_000)
    with JupyterSession(limits={"flood_bytes": 1_000_000}) as notebook:
        result = ran(notebook, "x = 1\nprint('before')\n'y' * 5_000_000")
        assert (result.status, result.alive) == ("ok", True)
        assert "some of its outputs are lost" in result.note
        assert ran(notebook, "x").text == "1"


def test_process_that_goes_on_printing_is_ended() -> None:
    with JupyterSession(limits={"flood_bytes": 1_000_000}) as notebook:
        ran(notebook, later("while True: print('x' * 1000)"))
        go(notebook)
        until(lambda: not notebook.alive)
        assert "went on printing more than is allowed" in ran(notebook, "1").before


# --- dead kernels


@pytest.mark.parametrize(
    ("source", "status", "how"),
    [
        ("exit()", "ok", "exit status 0"),
        ("quit()", "ok", "exit status 0"),
        ("import os; os._exit(3)", "died", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "died", "by SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "died", "by SIGSEGV"),
        ("import os; os.closerange(3, 256)", "died", "by SIGABRT"),
    ],
)
def test_death_within_a_cell(source: str, status: str, how: str) -> None:
    with JupyterSession() as notebook:
        result = ran(notebook, source)
        assert (result.status, result.alive) == (status, False)
        assert how in result.note
        assert result.seconds < 5
        assert not notebook.alive
        after = ran(notebook, "1 + 1")
        assert (after.text, after.number) == ("2", 1)  # it was told already


def test_death_between_cells() -> None:
    with JupyterSession() as notebook:
        ran(notebook, "import os\n" + later("os.kill(os.getpid(), 9)"))
        go(notebook)
        until(lambda: not notebook.alive)
        after = ran(notebook, "'threading' in globals()")
        assert (
            after.before == "the kernel had died (by SIGKILL): all variables are gone, files are still there"
        )
        assert after.text.endswith("False")


@pytest.mark.parametrize(
    ("source", "alive"),
    [
        ("get_ipython().kernel.control_stream.close()", True),
        ("get_ipython().kernel.iopub_socket.close()", False),
        ("get_ipython().kernel.shell_stream.close()", False),
        ("import sys; sys.stdout = sys.stderr = None", True),
        ("import sys; sys.stdout.close()", True),
        ("import os; os.closerange(0, 3)", True),
        ("get_ipython().kernel.session.key = b'other'", False),
        ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", True),
        ("del get_ipython", True),
    ],
)
def test_broken_channels_do_not_last(source: str, alive: bool) -> None:
    with JupyterSession(limits={"grace_seconds": 0.5}) as notebook:
        first = ran(notebook, source, 3)
        assert first.alive is alive
        ran(notebook, "import time; time.sleep(600)", 0.5)
        ran(notebook, "1", 3)
        assert ran(notebook, "6 * 7").outputs[0]["data"]["text/plain"] == "42"


# --- interrupted, cancelled


def test_interrupt_from_a_thread(shared: JupyterSession) -> None:
    place = shared.append_code_cell("import time\nfor n in range(600): print(n, flush=True); time.sleep(0.1)")
    thread = threading.Thread(
        target=interrupted, args=(shared, lambda: shared._engine and shared._engine.cell)
    )
    thread.start()
    result = shared.run_cell(place)
    thread.join()
    assert (result.status, result.alive) == ("interrupted", True)
    assert "the cell was interrupted. The kernel and its variables are still there" in result.text
    shared.interrupt()  # nothing runs
    assert ran(shared, "'fine'").text == "'fine'"


def test_interrupt_while_the_kernel_starts() -> None:
    with JupyterSession() as notebook:
        place = notebook.append_code_cell("import time; time.sleep(600)")
        thread = threading.Thread(target=interrupted, args=(notebook, lambda: notebook._engine))
        thread.start()
        assert notebook.run_cell(place).status == "interrupted"
        thread.join()


def test_interrupt_from_a_task(shared: JupyterSession) -> None:
    async def main() -> CellResult:
        task = asyncio.create_task(shared.arun_cell(shared.append_code_cell("import time; time.sleep(600)")))
        while not (shared._engine and shared._engine.cell):
            await asyncio.sleep(0.01)
        shared.interrupt()
        return await task

    assert asyncio.run(main()).status == "interrupted"


def test_cancelled_cell_is_interrupted(shared: JupyterSession) -> None:
    async def main() -> str:
        place = shared.append_code_cell("n = 0\nimport time\nwhile True: n += 1; time.sleep(0.01)")
        task = asyncio.create_task(shared.arun_cell(place))
        while not (shared._engine and shared._engine.cell):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await shared.arun_cell(shared.append_code_cell("a = n; time.sleep(0.2); n > 0, a == n"))).text

    assert asyncio.run(main()) == "(True, True)"


def test_restart_ends_the_running_cell() -> None:
    with JupyterSession() as notebook:

        async def main() -> CellResult:
            task = asyncio.create_task(
                notebook.arun_cell(notebook.append_code_cell("import time; time.sleep(600)"))
            )
            while not (notebook._engine and notebook._engine.cell):
                await asyncio.sleep(0.01)
            await notebook.arestart()
            return await task

        assert asyncio.run(main()).status == "interrupted"
        assert ran(notebook, "'time' in globals()").text == "False"


def test_seconds_are_checked(shared: JupyterSession) -> None:
    place = shared.append_code_cell("1")
    for seconds in (0, -1, True, "1", float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="seconds must be a number above 0"):
            shared.run_cell(place, seconds)  # type: ignore[arg-type]


# --- callers


def test_two_notebooks_at_once() -> None:
    async def one(name: str) -> list[str]:
        async with JupyterSession() as notebook:
            notebook.append_code_cell(f"name = {name!r}; open('f', 'w').write(name)")
            notebook.append_code_cell("import time; time.sleep(0.2); name, open('f').read()")
            return [result.text for result in await notebook.arun_all_cells()]

    async def main() -> list[list[str]]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(main()) == [["1", "('a', 'a')"], ["1", "('b', 'b')"]]


def test_one_notebook_from_many_tasks(shared: JupyterSession) -> None:
    async def main() -> list[CellResult]:
        places = [shared.append_code_cell(f"print({n}); {n}") for n in range(10)]
        return await asyncio.gather(*(shared.arun_cell(place) for place in places))

    results = asyncio.run(main())
    assert [result.text for result in results] == [f"{n}\n{n}" for n in range(10)]
    numbers = [result.number for result in results]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + 10))


def test_from_every_kind_of_caller(shared: JupyterSession) -> None:
    place = shared.append_code_cell("6 * 7")
    found: list[str] = [shared.run_cell(place).text]

    async def main() -> str:
        found.append(shared.run_cell(place).text)  # blocking, within a loop
        return (await shared.arun_cell(place)).text

    found.append(asyncio.run(main()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found.append(runner.run(main()))
    thread = threading.Thread(target=lambda: found.append(shared.run_cell(place).text))
    thread.start()
    thread.join()
    assert found == ["42"] * 6


def test_twenty_sessions_side_by_side() -> None:
    async def one(n: int) -> str:
        async with JupyterSession() as notebook:
            place = notebook.append_code_cell(f"import os; open('n', 'w').write('{n}'); open('n').read()")
            return (await notebook.arun_cell(place)).text

    async def main() -> list[str]:
        gate = asyncio.Semaphore(20)

        async def held(n: int) -> str:
            async with gate:
                return await one(n)

        return await asyncio.gather(*(held(n) for n in range(20)))

    assert asyncio.run(main()) == [f"'{n}'" for n in range(20)]


def test_closed_while_cells_wait() -> None:
    async def main() -> list[Any]:
        notebook = JupyterSession()
        tasks = [
            asyncio.create_task(notebook.arun_cell(notebook.append_code_cell("import time; time.sleep(600)")))
            for _ in range(2)
        ]
        while not (notebook._engine and notebook._engine.cell):
            await asyncio.sleep(0.01)
        await notebook.aclose()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second = asyncio.run(main())
    assert first.status == "interrupted"
    assert isinstance(second, SandboxError)
    assert "was closed while this cell waited" in str(second)


def test_use_after_close() -> None:
    notebook = JupyterSession()
    ran(notebook, "x = 1; open('a.txt', 'w').write('kept')")
    notebook.close()
    notebook.close()
    assert not notebook.alive
    assert ran(notebook, "'x' in globals(), open('a.txt').read()").text.endswith("(False, 'kept')")
    notebook.close()


SCRIPT = """
import os, sys, threading
from lllm.sandbox import JupyterSession
def main():
    notebook = JupyterSession(tier=os.environ["TIER"])
    print(notebook.run_cell(notebook.append_code_cell("x = 1; x + 1")).text, flush=True)
    print(notebook._engine.folder, notebook._engine._kernel.process.pid, flush=True)
    return notebook
"""


@pytest.mark.parametrize(
    "how",
    [
        "kept = main()",
        "main()",
        "kept = main()\nsys.exit(3)",
        "kept = main()\nraise ValueError",
        "threading.Thread(target=main).start()",
        "kept = main()\nthreading.Thread(target=lambda: kept.run_cell(kept.append_code_cell('import time; time.sleep(60)')),"
        " daemon=True).start()\nimport time; time.sleep(1)",
        "kept = main()\nos.kill(os.getpid(), 9)",
        "kept = main()\nos.kill(os.getpid(), 15)",
        "kept = main()\nif os.fork() == 0:\n    sys.exit(0)\nos.wait()\n"
        "print(kept.run_cell(kept.append_code_cell('x + 2')).text)",
    ],
)
def test_nothing_is_left_at_the_end(how: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TIER": "process" if weaker() else "namespace"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + how], capture_output=True, text=True, env=environment, timeout=60
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "2", done.stderr
    if "fork" in how:
        assert lines[2] == "3", done.stderr  # the child's end did not end it
    if "ValueError" not in how:
        assert done.stderr == ""
    folder, pid = lines[1].split()
    until(lambda: not Path(f"/proc/{pid}").exists())
    if "os.kill" in how:  # it could not clean up: the next one does
        assert Path(folder).exists()
        subprocess.run(
            [sys.executable, "-c", SCRIPT + "main().close()"], check=True, env=environment, timeout=60
        )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(PREFIX)] == []


def test_forked_process_has_a_kernel_of_its_own(tmp_path: Path) -> None:
    script = SCRIPT + (
        "kept = main()\nread, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    text = kept.run_cell(kept.append_code_cell('x += 10; x')).text\n"
        "    kept.close()\n"
        "    os.write(write, text.encode()); os._exit(0)\n"
        "os.wait(); print(os.read(read, 9999).decode().splitlines()[-1])\n"
        "print(kept.run_cell(kept.append_code_cell('x')).text)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TIER": "process" if weaker() else "namespace"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=90
    )
    assert done.stdout.splitlines()[2:] == ["11", "1"], done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(PREFIX)]


def test_dropped_notebook_ends_its_kernel() -> None:
    notebook = JupyterSession()
    ran(notebook, "1")
    assert notebook._engine is not None
    kernel = notebook._engine._kernel
    assert kernel is not None
    del notebook
    import gc

    gc.collect()
    until(lambda: not kernel.alive)


def test_five_hundred_cells_without_growth() -> None:
    def measured() -> tuple[int, int]:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return pages * 4096, len(os.listdir("/proc/self/fd"))

    with JupyterSession() as notebook:
        place = notebook.append_code_cell("print('x' * 100); 1 + 1")
        for _ in range(50):
            notebook.run_cell(place)
        before = measured()
        for _ in range(500):
            notebook.run_cell(place)
        after = measured()
    assert after[1] <= before[1]
    assert after[0] - before[0] < 8_000_000
