"""Limits of a sandbox that lllm watches, because the operating system has none for them: what all processes use together, and
what folders hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lllm.sandbox.isolation import tree
from lllm.sandbox.limits import Limits
from lllm.sandbox.snapshot import DEEPEST
from lllm.sandbox.workspace import Workspace


class Excess(NamedTuple):
    """A limit that was exceeded: `memory`, `processes` or `disk`, and a sentence for it."""

    status: str
    note: str


class Watch:
    """Looks at a sandbox from outside.

    Args:
        pid: the process below which all of its processes are.
        folders: what they can write to, on the disk.
    """

    def __init__(self, pid: int, folders: Sequence[Workspace], limits: Limits) -> None:
        self._pid = pid
        self._folders = folders
        self._limits = limits

    def look(self) -> Excess | None:
        """What is exceeded now. It blocks for about a millisecond, where there are few files and processes."""
        try:
            return self._look()
        except (OSError, ValueError) as error:
            return Excess("disk", f"the working folder cannot be looked into ({error})")

    def _look(self) -> Excess | None:
        limits = self._limits
        pids = tree.below(self._pid)[1:]  # without bubblewrap or the supervisor
        if (count := tree.tasks(pids)) > limits.processes + OWN:
            return Excess(
                "processes", f"there were {count:,} processes and threads, more than {limits.processes:,}"
            )
        held = tree.held(pids, self._folders[0].root.stat().st_dev)
        if (used := tree.resident(pids, limits.memory_bytes, held.memory)) > limits.memory_bytes:
            return Excess(
                "memory", f"all processes used {used:,} bytes of memory, more than {limits.memory_bytes:,}"
            )
        size, inodes = held.disk, 0
        for folder in self._folders:
            usage = folder.usage(limits.inodes)
            size, inodes = size + usage.bytes, inodes + usage.inodes
            if usage.too_deep:
                return Excess("disk", f"folders were more than {DEEPEST} deep within each other")
        if size > limits.disk_bytes:
            return Excess("disk", f"the working folder held more than its {limits.disk_bytes:,} bytes")
        if inodes > limits.inodes:
            return Excess("disk", f"the working folder held more than its {limits.inodes:,} files")
        return None


OWN = 4
"""Processes that are not counted as those of the code: bubblewrap's first one, and those that limit and start the kernel."""
