"""How a kernel is called, in every tier."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lllm.sandbox.limits import Limits

OPTIONS: Final = ("--HistoryManager.enabled=False", "--IPKernelApp.no_stdout=False")
"""Of ipykernel: its history is a database, whose errors would stand in cells where the disk is full."""

VARIABLES: Final = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # its files have times in them: a cell that runs again would differ from the record
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OPENBLAS_NUM_THREADS": "4",
    "OMP_NUM_THREADS": "4",
    "TERM": "dumb",
    "NO_COLOR": "1",
}
"""The environment of a kernel, but for its folders. Nothing of lllm's own is in it."""


def environment(home: str, temporary: str) -> dict[str, str]:
    """All variables of a kernel."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    found = {
        **VARIABLES,
        "PATH": path,
        "HOME": home,
        "TMPDIR": temporary,
        "JUPYTER_RUNTIME_DIR": f"{home}/.runtime",
        "IPYTHONDIR": f"{home}/.ipython",
        "MPLCONFIGDIR": f"{home}/.matplotlib",
    }
    if zone := os.environ.get("TZ"):
        found["TZ"] = zone
    return found


STARTED: Final = """\
import sys
sys.path.remove("")
import runpy
runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
"""
"""Becomes a kernel. It imports nothing from the working folder while it starts, where code may have put a module by the name
of one that it wants; cells do: with the option `-P` IPython would keep the folder away from them, too."""


def kernel(sockets: Path) -> list[str]:
    """The command of a kernel."""
    return [sys.executable, "-c", STARTED, *options(sockets)]


ATTENDED: Final = """\
import sys
sys.path.remove("")
import os, runpy, select
if select.select([0], [], [], 0)[0]:
    sys.exit(70)
os.dup2(os.open(os.devnull, os.O_RDWR), 0)
runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
"""
"""The same, unless the input has ended: its other end is lllm's, and ends with it."""


def attended(sockets: Path) -> list[str]:
    """The command of a kernel that does not start where lllm has died before it."""
    return [sys.executable, "-c", ATTENDED, *options(sockets)]


def options(sockets: Path) -> list[str]:
    """The options of a kernel."""
    return ["-f", str(sockets / "connection.json"), *OPTIONS]


def resources(limits: Limits) -> dict[str, int]:
    """The limits that the operating system holds, by the ends of their names: RLIMIT_AS and so on, see setrlimit(2)."""
    return {
        "AS": limits.memory_bytes,
        "FSIZE": limits.file_bytes,
        "NOFILE": limits.open_files,
        "NPROC": limits.processes,
        "CORE": 0,
        "MEMLOCK": 65536,
        "MSGQUEUE": 0,
    }


def limited(values: Mapping[str, int]) -> list[str]:
    """What sets `resources` and then becomes the command that follows. `prlimit` is of util-linux."""
    return ["prlimit", *(f"--{name.lower()}={value}" for name, value in values.items()), "--"]


def folders_of_python() -> list[Path]:
    """Where the interpreter and its packages are: to be read by the kernel, and nothing beside them."""
    found = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent]
    named = [*site.getsitepackages(), *sys.path]
    found += [Path(path) for path in named if Path(path).name in ("site-packages", "dist-packages")]
    kept: list[Path] = []
    for folder in sorted({path for path in found if path.is_dir()}, key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(above) for above in kept):
            kept.append(folder)
    return kept
