"""Where session logs live: one port (`lllm.ports.LogStore`), several stores, loaded on first touch."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lllm.log.base import ReplayableLogBase
    from lllm.log.files import LocalFileLog
    from lllm.log.memory import MemoryLog
    from lllm.log.none import NoLog
    from lllm.log.sqlite import SQLiteLog
    from lllm.ports import LogStore

__all__ = ["LocalFileLog", "MemoryLog", "NoLog", "ReplayableLogBase", "SQLiteLog", "open_store"]

_HOMES: Final = {
    "LocalFileLog": "files",
    "MemoryLog": "memory",
    "NoLog": "none",
    "ReplayableLogBase": "base",
    "SQLiteLog": "sqlite",
}


def open_store(spec: str | None, dir: str | PathLike[str], *, synchronous: str | None = None) -> LogStore:
    """The store that `log_type` and `log_dir` of a configuration mean, found by name in the registry. None is `sqlite`.
    Writes nothing yet.

    A store class says by its `place` what it makes of the folder: its constructor gets `dir / place`, or nothing where
    `place` is None. `synchronous` ("normal" or "full") is for stores on disk.

    Raises:
        UnknownNameError: there is no such store.
    """
    from lllm.registry import registry

    store = registry.get("store", "sqlite" if spec is None else spec.strip().lower())
    place = getattr(store, "place", "")
    options = {"synchronous": synchronous} if synchronous else {}
    made: LogStore = store() if place is None else store(Path(dir) / place, **options)
    return made


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
