"""The tier `process`: a kernel as a process of this machine, where namespaces are not allowed.

It runs in a session of its own, with limits, a scrubbed environment, and its own home and temporary folder; a `supervisor`
kills all that it started when it ends, and when lllm does. A filter of system calls leaves it no socket but those of its
folder, so that it has no network. Landlock, where the machine has it, bounds what it opens and signals. Where lllm is root,
the kernel runs as a user of its own.

What a namespace would stop and this tier does not is in OPEN.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from lllm.errors import SandboxUnavailable
from lllm.sandbox.isolation import command, landlock, seccomp, users
from lllm.sandbox.kernel import Process
from lllm.sandbox.limits import Limits

OPEN: Final = {
    "names": "whether a file elsewhere exists, its size and its times can be seen",
    "modes": "modes and times of files of the same user can be changed",
    "priority": "processes of the same user can be given a lower priority",
    "files": "files that the user may read or write, and environments of the user's processes",
    "signals": "signals to processes of the same user",
    "network": "the network, unix sockets of other programs, and all system calls",
}
"""What this tier may leave open, depending on the machine."""

DEVICES: Final = ("null", "zero", "full", "random", "urandom")
PROC: Final = (
    "cpuinfo",
    "meminfo",
    "stat",
    "uptime",
    "loadavg",
    "version",
    "filesystems",
    "sys/kernel",
    "sys/vm",
    "self",
)
"""What is read below /proc. Of the folders of processes only the kernel's own is: command lines may hold secrets."""

STOP_SECONDS: Final = 10.0


class Way(NamedTuple):
    """What this machine has for the tier.

    Attributes:
        user: whether the kernel runs as a user of its own.
        read_all: whether that user needs the right to read all files, which Landlock then bounds: the interpreter is in a
            folder that only root may enter.
        landlock: its version, 0 for none.
        filter: whether there is a filter of system calls.
    """

    user: bool
    read_all: bool
    landlock: int
    filter: bool

    def open(self) -> list[str]:
        """What code could still do."""
        rows = {
            "names": True,
            "modes": not self.user,
            "priority": not self.user,
            "files": not self.landlock,
            "signals": self.landlock < landlock.SCOPES_FROM and not self.user,
            "network": not self.filter,
        }
        return [words for row, words in OPEN.items() if rows[row]]


@cache
def way() -> Way:
    """How the tier is done here. Raises SandboxUnavailable where it is not."""
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(
            "the sandbox of tier 'process' needs Linux",
            hint="On Windows use WSL2, elsewhere a virtual machine.",
        )
    version, root = landlock.version(), users.may_switch()
    read_all = root and not all(_reachable(folder) for folder in command.folders_of_python())
    if read_all and not version:
        raise SandboxUnavailable(
            f"the sandbox of tier 'process' cannot run as another user: only root may enter '{sys.prefix}' or "
            f"'{sys.base_prefix}', and this machine has no Landlock",
            hint="Install Python where others may read it, or run lllm as a user other than root.",
        )
    return Way(root, read_all, version, seccomp.program() is not None)


def _reachable(folder: Path) -> bool:
    """Whether every user may read it."""
    modes = [path.stat().st_mode for path in (folder, *folder.parents)]
    return bool(modes[0] & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in modes)


class Supervised:
    """A supervisor that runs, and the kernel that it started. See `lllm.sandbox.kernel.Process`."""

    in_memory = ()

    def __init__(self, popen: subprocess.Popen[bytes], user: users.User | None) -> None:
        self._popen = popen
        self._user = user
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._popen.pid

    def code(self) -> int | None:
        """See `Process`."""
        return self._popen.poll()

    def said(self) -> str:
        """See `Process`."""
        stream = self._popen.stdout
        if stream is None or stream.closed or self._popen.poll() is None:
            return ""
        return stream.read(4000).decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """See `Process`."""
        popen = self._popen
        assert popen.stdin is not None
        assert popen.stdout is not None
        with self._lock:
            with suppress(OSError):
                popen.stdin.close()
            try:
                popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
            popen.stdout.close()
            if self._user is not None:
                self._user.kill()
                self._user.free()
                self._user = None


def launch(sockets: Path, folder: Path, limits: Limits, argv: Sequence[str] | None = None) -> Process:
    """Starts a kernel, or another command. Raises SandboxUnavailable where this machine cannot."""
    how = way()
    home, temporary = sockets / "home", sockets / "tmp"
    for path in (home, temporary):
        path.mkdir(mode=0o700, exist_ok=True)
    user = users.take(folder) if how.user else None
    if user is not None:
        users.give(sockets, user.id)
        sockets.parent.chmod(0o711)
    folder.chmod(0o700)
    job = {
        "argv": [*(argv or _kernel(sockets, how))],
        "environment": command.environment(str(home), str(temporary)),
        "folder": str(folder),
        "limits": _limits(limits, how),
        "user": None if user is None else user.id,
        "read_all": how.read_all,
        "landlock": how.landlock,
        "read": _read(),
        "write": [*(f"/dev/{name}" for name in DEVICES), str(folder), str(sockets)],
        "filter": (seccomp.program(alone=True) or b"").hex(),
    }
    popen = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py"))],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )
    assert popen.stdin is not None
    with suppress(BrokenPipeError):
        popen.stdin.write(json.dumps(job).encode() + b"\n")
        popen.stdin.flush()
    return Supervised(popen, user)


def _kernel(sockets: Path, how: Way) -> list[str]:
    argv = command.kernel(sockets)
    if how.landlock:
        # no terminals, which `!command` would use: those of the user are among them
        argv.append("--IPKernelApp.exec_lines=get_ipython().system = get_ipython().system_raw")
    return argv


def _limits(limits: Limits, how: Way) -> dict[str, int]:
    values = command.resources(limits)
    if not how.user:
        values["NPROC"] += users.tasks(os.getuid())  # it counts all that the user runs
    return values


def _read() -> list[str]:
    from lllm.sandbox.isolation.namespace import LINKED, SYSTEM

    folders = [str(path) for path in command.folders_of_python()]
    return [*SYSTEM, *LINKED, *folders, *(f"/proc/{name}" for name in PROC)]
