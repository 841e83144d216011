"""The processes below one, and what they hold, as /proc shows it. Processes that end meanwhile are left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = 1024
"""Bytes of the unit in which /proc/PID/status counts memory."""


class Held(NamedTuple):
    """Bytes of files without a name that processes keep open or mapped: on the file system asked for, and in memory."""

    disk: int
    memory: int


def below(pid: int) -> list[int]:
    """A process and all below it."""
    found = {pid: None}
    queue = [pid]
    for above in queue:
        for child in children(above):
            if child not in found:
                found[child] = None
                queue.append(child)
    return list(found)


def children(pid: int) -> list[int]:
    """The processes that a process has started, and those that it has been given."""
    listed = [_read(f"/proc/{pid}/task/{thread}/children").split() for thread in _names(f"/proc/{pid}/task")]
    return [int(child) for line in listed for child in line]


def tasks(pids: Iterable[int]) -> int:
    """How many threads they have together: a process has one at least."""
    return sum(len(_names(f"/proc/{pid}/task")) for pid in pids)


def resident(pids: Iterable[int], at_most: int, held: int) -> int:
    """Bytes of memory that they use together, also where it is swapped out; without pages of files on a disk.

    Pages that several processes share are counted once where the sum is more than `at_most`: that takes longer.

    Args:
        held: bytes of files in memory, which are shared pages too where a process has mapped them.
    """
    listed = list(pids)
    anonymous = shared = 0
    for pid in listed:
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(("RssAnon:", "VmSwap:")):
                anonymous += int(line.split()[1]) * PAGE
            elif line.startswith("RssShmem:"):
                shared += int(line.split()[1]) * PAGE
    total = anonymous + max(shared, held)
    return total if total <= at_most else min(total, _proportional(listed) + held)


def _proportional(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:", "SwapPss:")):
                total += int(line.split()[1]) * PAGE
    return total


def held(pids: Iterable[int], device: int) -> Held:
    """See `Held`. `device`: the number of the file system, as stat(2) gives it."""
    sizes = {True: 0, False: 0}
    seen = set()
    for pid in pids:
        for key, size in [*_opened(pid), *_mapped(pid, device)]:
            if key not in seen:
                seen.add(key)
                sizes[key[0] == device] += size
    return Held(sizes[True], sizes[False])


def hides(pids: Iterable[int]) -> bool:
    """Whether one of them cannot be looked into, for one who may look into those of the same user. Of a process that ends,
    nothing is left to be seen."""
    for pid in pids:
        try:
            os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            if "\nVmSize:" in _read(f"/proc/{pid}/status"):
                return True
        except OSError:
            continue
    return False


def _opened(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    for number in _names(f"/proc/{pid}/fd"):
        with suppress(OSError):
            info = os.stat(f"/proc/{pid}/fd/{number}")
            if info.st_nlink == 0 and stat.S_ISREG(info.st_mode):
                yield (info.st_dev, info.st_ino), info.st_blocks * 512


def _mapped(pid: int, device: int) -> Iterator[tuple[tuple[int, int], int]]:
    text = _read(f"/proc/{pid}/maps")
    if "(deleted)" not in text:
        return
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}"
    for line in text.splitlines():
        if line.endswith("(deleted)"):
            span, _, _, where, inode = line.split()[:5]
            if where == wanted:
                start, end = (int(part, 16) for part in span.split("-"))
                yield (device, int(inode)), end - start


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(file: str) -> str:
    try:
        return Path(file).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
