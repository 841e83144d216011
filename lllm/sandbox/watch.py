"""Limits of a sandbox that lllm watches, because the operating system has none for them: what all processes use together, and
what folders hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from lllm.sandbox.isolation import tree
from lllm.sandbox.kernel import Process
from lllm.sandbox.limits import Limits
from lllm.sandbox.usage import Usage
from lllm.sandbox.workspace import Workspace


class Excess(NamedTuple):
    """A limit that was exceeded: `memory`, `processes` or `disk`, and a sentence for it."""

    status: str
    note: str


def unreadable(error: Exception) -> Excess:
    """Says that a folder was removed, or that something else is in its place."""
    return Excess("disk", f"the working folder cannot be looked into ({error})")


class Watch:
    """Looks at a sandbox from outside.

    Args:
        process: the processes of the sandbox.
        folders: what they can write to, on the disk.
    """

    def __init__(self, process: Process, folders: Sequence[Workspace], limits: Limits) -> None:
        self._process = process
        self._folders = folders
        self._limits = limits
        self._hidden = False

    def look(self) -> Excess | None:
        """What is exceeded now. It blocks for about a millisecond, where there are few files and processes."""
        try:
            return self._look()
        except (OSError, ValueError) as error:
            return unreadable(error)

    def _look(self) -> Excess | None:
        pids = tree.below(self._process.pid)[1:]  # without bubblewrap or the supervisor
        held = tree.held(pids, self._folders[0].root.stat().st_dev)
        excess = self._of_processes(pids, held.memory)
        if self._process.code() is not None:  # they have ended, and their ids may be somebody else's
            excess, held = None, tree.Held(0, 0)
        if excess is not None:
            return excess
        used = Usage(held.disk, 0, False)
        for folder in self._folders:
            found = folder.usage(self._limits.inodes)
            used = Usage(
                used.bytes + found.bytes, used.inodes + found.inodes, used.too_deep or found.too_deep
            )
        return Excess("disk", note) if (note := used.excess(self._limits)) else None

    def _of_processes(self, pids: Sequence[int], held: int) -> Excess | None:
        limits = self._limits
        if (count := tree.tasks(pids)) > limits.processes + OWN:
            return Excess(
                "processes", f"there were {count:,} processes and threads, more than {limits.processes:,}"
            )
        if (used := tree.resident(pids, limits.memory_bytes, held)) > limits.memory_bytes:
            return Excess(
                "memory", f"all processes used {used:,} bytes of memory, more than {limits.memory_bytes:,}"
            )
        if (files := self._in_memory(pids)) > limits.inodes:
            return Excess("memory", f"folders in memory held {files:,} files, more than {limits.inodes:,}")
        before, self._hidden = self._hidden, os.geteuid() != 0 and tree.hides(pids)
        if before and self._hidden:  # not while it becomes another program
            return Excess(
                "processes",
                "a process keeps from view what it holds: its program is one that nobody may read",
            )
        return None

    def _in_memory(self, pids: Sequence[int]) -> int:
        """Files and folders in memory, as one of the processes sees them: any, since all see the same."""
        for pid in pids:
            with suppress(OSError):
                seen = [os.statvfs(f"/proc/{pid}/root{path}") for path in self._process.in_memory]
                return sum(one.f_files - one.f_ffree for one in seen)
        return 0


OWN = 4
"""Processes that are not counted as those of the code: bubblewrap's first one, and those that limit and start the kernel."""
