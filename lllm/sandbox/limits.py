"""What code in a sandbox may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from lllm.errors import ConfigError, UnknownKeyError

MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a sandbox. All are numbers above 0.

    Attributes:
        cell_seconds: seconds that a cell may run. It is interrupted then, and killed `grace_seconds` later.
        grace_seconds: seconds between the interrupt and the end of the kernel.
        start_seconds: seconds that a kernel may take until it answers.
        output_bytes: bytes of outputs that a cell keeps in the notebook. The rest of its text goes to a file.
        flood_bytes: bytes of outputs after which a cell is stopped.
        memory_bytes: address space of each process (RLIMIT_AS).
        processes: processes and threads at a time.
        open_files: of each process.
        file_bytes: size of one file.
        disk_bytes: all that the working folder holds.
        inodes: files and folders in the working folder.
        calls: calls of `CALL_API` that a cell may make.
        temp_bytes: size of `/tmp`, in memory.
    """

    cell_seconds: float = 60.0
    grace_seconds: float = 2.0
    start_seconds: float = 30.0
    output_bytes: int = MIB
    flood_bytes: int = 64 * MIB
    memory_bytes: int = 4096 * MIB
    processes: int = 128
    open_files: int = 256
    file_bytes: int = 512 * MIB
    disk_bytes: int = 512 * MIB
    inodes: int = 20_000
    calls: int = 200
    temp_bytes: int = 256 * MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.type in (int, "int")
            kind: Any = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < 2**63:
                wanted = "a whole number above 0" if whole else "a number above 0"
                raise ConfigError(f"sandbox limit '{field.name}' must be {wanted}, got {value!r}")

    @classmethod
    def of(cls, values: Limits | Mapping[str, Any] | None) -> Limits:
        """Limits from a mapping: those that it does not name have their defaults. Raises UnknownKeyError, ConfigError."""
        if isinstance(values, Limits):
            return values
        known = [field.name for field in fields(cls)]
        for key in values or {}:
            if key not in known:
                raise UnknownKeyError(key, known, where="limits of the sandbox")
        return replace(cls(), **dict(values or {}))
