"""The tier `namespace`, quickly: kernels are forked from a `zygote`, which has imported what they import.

The zygote runs within bubblewrap, in the same view of the machine as any kernel of this tier; what it forks gets namespaces of
its own within that. One zygote serves a process of lllm and its limits of memory; it ends with the process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lllm.errors import SandboxBroken
from lllm.sandbox.isolation import command, namespace, seccomp, users
from lllm.sandbox.kernel import Process, ZygoteEnded
from lllm.sandbox.limits import MIB, Limits

HERE: Final = "/run/lllm"
"""Where the zygote's own program is seen inside."""

AWAY: Final = "/away"
SECONDS: Final = 30.0
"""Time limit for the start of a zygote, and of a kernel."""
RIGHTS: Final = ("SYS_ADMIN", "NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "DAC_OVERRIDE")
"""Of a zygote that lllm starts as root; no kernel has any."""


class Zygote:
    """A zygote.

    Args:
        pool: the folder below which the folders of its kernels are.
        modules: further modules that they begin with.

    It is started in the thread that makes it, and ends with that.
    """

    def __init__(self, pool: Path, modules: Sequence[str] = ()) -> None:
        self.pool = pool
        self._lock = threading.Lock()
        self._control, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = _start(pool, inside)
        finally:
            inside.close()
        self._control.settimeout(SECONDS)
        self._modules = list(modules)

    def ready(self) -> None:
        """Waits until it has imported all. Raises SandboxBroken where it does not start."""
        try:
            self._control.send(json.dumps({"modules": self._modules}).encode())
            said = self._control.recv(100)
        except OSError as error:
            said = str(error).encode()
        if said != b"ready":
            why = self._said()
            self.close()
            raise SandboxBroken(f"the process from which kernels are forked did not start: {why}")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def launch(self, sockets: Path, folder: Path, limits: Limits) -> Process:
        """Starts a kernel. Both folders are below `pool`. Raises ZygoteEnded where none can be forked any more: the folders
        are as good for another zygote, or for a kernel that is started. Raises SandboxBroken where it does not start."""
        user = users.take(folder) if users.may_switch() else None
        if user is not None:
            users.give(sockets, user.id)
        folder.chmod(0o700)  # code inside may have changed it
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listening.settimeout(SECONDS)
            listening.bind(f"{sockets}/up")
            os.chmod(f"{sockets}/up", 0o666)
            listening.listen(4)
            with self._lock:
                self._control.send(json.dumps(_job(self.pool, sockets, folder, limits, user)).encode())
            with self._open() as zygote:
                return _awaited(listening, zygote, user)
        except OSError as error:
            if user is not None:
                user.free()
            if not self.alive:
                raise ZygoteEnded("the process from which kernels are forked has ended") from None
            raise SandboxBroken(f"no kernel could be forked: {error}") from None
        finally:
            listening.close()
            with suppress(OSError):
                os.unlink(f"{sockets}/up")

    @contextmanager
    def _open(self) -> Iterator[int]:
        """A pidfd of it. Raises OSError where it has ended."""
        handle = os.pidfd_open(self._process.pid)
        try:
            if not self.alive:  # and its id may be somebody else's
                raise ProcessLookupError
            yield handle
        finally:
            os.close(handle)

    def close(self) -> None:
        """Ends it, and with it all of its kernels."""
        self._control.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _said(self) -> str:
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        with suppress(OSError, ValueError):
            return (self._process.stderr.read(4000) or b"").decode("utf-8", "replace").strip()
        return ""


class Forked:
    """The processes of a kernel that was forked. See `lllm.sandbox.kernel.Process`.

    Args:
        pid: of the init of its namespaces, as this process sees it. handle: a pidfd of it.
        connection: on which init says how the kernel ended.
    """

    in_memory = namespace.IN_MEMORY

    def __init__(self, pid: int, handle: int, connection: socket.socket, user: users.User | None) -> None:
        self.pid = pid
        self._handle = handle
        self._connection = connection
        self._connection.setblocking(False)
        self._user = user
        self._code: int | None = None
        self._lock = threading.Lock()

    def code(self) -> int | None:
        """See `Process`."""
        with self._lock:
            if self._code is None and self._ended(0):
                self._code = self._status()
            return self._code

    def said(self) -> str:
        """See `Process`."""
        return ""

    def kill(self) -> None:
        """See `Process`."""
        with self._lock:
            if self._handle < 0:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self._ended(5_000)
            if self._code is None:
                self._code = self._status()
            os.close(self._handle)
            self._handle = -1
            self._connection.close()
            if self._user is not None:
                self._user.kill()
                self._user.free()
                self._user = None

    def _ended(self, milliseconds: int) -> bool:
        if self._handle < 0:
            return True
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def _status(self) -> int:
        with suppress(OSError, ValueError):
            said = self._connection.recv(100)
            if said.startswith(b"X"):
                return int(said[1:])
        return -signal.SIGKILL


def _awaited(listening: socket.socket, zygote: int, user: users.User | None) -> Forked:
    """The kernel that says here that it is ready. `zygote`: a pidfd of what forks it. Raises OSError."""
    forked: Forked | None = None
    try:
        while True:
            poll = select.poll()
            for one in (listening.fileno(), zygote):
                poll.register(one, select.POLLIN)
            if not any(ready == listening.fileno() for ready, _ in poll.poll(SECONDS * 1000)):
                raise OSError("it did not come to be")
            connection, _ = listening.accept()
            connection.settimeout(SECONDS)
            said = connection.recv(4_000).decode("utf-8", "replace")
            if said == "I" and forked is None:
                pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                forked = Forked(pid, os.pidfd_open(pid), connection, user)
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    connection.recv(1, socket.MSG_PEEK)
                    raise OSError("it ended before it was ready")  # and its id may be somebody else's by now
                continue
            connection.close()
            if said == "R" and forked is not None:
                return forked
            raise OSError(said[1:] or "it ended before it was ready")
    except BaseException:
        if forked is not None:
            forked.kill()
        raise


def _start(pool: Path, inside: socket.socket) -> subprocess.Popen[bytes]:
    root = users.may_switch()
    limits = Limits()
    options = namespace.outside(limits, None)
    drop = options.index("--unshare-user")
    del options[drop : drop + 2]  # it makes further namespaces
    if root:
        del options[options.index("--uid") : options.index("--uid") + 4]
        options += [part for name in RIGHTS for part in ("--cap-add", f"CAP_{name}")]
    else:
        options += ["--unshare-user"]
    variables = {**command.environment("/tmp", "/tmp"), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for name, value in variables.items():
        options += ["--setenv", name, value]
    options += ["--dir", namespace.WORKSPACE, "--ro-bind", str(Path(__file__).parent), HERE]
    for number in range(1 + len(_covered(pool))):
        options += ["--dir", f"{AWAY}/{number}"]
    options += [
        *namespace.parent_folders(pool),
        "--bind",
        str(pool),
        str(pool),
        "--chdir",
        "/",
        "--remount-ro",
        "/",
    ]
    import sys

    argv = ["bwrap", *options, "--", sys.executable, f"{HERE}/zygote.py", str(inside.fileno())]
    return subprocess.Popen(
        argv,
        env={},
        executable=_program(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[inside.fileno()],
        cwd="/",
        start_new_session=True,
    )


def _program() -> str:
    import shutil

    return shutil.which("bwrap") or "bwrap"


def _covered(pool: Path) -> list[str]:
    """Folders of the interpreter that stand where a kernel has a file system of its own."""
    places = (*namespace.IN_MEMORY, str(pool))
    return [str(path) for path in command.folders_of_python() if any(map(path.is_relative_to, places))]


def _job(pool: Path, sockets: Path, folder: Path, limits: Limits, user: users.User | None) -> dict[str, Any]:
    filter = seccomp.program()
    memory = (
        ("/tmp", limits.temp_bytes, "1777"),
        ("/dev/shm", 64 * MIB, "1777"),
        (namespace.HOME, 16 * MIB, "1777"),
    )
    return {
        "pool": str(pool),
        "sockets": str(sockets),
        "workspace": str(folder),
        "inside": namespace.WORKSPACE,
        "kept": _covered(pool),
        "memory": memory,
        "user": None if user is None else user.id,
        "environment": command.environment(namespace.HOME, "/tmp"),
        "limits": namespace.resources(limits, user),
        "filter": filter.hex() if filter else "",
        "options": command.options(sockets),
    }
