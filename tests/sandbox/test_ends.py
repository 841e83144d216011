"""With a sandbox ends all that it has started: also when lllm is killed, and whatever code did to survive."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lllm.sandbox import folders
from lllm.sandbox.host import host
from lllm.sandbox.isolation import probe
from lllm.sandbox.isolation.tiers import choose
from lllm.sandbox.jupyter import JupyterSession
from lllm.sandbox.limits import Limits
from lllm.sandbox.pool import pool_of
from tests.sandbox.tier import needs_namespace

TIERS = [
    pytest.param("namespace", 0, marks=needs_namespace),
    pytest.param("namespace", 1, marks=needs_namespace),
    ("process", 0),
]

SURVIVE = """
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)", "{mark}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(1000)", "{mark}"])
    os._exit(0)
os.wait()
"""

PROGRAM = """
import sys, time
from lllm.sandbox.jupyter import JupyterSession
notebook = JupyterSession(tier=sys.argv[1], required=True, warm=int(sys.argv[2]))
print(notebook.run_cell(notebook.append_code_cell(sys.argv[3])).status, flush=True)
time.sleep(1000)
"""


def marked(mark: str) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if Path(entry.path, "cmdline").read_bytes().endswith(b"\0" + mark.encode() + b"\0"):
                    found.append(int(entry.name))
    return found


def until(condition: object, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(("tier", "warm"), TIERS)
def test_killed_owner(tier: str, warm: int) -> None:
    mark = f"m{os.urandom(4).hex()}"
    temporary = Path(tempfile.mkdtemp(prefix="m"))  # a short path: those of sockets are limited
    try:
        owner = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tier, str(warm), SURVIVE.format(mark=mark)],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ok\n"
        assert until(lambda: len(marked(mark)) == 2)
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert until(lambda: not marked(mark))
        assert list(temporary.glob("lllm-*"))
        code = (
            "from lllm.sandbox import folders; print(len(folders.sweep()), len(list(folders.left_behind())))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[1] == "0"
        assert not list(temporary.glob("lllm-*"))
    finally:
        subprocess.run(["rm", "-rf", str(temporary)], check=True)


BUBBLEWRAP = """#!/bin/sh
case "$*" in *{part}*) kill -9 $PPID; sleep 0.3; touch {mark};; esac
exec {real} "$@"
"""


@needs_namespace
@pytest.mark.parametrize(("part", "warm"), [("ipykernel_launcher", 0), ("zygote.py", 1)])
def test_owner_killed_before_bubblewrap_can_know(part: str, warm: int) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="m"))
    try:
        program, mark = temporary / "bwrap", temporary / "mark"
        program.write_text(BUBBLEWRAP.format(part=part, mark=mark, real=shutil.which("bwrap")))
        program.chmod(0o755)
        path = f"{temporary}:{os.environ['PATH']}"
        owner = subprocess.run(
            [sys.executable, "-c", PROGRAM, "namespace", str(warm), "1"],
            env={**os.environ, "TMPDIR": str(temporary), "PATH": path},
            check=False,
        )
        assert owner.returncode == -signal.SIGKILL
        assert until(mark.exists)
        assert until(lambda: not naming(f"{temporary}/lllm-"), 20.0)
    finally:
        for pid in naming(str(temporary)):
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(temporary)], check=True)


@pytest.mark.parametrize(("tier", "warm"), TIERS)
def test_cells_import_from_the_folder_and_the_start_does_not(tier: str, warm: int) -> None:
    with JupyterSession(tier=tier, required=True, warm=warm) as notebook:
        for name in ("helper", "json", "runpy", "select", "ipykernel", "traitlets"):
            notebook.put(f"{name}.py", "own = 'of the folder'")
        results = [
            notebook.run_cell(notebook.append_code_cell(source))
            for source in ("import helper; helper.own", "import json; json.dumps(1)")
        ]
        assert [result.text for result in results] == ["'of the folder'", "'1'"]


IN_A_TERMINAL = """
import os, signal, sys
from lllm.sandbox.jupyter import JupyterSession
for number in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, lambda *_: None)
notebook = JupyterSession(tier=sys.argv[1], required=True, warm=int(sys.argv[2]))
notebook.run_cell(notebook.append_code_cell("x = 5"))
for number in (signal.SIGINT, signal.SIGQUIT):
    os.killpg(0, number)
print(notebook.run_cell(notebook.append_code_cell("__import__('time').sleep(0.3); x")).text)
notebook.close()
"""


@pytest.mark.parametrize(("tier", "warm"), TIERS)
def test_a_signal_from_the_terminal_is_lllms_alone(tier: str, warm: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, tier, str(warm)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.stdout == "5\n", done.stdout + done.stderr


@needs_namespace
@pytest.mark.parametrize("warm", [0, 1])
def test_a_start_sweeps_what_a_dead_owner_left(
    warm: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="m"))
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        dead = folders.make()
        owner = json.loads((dead / "owner.json").read_text())
        (dead / "owner.json").write_text(json.dumps({**owner, "began": 1}))
        limits = Limits(start_seconds=21.0 + warm)  # a pool of its own
        with JupyterSession(tier="namespace", required=True, warm=warm, limits=limits) as notebook:
            assert notebook.run_cell(notebook.append_code_cell("1"))
            assert not dead.exists()
        if warm:
            pool = pool_of(choose("namespace").launch, warm, limits, (), forks=True)
            asyncio.run(host().call(pool.close()))
    finally:
        subprocess.run(["rm", "-rf", str(temporary)], check=True)


def naming(text: str) -> list[int]:
    """Processes with a text in their command line."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                if text.encode() in Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize(("tier", "warm"), TIERS)
def test_all_have_ended_when_close_returns(tier: str, warm: int) -> None:
    mark = f"m{os.urandom(4).hex()}"
    with JupyterSession(tier=tier, required=True, warm=warm) as notebook:
        assert notebook.run_cell(notebook.append_code_cell(SURVIVE.format(mark=mark)))
        assert until(lambda: len(marked(mark)) == 2)
        notebook.restart()
        assert marked(mark) == []


@pytest.mark.parametrize("tier", [pytest.param("namespace", marks=needs_namespace), "process"])
def test_what_cannot_start_says_why(tier: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "work").mkdir()
    process = probe.LAUNCHES[tier](tmp_path / "s", tmp_path / "work", Limits(), ["/no/such/program"])
    try:
        assert until(lambda: process.code() is not None)
        assert process.code() != 0
        assert "No such file" in process.said()
    finally:
        process.kill()


def test_supervisor_that_is_killed_takes_its_kernel_along(tmp_path: Path) -> None:
    mark = f"m{os.urandom(4).hex()}"
    (tmp_path / "s").mkdir()
    (tmp_path / "work").mkdir()
    argv = [sys.executable, "-S", "-c", "import time; time.sleep(1000)", mark]
    process = probe.LAUNCHES["process"](tmp_path / "s", tmp_path / "work", Limits(), argv)
    assert until(lambda: marked(mark))
    os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: not marked(mark))
    process.kill()


def test_supervisor_hears_lllm_however_many_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from lllm.sandbox.isolation import supervisor

    woken: list[int] = []
    ids = iter(range(1, 10**6))
    monkeypatch.setattr(os, "waitpid", lambda *_: (next(ids), 0))
    monkeypatch.setattr(os, "kill", lambda pid, number: woken.append(number))
    assert len(supervisor._reaped()) < 10**4
    assert woken == [signal.SIGCHLD]


def test_tiers_record_what_was_reached() -> None:
    assert json.loads(json.dumps(choose().record()))["tier"] in ("namespace", "process")
