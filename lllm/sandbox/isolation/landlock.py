"""Landlock: what a process and its children may open and signal, as it says itself (https://docs.kernel.org/userspace-api/landlock.html).

It needs no rights and no package: three system calls, whose numbers are the same on every machine. This file is also imported
by `supervisor.py`, which runs without lllm: it uses nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_BENEATH = 1

EXECUTE, WRITE, READ, READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, DEVICE = 1 << 13, 1 << 14, 1 << 15
_DEVICES = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK
_OF_FILES = EXECUTE | WRITE | READ | TRUNCATE | DEVICE
"""Rights that a rule for a file, rather than a folder, may have."""

TCP = 1 << 0 | 1 << 1
"""LANDLOCK_ACCESS_NET_BIND_TCP and CONNECT_TCP."""
ABSTRACT, SIGNALS = 1 << 0, 1 << 1
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and SCOPE_SIGNAL: only to processes that are restricted in the same way, or more."""

NETWORK_FROM, SCOPES_FROM = 4, 6
"""Versions from which there are rights for TCP, and scopes."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version that this kernel has, 0 for none. It may be built in and not be switched on."""
    return max(int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)), 0)


def _all(version: int) -> int:
    """Every right to files that a version knows."""
    last = 12 if version < 2 else 13 if version < 3 else 14 if version < 5 else 15
    return int((1 << (last + 1)) - 1)


def restrict_signals() -> None:
    """From now on this process and its children signal each other only. Raises OSError."""
    _apply(_ruleset(0, 0, SIGNALS))


def restrict(read: list[str], write: list[str], *, version: int) -> None:
    """From now on this process and its children open only what is at or below these paths, use no TCP and no abstract unix
    sockets, and signal each other only: as far as this version can. Paths that do not exist are left out. Raises OSError."""
    handled = _all(version)
    rules = _ruleset(
        handled,
        TCP if version >= NETWORK_FROM else 0,
        ABSTRACT | SIGNALS if version >= SCOPES_FROM else 0,
    )
    for paths, rights in (
        (read, EXECUTE | READ | READ_FOLDER),
        (write, handled & ~_DEVICES),
    ):
        for path in paths:
            _allow(rules, path, rights & handled)
    _apply(rules)


def _ruleset(files: int, network: int, scopes: int) -> int:
    size = 24 if scopes else 16 if network else 8
    attributes = struct.pack("=QQQ", files, network, scopes)[:size]
    return _checked(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), 0))


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        _checked(_libc.syscall(_ADD, rules, _BENEATH, struct.pack("=Qi", rights, fd), 0))
    finally:
        os.close(fd)


def _apply(rules: int) -> None:
    try:
        _checked(_libc.syscall(_RESTRICT, rules, 0))
    finally:
        os.close(rules)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, "Landlock: " + os.strerror(number))
    return int(result)
