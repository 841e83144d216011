"""The tier `namespace`: bubblewrap (https://github.com/containers/bubblewrap).

The kernel sees the system's programs and the interpreter, read-only; one writable folder, `/workspace`; and small file systems
in memory at `/tmp`, `/dev/shm` and its home. It has no network, its own processes, and no way to another user or namespace.

Where lllm is root, bubblewrap is too, and the kernel runs as a user of its own: the number of processes of root cannot be
limited. Else there is a user namespace, in which no further one can be made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lllm.errors import SandboxUnavailable
from lllm.sandbox.isolation import command, seccomp, users
from lllm.sandbox.isolation.bubblewrap import Bubblewrap
from lllm.sandbox.kernel import Process
from lllm.sandbox.limits import MIB, Limits

SYSTEM: Final = (
    "/usr",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/fonts",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
)
"""What is seen of the system, where it exists."""

LINKED: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""Links into `/usr`, or folders of their own on older systems."""

COUNTED_INSIDE: Final = (5, 14)
"""The version of Linux from which a limit of processes counts those of a user namespace only, and not all of the user."""

WORKSPACE: Final = "/workspace"
HOME: Final = "/home/user"
IN_MEMORY: Final = ("/tmp", "/dev/shm", HOME)
"""What is in memory, each with a size."""


def launch(sockets: Path, folder: Path, limits: Limits, argv: Sequence[str] | None = None) -> Process:
    """Starts a kernel, or another command. Raises SandboxUnavailable where bubblewrap is not installed."""
    user = users.take(folder) if users.may_switch() else None
    if user is not None:
        users.give(sockets, user.id)
    folder.chmod(0o755)  # by bubblewrap too, which has no rights left then; code inside may have changed it
    inside = [
        *command.limited(resources(limits, user)),
        *_dropped(user),
        *(argv or command.attended(sockets)),
    ]
    binds = ["--bind", str(folder), WORKSPACE, *parent_folders(sockets), "--bind", str(sockets), str(sockets)]
    try:
        return start(
            [*outside(limits, user), *binds, "--chdir", WORKSPACE, "--remount-ro", "/"], inside, user
        )
    except BaseException:
        if user is not None:
            user.free()
        raise


def resources(limits: Limits, user: users.User | None) -> dict[str, int]:
    """The limits that the operating system holds, see `command.resources`. `user`: as of `outside`."""
    values = command.resources(limits)
    if user is None and _release() < COUNTED_INSIDE:
        values["NPROC"] += users.tasks(os.getuid())
    return values


def start(options: list[str], inside: list[str], user: users.User | None) -> Process:
    """Runs a command inside."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "the sandbox of tier 'namespace' needs bubblewrap, which is not installed",
            hint="Type: sudo apt-get install bubblewrap",
        )
    variables = command.environment(HOME, "/tmp")
    options = ["--clearenv", *_each("--setenv", variables.items()), *options]
    read, write = os.pipe()
    filter = seccomp.program()
    handles = [read]
    try:
        os.write(write, b"\0".join(os.fsencode(option) for option in options) + b"\0")
    finally:
        os.close(write)
    argv = [program, "--args", str(read)]
    if filter is not None:
        found, write = os.pipe()
        os.write(write, filter)
        os.close(write)
        handles.append(found)
        argv += ["--seccomp", str(found)]
    try:
        # no variable of ours: bubblewrap's own are read in /proc/1/environ
        popen = subprocess.Popen(
            [*argv, "--", *inside],
            env={},
            stdin=subprocess.PIPE,  # it ends with this process, which may be before bubblewrap can end with it
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=handles,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal of lllm is not meant for it
        )
    finally:
        for handle in handles:
            os.close(handle)
    return Bubblewrap(popen, user, IN_MEMORY)


def outside(limits: Limits, user: users.User | None) -> list[str]:
    """The options of bubblewrap that are the same for every command. `user`: as whom it runs where lllm is root."""
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if user is None:
        options += [
            "--unshare-user",
            "--disable-userns",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--cap-drop",
            "ALL",
        ]
    else:
        options += [
            "--cap-drop",
            "ALL",
            *_each("--cap-add", (("CAP_SETUID",), ("CAP_SETGID",), ("CAP_SETPCAP",))),
        ]
    options += ["--die-with-parent", "--new-session", "--hostname", "sandbox"]
    for path in SYSTEM:
        if os.path.exists(path):
            options += [*parent_folders(Path(path)), "--ro-bind", os.path.realpath(path), path]
    for path in LINKED:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    mode = [] if user is None else ["--perms", "1777"]
    options += ["--proc", "/proc", "--dev", "/dev"]  # /dev is in memory, without a limit: it is closed below
    for path, size in (("/tmp", limits.temp_bytes), ("/dev/shm", 64 * MIB)):
        options += ["--size", str(size), "--perms", "1777", "--tmpfs", path]
    options += ["--remount-ro", "/dev"]
    options += ["--dir", "/home", "--size", str(16 * MIB), *mode, "--tmpfs", HOME]
    for folder in command.folders_of_python():
        if not any(folder.is_relative_to(path) for path in SYSTEM):
            options += [*parent_folders(folder), "--ro-bind", str(folder), str(folder)]
    return options


def _release() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, found.groups())) if found else (0, 0)


def _dropped(user: users.User | None) -> list[str]:
    """What becomes another user, for good, and then the command that follows. `setpriv` is of util-linux."""
    if user is None:
        return []
    ids = ["--reuid", str(user.id), "--regid", str(user.id), "--clear-groups"]
    return ["setpriv", *ids, "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "--"]


def parent_folders(path: Path) -> Iterator[str]:
    """Makes the folders above a path, which bubblewrap would make for itself alone."""
    for above in reversed(path.parents):
        if above != Path("/"):
            yield from ("--perms", "0755", "--dir", str(above))


def _each(option: str, values: Iterable[Iterable[str]]) -> Iterator[str]:
    for value in values:
        yield option
        yield from value
