"""What lllm sees of a sandbox from outside, and how it puts its folder back."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import SandboxError
from lllm.sandbox import removal, snapshot
from lllm.sandbox.isolation import seccomp, tree, users
from lllm.sandbox.jupyter import JupyterSession
from lllm.sandbox.limits import MIB, Limits
from lllm.sandbox.usage import Oversized
from lllm.sandbox.watch import Watch
from lllm.sandbox.workspace import FEW, KEPT, Workspace


class Seen:
    """Processes that somebody else has started. See `lllm.sandbox.kernel.Process`."""

    in_memory: tuple[str, ...] = ()

    def __init__(self, pid: int, code: int | None = None) -> None:
        self.pid = pid
        self._code = code

    def code(self) -> int | None:
        return self._code

    def said(self) -> str:
        return ""

    def kill(self) -> None: ...


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(tmp_path / "work")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "new").write_text("x"),
        lambda root: (root / "in" / "file").write_text("y"),
        lambda root: (root / "in" / "file").unlink(),
        lambda root: (root / "file").unlink(),
        lambda root: (root / "in" / "file").rename(root / "other"),
        lambda root: (root / "file").chmod(0o755),
        lambda root: (root / "link").symlink_to("file"),
        lambda root: (root / "empty").mkdir(),
        lambda root: [(root / f"{n}").mkdir() for n in range(FEW)],
    ],
)
def test_every_change_is_seen(work: Workspace, change: Callable[[Path], object]) -> None:
    for path in ("in/file", "file"):
        work.write(path, b"x")
    for _ in range(2):
        assert work.is_unchanged(Limits())
    change(work.root)
    for _ in range(2):  # as long as nobody has looked what it is
        assert not work.is_unchanged(Limits())
    work.changes()
    assert work.is_unchanged(Limits()) == (len(list(work.root.iterdir())) < FEW)


def test_undo_puts_back_what_is_known(work: Workspace) -> None:
    work.write("in/put.txt", b"put")
    (work.root / "cell.txt").write_text("of a cell")
    (work.root / "gone.txt").write_text("of a cell")
    (work.root / "empty").mkdir()
    (work.root / "link").symlink_to("cell.txt")
    large = work.root / "large.bin"
    large.write_bytes(bytes(KEPT + 1))
    work.changes()

    (work.root / "in" / "put.txt").write_text("changed")
    (work.root / "cell.txt").write_text("changed")
    (work.root / "gone.txt").unlink()
    (work.root / "new" / "deep").mkdir(parents=True)
    (work.root / "new" / "deep" / "file").write_text("x")
    (work.root / "other").symlink_to("/etc/passwd")
    os.mkfifo(work.root / "pipe")
    large.write_bytes(bytes(KEPT + 2))

    assert work.undo() == ["large.bin"]
    assert sorted(path.name for path in work.root.iterdir()) == [
        "cell.txt",
        "empty",
        "gone.txt",
        "in",
        "link",
    ]
    assert (work.root / "in" / "put.txt").read_text() == "put"
    assert (work.root / "cell.txt").read_text() == "of a cell"
    assert work.changes() == ({}, ["large.bin"], {}, [], [])
    assert work.changes() == ({}, [], {}, [], [])


def test_changes_of_an_oversized_folder_are_not_taken(work: Workspace) -> None:
    work.write("kept.txt", b"kept")
    work.look()
    limits = Limits(disk_bytes=MIB, inodes=20)
    (work.root / "kept.txt").write_text("changed")
    (work.root / "new").mkdir()
    for fill in (_hole, _many, _deep):
        fill(work.root / "new")
        with pytest.raises(Oversized):
            work.changes(limits)
        assert work.undo() == []
        assert os.listdir(work.root) == ["kept.txt"]
        assert (work.root / "kept.txt").read_text() == "kept"
        assert not any(work.changes(limits))


def _hole(folder: Path) -> None:
    with (folder / "hole").open("wb") as file:
        file.truncate(2**40)


def _many(folder: Path) -> None:
    folder.mkdir()
    for number in range(30):
        (folder / str(number)).mkdir()


def _deep(folder: Path) -> None:
    (folder / "/".join("d" * 45)).mkdir(parents=True)


def test_files_that_grow_while_they_are_read(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    take = snapshot.take

    def then_grows(*args: Any) -> snapshot.Snapshot:
        found = take(*args)
        (work.root / "file").write_bytes(bytes(2 * MIB))
        return found

    (work.root / "file").write_bytes(b"x")
    monkeypatch.setattr(snapshot, "take", then_grows)
    with pytest.raises(Oversized, match="grew"):
        work.changes(Limits(disk_bytes=MIB))


@pytest.mark.parametrize("instead", ["nothing", "a link", "a file"])
def test_undo_of_a_folder_that_is_gone(work: Workspace, instead: str) -> None:
    work.write("kept.txt", b"kept")
    work.look()
    shutil.rmtree(work.root)
    if instead == "a link":
        work.root.symlink_to("/")
    elif instead == "a file":
        work.root.write_text("x")
    assert work.undo() == []
    assert os.listdir(work.root) == ["kept.txt"]


def test_removal_of_deep_and_closed_folders(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):  # paths longer than any that can be opened, deeper than Python recurses
        os.mkdir("folder", dir_fd=here)
        os.symlink(tmp_path / "outside", "link", dir_fd=here)
        inner = os.open("folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    for number in range(3):
        (top / f".removed-{number}").mkdir()
        (top / f".removed-{number}" / "x").write_text("x")
    (top / "closed" / "inner").mkdir(parents=True)
    (top / "closed" / "inner").chmod(0)
    (top / "closed").chmod(0)
    removal.remove(str(top))
    assert not top.exists()
    assert (tmp_path / "outside" / "file").exists()


def test_usage_counts_what_is_hidden(work: Workspace) -> None:
    (work.root / "hidden").mkdir()
    (work.root / "hidden" / "file").write_bytes(bytes(MIB))
    (work.root / os.fsdecode(b"\xff")).write_bytes(bytes(MIB))
    (work.root / "hidden").chmod(0)
    used = work.usage(100)
    assert used.bytes >= 2 * MIB
    assert used.inodes == 3
    at = work.root
    for _ in range(45):
        at = at / "d"
        at.mkdir()
    assert work.usage(100).too_deep


def test_files_are_put_through_no_link_and_into_no_pipe(work: Workspace, tmp_path: Path) -> None:
    (work.root / "link").symlink_to(tmp_path)
    os.mkfifo(work.root / "pipe")
    with pytest.raises(SandboxError):
        work.write("link/file", b"x")
    work.write("pipe", b"x")
    assert not (tmp_path / "file").exists()
    assert stat.S_ISREG(os.lstat(work.root / "pipe").st_mode)


SLEEPS = """
import os, sys, threading, time
threads = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(3)]
[thread.start() for thread in threads]
x = bytearray(64 * 2**20); x[::4096] = b"1" * len(x[::4096])
def fork(): os.fork() or time.sleep(1000)
thread = threading.Thread(target=fork); thread.start()
f = open(sys.argv[1] + "/gone", "wb", buffering=0); f.write(bytes(2**20)); os.unlink(f.name)
m = os.memfd_create("x"); os.write(m, bytes(2**20))
print("ready", flush=True); time.sleep(1000)
"""


def test_tree_sees_children_of_threads_and_files_without_names(work: Workspace) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-S", "-c", SLEEPS, str(work.root)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        parent.stdout.readline()
        end = time.monotonic() + 30
        while len(pids := tree.below(parent.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(pids) == 2
        assert tree.tasks(pids) == 5
        held = tree.held(pids, work.root.stat().st_dev)
        assert held.disk == MIB  # once, though both have it
        assert held.memory >= MIB
        alone = tree.resident(pids[:1], 2**40, 0)
        assert alone >= 64 * MIB
        assert tree.resident(pids, 2**40, 0) >= 120 * MIB  # counted for each
        assert tree.resident(pids, 80 * MIB, 0) < 110 * MIB  # shared pages counted once
        assert Watch(Seen(parent.pid), [work], Limits()).look() is None
        found = Watch(Seen(os.getpid()), [work], Limits(disk_bytes=1000)).look()
        assert found is not None
        assert found.status == "disk"
        few = Limits(memory_bytes=1, disk_bytes=1, processes=1)
        assert Watch(Seen(os.getpid(), code=0), [work], few).look() is None  # its id is somebody else's
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


def test_memory_that_is_swapped_out_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    status = "Name:\tx\nRssAnon:\t  1000 kB\nRssFile:\t 500 kB\nRssShmem:\t 0 kB\nVmSwap:\t 4000 kB\n"
    shares = (
        "Rss: 1500 kB\nPss_Anon: 600 kB\nPss_File: 500 kB\nPss_Shmem: 0 kB\nSwap: 4000 kB\nSwapPss: 2000 kB\n"
    )
    monkeypatch.setattr(tree, "_read", lambda file: shares if file.endswith("smaps_rollup") else status)
    assert tree.resident([1, 2], 2**30, 0) == 2 * 5000 * 1024
    assert tree.resident([1, 2], 1024, 0) == 2 * 2600 * 1024


def test_a_folder_that_cannot_be_looked_at_ends_the_sandbox(work: Workspace) -> None:
    work.root.rmdir()
    found = Watch(Seen(os.getpid()), [work], Limits()).look()
    assert found is not None
    assert found.status == "disk"


WAITS = """
import os, threading, time
def wait():
    open('begun', 'w').close()
    while os.path.exists('begun'): time.sleep(0.01)
