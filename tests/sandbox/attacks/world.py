"""The world in which attacks are run: a sandbox that stands for the machine.

It has its own mounts, processes and network, and the machine's files read-only. Only there are the payloads run, in the
sandbox of the tier that is attacked or, as their control, without one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from lllm.sandbox.isolation import causes, command

REPOSITORY: Final = Path(__file__).parents[3]
NOBODY: Final = 65534
SECRET: Final = "sk-canary-6b1f0c"
PREPARED: Final = 'ip addr add 10.77.0.1/32 dev lo; mount -t proc proc /proc; chmod 1777 /dev/shm; exec "$@"'
"""An address that stands for another machine, and a whole /proc: bubblewrap hides parts of it where it is root, and a user who
is not root could not mount another one."""
MARK: Final = "ATTACKED_WORLD"
"""Variable that names the mount namespace of those who made the world: the harness is not in it."""


@cache
def missing() -> str:
    """Why no world can be made here, "" where one can."""
    if shutil.which("bwrap") is None:
        return f"attacks run in a world that bubblewrap makes, which is not installed. {causes.INSTALL}"
    with tempfile.TemporaryDirectory(prefix="att") as room:
        done = subprocess.run(
            [*_outer(room, user=False), "true"], capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        return ""
    cause, cure = causes.explain(done.stderr, root=os.geteuid() == 0)
    return f"attacks run in a world that bubblewrap makes, which fails here: {cause}. {cure}"


def run(variant: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """What the harness reports, by the names of rows. `variant`: as of a row, or `control/user`."""
    _, _, user = variant.partition("/")
    with tempfile.TemporaryDirectory(prefix="att") as room:
        program = [sys.executable, "-m", "tests.sandbox.attacks.harness", room, variant, *names]
        done = subprocess.run(
            [*_outer(room, user=user == "user"), *program],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


def _outer(room: str, *, user: bool) -> list[str]:
    """The command line of the world, before that of a program in it. `user`: as a user other than root."""
    root = os.geteuid() == 0
    argv = ["bwrap", "--ro-bind", "/", "/", *_opened(), "--dev", "/dev", "--proc", "/proc"]
    argv += [
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--die-with-parent",
        "--new-session",
    ]
    argv += [
        "--perms",
        "1777",
        "--size",
        str(2**30),
        "--tmpfs",
        room,
        "--chdir",
        str(REPOSITORY),
        "--clearenv",
    ]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    values = {"PATH": path, "HOME": f"{room}/home", "TMPDIR": room, "SECRET_API_KEY": SECRET}
    values[MARK] = os.readlink("/proc/self/ns/mnt")
    for name, value in values.items():
        argv += ["--setenv", name, value]
    if not root:
        return [*argv, "--"]
    argv += ["--cap-add", "ALL", "--", "sh", "-c", PREPARED, "sh"]
    if user:
        argv += [
            "setpriv",
            "--reuid",
            str(NOBODY),
            "--regid",
            str(NOBODY),
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ]
    return argv


def _opened() -> Iterator[str]:
    """Makes the folders of Python readable for all users of the world, where a home folder that they are in is not."""
    for folder in (*command.folders_of_python(), REPOSITORY):
        closed = next((path for path in reversed(folder.parents) if not path.stat().st_mode & 0o001), None)
        if closed is not None and os.geteuid() == 0:
            yield from ("--perms", "0755", "--tmpfs", str(closed))
            for path in reversed(folder.parents):
                if path.is_relative_to(closed) and path != closed:
                    yield from ("--perms", "0755", "--dir", str(path))
            yield from ("--ro-bind", str(folder), str(folder))
