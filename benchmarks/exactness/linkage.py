"""Replaces functions that a shared library calls of itself through its table of jumps, in this process: ELF, 64 bits."""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

JUMPS: Final = (7, 1026)
"""The kind of a jump's relocation: x86-64, aarch64."""


class Linkage:
    """The jumps of a library that is loaded. Raises OSError on a system without ELF."""

    def __init__(self, path: str) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError("only Linux links libraries in a way that can be watched here")
        self._library = ctypes.CDLL(path)
        self._base = _base(path)
        self._slots = _slots(Path(path).read_bytes())
        self._changed: list[tuple[int, int]] = []
        self._held: list[Any] = []

    def has(self, name: str) -> bool:
        """Whether the library calls a function of this name through the table."""
        return name in self._slots

    def replace(self, name: str, kind: Any, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Has the library call what `make` gives for `name`; it is given the function of the library.

        Args:
            kind: a type of ctypes.CFUNCTYPE.
        """
        own = kind(ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value)
        other = kind(make(own))
        self._held += [own, other]
        address = ctypes.cast(other, ctypes.c_void_p).value
        assert address is not None
        for offset in self._slots[name]:
            place = self._base + offset
            self._changed.append((place, ctypes.c_uint64.from_address(place).value))
            _write(place, address)

    def restore(self) -> None:
        """Puts back what was there."""
        for place, value in reversed(self._changed):
            _write(place, value)
        self._changed.clear()


def _base(path: str) -> int:
    """Where the library begins in memory."""
    real = str(Path(path).resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if parts[-1] == real and int(parts[2], 16) == 0:
            return int(parts[0].partition("-")[0], 16)
    raise OSError(f"{Path(path).name} is not loaded")


def _slots(data: bytes) -> dict[str, list[int]]:
    """Offsets of the entries of each name in the table of jumps."""
    assert data[:5] == b"\x7fELF\x02"
    at, size, count = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at + size * number) for number in range(count)]
    found: dict[str, list[int]] = {}
    for _, kind, _, _, begin, length, link, _, _, each in sections:
        if kind != 4:  # relocations with addends
            continue
        symbols = sections[link]
        names = sections[symbols[6]]
        for place in range(begin, begin + length, each):
            offset, info, _ = struct.unpack_from("<QQq", data, place)
            if info & 0xFFFFFFFF in JUMPS:
                start = names[4] + struct.unpack_from("<I", data, symbols[4] + 24 * (info >> 32))[0]
                name = data[start : data.index(b"\0", start)].decode()
                found.setdefault(name, []).append(offset)
    return found


def _write(place: int, value: int) -> None:
    page = place - place % mmap.PAGESIZE
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError("the table of jumps cannot be written")
    ctypes.c_uint64.from_address(place).value = value
