"""Folders of sandboxes that run, and the removal of those whose owner has died.

Each has `owner.json`: the id of its process and when that began, since an id alone may be somebody else's by now.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lllm.sandbox import removal

PREFIX: Final = "lllm-"
"""Of a folder's name in the temporary folder. Short: the paths of unix sockets are limited."""

NAME: Final = re.compile(f"{PREFIX}[0-9a-f]{{10}}")

MAKING: Final = 3600.0
"""Seconds after which nobody makes a folder any more that has no owner yet."""


def make() -> Path:
    """A new folder, which nobody else may read."""
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(5)}"
    folder.mkdir(mode=0o700)
    owner = {"pid": os.getpid(), "began": began(os.getpid()), "namespace": _namespace()}
    (folder / "owner.json").write_text(json.dumps(owner))
    return folder


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it. Links in it are removed, not followed."""
    removal.remove(str(folder))


def left_behind() -> Iterator[Path]:
    """Folders of this user whose owner has died. Those of processes that cannot be seen from here, as in a container with
    the same temporary folder, are left alone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            try:
                owner = json.loads((folder / "owner.json").read_text())
            except (FileNotFoundError, ValueError):
                if _half_made(folder):
                    yield folder
                continue
            if owner["namespace"] == _namespace() and began(owner["pid"]) != owner["began"]:
                yield folder


def _half_made(folder: Path) -> bool:
    """Whether its owner died while it made the folder: nothing is in it, or a part of the mark. Others' folders, by whatever
    name, are not empty, or are left alone."""
    empty = os.listdir(folder) in ([], ["owner.json"]) and NAME.fullmatch(folder.name) is not None
    return empty and time.time() - folder.stat().st_mtime > MAKING


def sweep() -> list[Path]:
    """Removes what a dead owner left behind, and returns it."""
    found = list(left_behind())
    for folder in found:
        remove(folder)
    return found


def _namespace() -> str:
    """The one in which ids of processes are those that this process sees."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine was started; None where there is none.

    Field 22 of /proc/PID/stat, see proc(5); the name in field 2 may hold spaces and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])
