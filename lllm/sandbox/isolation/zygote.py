"""The program from which kernels of the tier `namespace` are forked: all that a kernel imports is imported already.

It runs within bubblewrap, in a copy of what a kernel sees, and without lllm. Its one argument is the number of a socket, on
which each message is a job. For each it forks twice: the first process makes namespaces of its own, with its own folders,
network, processes and users, and is the init of them; the second is the kernel, which has no rights left. Code of a model runs
in neither this process nor the first one.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import rights  # type: ignore[import-not-found, unused-ignore]

_LIBC = ctypes.CDLL(None, use_errno=True)
_NAMESPACES = (
    0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
)  # NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET
_NEW_USER = 0x10000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _REMOUNT = 1, 2, 4, 32
_BIND, _MOVE, _ALL, _PRIVATE = 4096, 8192, 16384, 1 << 18
_USED = {
    "matplotlib.pyplot": """
import matplotlib.pyplot
from IPython.core.pylabtools import print_figure
figure = matplotlib.pyplot.figure()
matplotlib.pyplot.plot([1, 2])
print_figure(figure, "png")
""",
}
"""Code that uses a module once: it imports more when it is used."""
_AWAY = "/away"
"""A folder with folders `0`, `1` and so on, in which mounts stand for a moment: bubblewrap makes them."""


def main() -> None:
    """Serves jobs until the socket is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    first = json.loads(control.recv(1 << 20))
    _preload(first["modules"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while data := control.recv(1 << 20):
        job = json.loads(data)
        if os.fork() == 0:
            control.close()
            try:
                _become(job)
            except BaseException as problem:  # whatever it is: nobody else sees it
                _say(job, f"E{type(problem).__name__}: {problem}")
            finally:
                os._exit(rights.FAILED)


def _preload(modules: list[str]) -> None:
    """Imports what a kernel will, which a child that becomes one finds out."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _rehearse(modules, write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode().split("\n")
    os.waitpid(pid, 0)
    for name in [*found, *modules]:
        if name and name not in sys.modules and name != "__main__":
            try:
                importlib.import_module(name)
            except Exception as problem:  # some are made by others when they are imported
                if name in modules:
                    raise ImportError(f"the module '{name}', which kernels begin with: {problem}") from None


def _rehearse(modules: list[str], write: int) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.environ.update(HOME="/tmp", IPYTHONDIR="/tmp/i", JUPYTER_RUNTIME_DIR="/tmp/r")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    app = IPKernelApp.instance()
    app.initialize(["-f", "/tmp/rehearsal.json", "--HistoryManager.enabled=False", "--transport=ipc"])
    for name in modules:
        with suppress(Exception):  # it is said where the zygote imports it
            importlib.import_module(name)
            exec(_USED.get(name, ""), {})  # noqa: S102  our own code
    os.write(write, "\n".join(sys.modules).encode())


def _become(job: dict[str, Any]) -> None:
    """Makes this process the parent of an init with namespaces of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    user = job["user"]
    if user is None:
        ids = os.getuid(), os.getgid()
        _call("unshare", _LIBC.unshare(_NAMESPACES | _NEW_USER))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{ids[0]} {ids[0]} 1"),
            ("gid_map", f"{ids[1]} {ids[1]} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    else:
        _call("unshare", _LIBC.unshare(_NAMESPACES))
    pid = os.fork()
    if pid != 0:
        os._exit(0)  # init lives on: its parent is the zygote's init
    _init(job)


def _init(job: dict[str, Any]) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # what is inside reaches an init only where that has a handler
    up, ready = _say(job, "I"), _connect(job)
    try:
        _folders(job)
        _loopback()
        socket.sethostname("sandbox")
        kernel = os.fork()
        if kernel == 0:
            up.close()
            _kernel(job, ready)
    except BaseException as problem:
        ready.send(f"E{type(problem).__name__}: {problem}".encode())
        os._exit(rights.FAILED)
    ready.close()
    while True:
        pid, status = os.wait()
        if pid == kernel:
            code = os.waitstatus_to_exitcode(status)
            up.send(f"X{code}".encode())
            os._exit(0)  # all others end with their init


def _folders(job: dict[str, Any]) -> None:
    """The view of a kernel: its own folders at the places that all kernels have, and nothing of the others'."""
    _mount(None, "/", None, _ALL | _PRIVATE)
    _mount("proc", "/proc", "proc", _NO_SUID | _NO_DEVICES)
    _mount(
        "devpts", "/dev/pts", "devpts", _NO_SUID, "newinstance,ptmxmode=0666,mode=620"
    )  # no terminals of others
    kept = [job["sockets"], *job["kept"]]
    for number, path in enumerate(kept):
        _bind(path, f"{_AWAY}/{number}", 0 if number == 0 else _READ_ONLY)
    _bind(job["workspace"], job["inside"])
    _mount("tmpfs", job["pool"], "tmpfs", _NO_SUID | _NO_DEVICES, "size=65536,mode=755")
    for path, size, mode in job["memory"]:  # perhaps with the pool below
        _mount("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEVICES, f"size={size},mode={mode}")
    for number, path in enumerate(kept):
        os.makedirs(path, exist_ok=True)
        _mount(f"{_AWAY}/{number}", path, None, _MOVE)


def _kernel(job: dict[str, Any], ready: socket.socket) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.dont_write_bytecode = True  # as PYTHONDONTWRITEBYTECODE, which is read when Python starts
    rights.limit(job["limits"])
    if job["user"] is not None:
        rights.switch(job["user"], read_all=False)
    else:
        rights.bound(0)
        rights.capable(0)
    rights.prctl(rights.NO_NEW_PRIVILEGES, 1)
    rights.prctl(rights.DUMPABLE, 1)  # a change of user has undone it, and /proc/self would be root's
    os.chdir(job["inside"])
    if job["filter"]:
        rights.filter_calls(bytes.fromhex(job["filter"]))
    sys.argv = ["ipykernel_launcher", *job["options"]]
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    for name in ("rights",):
        sys.modules.pop(name, None)
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()  # or all kernels had the same numbers; `random` sees to that by itself
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize(list(job["options"]))
    gc.unfreeze()
    ready.send(b"R")
    ready.close()
    app.start()
    os._exit(0)


def _connect(job: dict[str, Any]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f"{job['sockets']}/up")
    return connection


def _say(job: dict[str, Any], text: str) -> socket.socket:
    """Tells lllm, which sees by the connection which process this is."""
    connection = _connect(job)
    connection.send(text.encode())
    return connection


def _loopback() -> None:
    """Brings the network of the sandbox up: it leads to itself alone. See netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 1 | 64)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def _bind(source: str, target: str, flags: int = 0) -> None:
    _mount(source, target, None, _BIND)
    _mount(None, target, None, _BIND | _REMOUNT | _NO_SUID | _NO_DEVICES | flags)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    values = [None if text is None else text.encode() for text in (source, target, kind)]
    found = _LIBC.mount(*values, ctypes.c_ulong(flags), None if options is None else options.encode())
    _call(f"mount {target}", found)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
