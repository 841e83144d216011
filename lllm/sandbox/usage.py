"""How much a folder holds, and whether it may."""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple

from lllm.sandbox.limits import Limits

DEEPEST: Final = 40
"""Folders within each other that are looked into."""


class Usage(NamedTuple):
    """What a folder holds. `too_deep`: folders are within each other that are not looked into."""

    bytes: int = 0
    inodes: int = 0
    too_deep: bool = False

    def plus(self, path: str, info: os.stat_result) -> Usage:
        """What it is with one more file or folder. A file counts as many bytes as it takes on the disk, or as it has where that
        is more: one that is all holes is read like any other."""
        size = info.st_blocks * 512
        if stat.S_ISREG(info.st_mode):
            size = max(size, info.st_size)
        deep = stat.S_ISDIR(info.st_mode) and path.count("/") == DEEPEST - 1
        return Usage(self.bytes + size, self.inodes + 1, self.too_deep or deep)

    def excess(self, limits: Limits) -> str:
        """What of it is over the limits, as a sentence; "" where nothing is."""
        if self.too_deep:
            return f"folders were more than {DEEPEST} deep within each other"
        if self.bytes > limits.disk_bytes:
            return f"the working folder held more than its {limits.disk_bytes:,} bytes"
        return f"the working folder held more than its {limits.inodes:,} files" * (
            self.inodes > limits.inodes
        )


class Oversized(Exception):
    """A folder holds more than it may. The text says what."""
