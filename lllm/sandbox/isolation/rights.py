"""Gives up rights, for good: what the programs that become a kernel do before. It needs no package, and runs without lllm."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Any

FAILED = 70
"""Exit status where the kernel was not started."""

DEATH_SIGNAL, SUBREAPER, NO_NEW_PRIVILEGES, _SECCOMP, _BOUNDING, _KEEP, _AMBIENT = 1, 36, 38, 22, 24, 8, 47
_READ_ALL = 2  # CAP_DAC_READ_SEARCH
_CAPABILITIES = 0x20080522  # _LINUX_CAPABILITY_VERSION_3

DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *values: Any) -> None:
    """See prctl(2). Raises OSError."""
    rest = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in values]
    if _libc.prctl(option, *rest, *[ctypes.c_ulong(0)] * (4 - len(rest))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def limit(limits: dict[str, int]) -> None:
    """Sets limits by the ends of their names: AS and so on, see `command.resources`."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def switch(user: int, *, read_all: bool) -> None:
    """Becomes a user without rights, for good; with `read_all` with one: to read all files, which Landlock bounds."""
    kept = 1 << _READ_ALL if read_all else 0
    bound(kept)
    if kept:
        prctl(_KEEP, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    capable(kept)
    if kept:
        prctl(_AMBIENT, 2, _READ_ALL)


def bound(kept: int) -> None:
    """Capabilities that no program can bring back."""
    for number in range(64):
        if not kept >> number & 1:
            try:
                prctl(_BOUNDING, number)
            except OSError:
                return  # no such capability, and none above it


def capable(kept: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def filter_calls(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    prctl(_SECCOMP, 2, ctypes.byref(Program(len(program) // 8, program)))
