"""The program that starts a kernel of the tier `process`, and with which all processes of that kernel end.

It runs with `-I -S` and without lllm, and is the parent also of processes whose own parent has died. Its first line of input
is a job (see `process.py`); when its input ends, because lllm wants so or has died, it kills all that it started. Where it
is root, they belong to another user; else, where Landlock has scopes, they cannot signal it. It ends with the status of the
kernel, as a shell gives it; before, it prints an error with which the kernel could not be started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import landlock  # type: ignore[import-not-found, unused-ignore]
import rights  # type: ignore[import-not-found, unused-ignore]


def main() -> int:
    """Runs a job."""
    rights.prctl(rights.DEATH_SIGNAL, signal.SIGTERM)
    rights.prctl(rights.SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows must be seen by select
        data = os.read(0, 65536)
        if not data:
            return int(rights.FAILED)
        line += data
    job = json.loads(line)
    if job["landlock"] >= landlock.SCOPES_FROM:
        # so that `kill(-1)` reaches all of the kernel's processes at once and no others
        rights.prctl(rights.NO_NEW_PRIVILEGES, 1)
        landlock.restrict_signals()
    kernel = _start(job)
    status: int = rights.FAILED if kernel is None else _wait(kernel, wake)
    _kill_all(job)
    return status


def _start(job: dict[str, Any]) -> int | None:
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(job, parent)
        except BaseException as problem:
            os.write(write, str(problem).encode())
        finally:
            os._exit(rights.FAILED)
    os.close(write)
    error = os.read(read, 4000)
    os.close(read)
    if not error:
        return pid
    os.write(1, error + b"\n")
    return None


def _become(job: dict[str, Any], parent: int) -> None:
    """Makes this process the kernel."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    rights.limit(job["limits"])
    if job["user"] is not None:
        rights.switch(job["user"], read_all=job["read_all"])
    elif os.geteuid() == 0:
        rights.bound(0)
        rights.capable(0)
    rights.prctl(rights.NO_NEW_PRIVILEGES, 1)
    rights.prctl(rights.DEATH_SIGNAL, signal.SIGKILL)  # a change of user has undone it
    if os.getppid() != parent:
        raise OSError("the supervisor has died")
    os.chdir(job["folder"])
    if job["landlock"]:
        landlock.restrict(job["read"], job["write"], version=job["landlock"])
    if job["filter"]:
        rights.filter_calls(bytes.fromhex(job["filter"]))
    os.execve(job["argv"][0], job["argv"], job["environment"])


def _wait(kernel: int, wake: int) -> int:
    """Waits until the kernel ends or the input does. Returns its exit status."""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 4096):
            return 128 + signal.SIGKILL
        if wake in ready and signal.SIGTERM in os.read(wake, 4096):
            return 128 + signal.SIGKILL
        for pid, status in _reaped():
            if pid == kernel:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _reaped() -> list[tuple[int, int]]:
    """Some of those that have ended. Others may end as fast as they are asked for: `_wait` is woken for these again."""
    found: list[tuple[int, int]] = []
    while len(found) < 1000:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))
    os.kill(os.getpid(), signal.SIGCHLD)
    return found


def _kill_all(job: dict[str, Any]) -> None:
    """Kills until no child is left. Those whose parent has died are children of this process."""
    while True:
        if job["landlock"] >= landlock.SCOPES_FROM:
            _signal(-1)
        elif job["user"] is not None:
            _kill_user(job["user"])
        for pid in _children(os.getpid()):
            _signal(pid)
        _reaped()
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.001)
        except ChildProcessError:
            return


def _kill_user(user: int) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _children(pid: int) -> list[int]:
    """All processes below one. Each is killed: those that a thread has started become children of this process then."""
    found = [pid]
    for above in found:
        try:
            with open(f"/proc/{above}/task/{above}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            continue
    return found[1:]


def _signal(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