"""
REMOVED = {
    "by the cell": "wait()",
    "by the cell, which ends its kernel": "wait(); os._exit(3)",
    "after the cell": "threading.Thread(target=lambda: wait() or os._exit(3)).start()",
}


@pytest.mark.parametrize("instead", ["nothing", "link"])
@pytest.mark.parametrize("source", REMOVED.values(), ids=REMOVED)
def test_a_folder_that_was_removed_before_anybody_looked(
    source: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "look", lambda _: None)
    with JupyterSession() as notebook:
        notebook.run_cell(notebook.append_code_cell("open('kept.txt', 'w').write('kept')"))
        engine = notebook._engine
        assert engine is not None
        root = engine.files.root

        def remove() -> None:  # a sandbox of root may not; one of a user without namespaces can
            while not (root / "begun").exists():
                time.sleep(0.01)
            root.rename(root.with_name("gone"))
            if instead == "link":
                root.symlink_to("/usr")
            shutil.rmtree(root.with_name("gone"))

        remover = threading.Thread(target=remove)
        remover.start()
        gone = notebook.run_cell(notebook.append_code_cell(WAITS + source))
        remover.join()
        while engine.alive:
            time.sleep(0.01)
        after = notebook.run_cell(notebook.append_code_cell("print(open('kept.txt').read())"))
        assert after.status == "ok"
        assert after.text.endswith("kept")
        assert "files are as they were before the cell" in gone.note + after.before


def test_what_a_cell_has_left_running_is_watched_too() -> None:
    with JupyterSession(limits={"disk_bytes": 8 * MIB}) as notebook:
        code = "import subprocess; subprocess.Popen('sleep 0.3; head -c 20000000 /dev/zero >late; sleep 100', shell=True)"
        assert notebook.run_cell(notebook.append_code_cell("open('kept.txt', 'w').write('x')\n" + code))
        engine = notebook._engine
        assert engine is not None
        end = time.monotonic() + 60
        while engine.alive and time.monotonic() < end:
            time.sleep(0.02)
        result = notebook.run_cell(notebook.append_code_cell("import os; os.listdir()"))
        assert "['kept.txt']" in result.text
        assert "more than its 8,388,608 bytes" in result.text


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("alone", [False, True])
def test_filters(machine: str, alone: bool) -> None:
    program = seccomp.program(machine, alone=alone)
    assert program is not None
    assert len(program) % 8 == 0
    assert len(program) // 8 < 255


def test_no_filter_for_other_machines() -> None:
    assert seccomp.program("riscv64") is None


@pytest.mark.skipif(not users.may_switch(), reason="only root gives files away")
def test_a_file_with_another_name_elsewhere_is_not_given_away(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "work").mkdir()
    os.link(tmp_path / "secret", tmp_path / "work" / "hard")
    (tmp_path / "work" / "mine").write_text("x")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "secret")
    user = users.take(tmp_path / "work")
    try:
        assert (tmp_path / "secret").stat().st_uid == 0
        assert (tmp_path / "work" / "mine").stat().st_uid == user.id
        assert users._take(user.id) is None
    finally:
        user.free()
    again = users.take(tmp_path / "work")
    assert again.id == user.id
    again.free()


@pytest.mark.skipif(not users.may_switch(), reason="only root takes other users")
def test_ids_cannot_be_taken_by_code_in_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "RANGE", range(61_190, 61_193))
    monkeypatch.setattr(users, "LOCKS", (str(tmp_path),))
    names = [socket.socket(socket.AF_UNIX) for _ in users.RANGE]
    for id, name in zip(users.RANGE, names, strict=True):
        name.bind(b"\0lllm-sandbox-user-%d" % id)  # what anybody can bind
    taken = [users._fresh() for _ in users.RANGE]
    assert {user.id for user in taken} == {*users.RANGE}
    with pytest.raises(SandboxError, match="no id is free"):
        users._fresh()
    code = "from lllm.sandbox.isolation import users; print(users._take(61_191), users._take(61_195) is not None)"
    code = code.replace("users;", f"users; users.LOCKS = ({str(tmp_path)!r},);")
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run().stdout.split() == ["None", "True"]
    for one in (*taken, *names):
        one.free() if isinstance(one, users.User) else one.close()
    assert "None" not in run().stdout
    file = tmp_path / "lllm-users"
    assert file.stat().st_mode & 0o777 == 0o600
    for change in (lambda: file.chmod(0o666), lambda: (file.unlink(), file.symlink_to("/etc/passwd"))):
        change()
        with pytest.raises(SandboxError, match="lllm-users"):
            users._fresh()
