"""Where session logs live: one port (`lllm.ports.LogStore`), several stores, loaded on first touch."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.plug_ins import attribute, guarded

if TYPE_CHECKING:
    from lllm.log.base import ReplayableLogBase
    from lllm.log.files import LocalFileLog
    from lllm.log.memory import MemoryLog
    from lllm.log.none import NoLog
    from lllm.log.postgres import PostgresLog
    from lllm.log.sqlite import SQLiteLog
    from lllm.ports import LogStore

__all__ = [
    "LocalFileLog",
    "MemoryLog",
    "NoLog",
    "PostgresLog",
    "ReplayableLogBase",
    "SQLiteLog",
    "open_store",
]

_HOOKS: Final = ("append", "read", "sessions", "blob", "close")
"""What every store has."""

_HOMES: Final = {
    "LocalFileLog": "files",
    "MemoryLog": "memory",
    "NoLog": "none",
    "PostgresLog": "postgres",
    "ReplayableLogBase": "base",
    "SQLiteLog": "sqlite",
}


def open_store(
    spec: str | None, dir: str | PathLike[str], *, synchronous: str | None = None, url: str | None = None
) -> LogStore:
    """The store that `log_type`, `log_dir` and `log.url` of a configuration mean, found by name in the registry. None is
    `sqlite`. Writes nothing yet, and connects to nothing.

    A store class says by its `place` what it makes of the folder: its constructor gets `dir / place`, or nothing where
    `place` is None. One that is `addressed` gets the url instead. `synchronous` ("normal" or "full") is for stores that
    outlive the process.

    Raises:
        UnknownNameError: there is no such store.
        ConfigError: it needs a url, and there is none; or it cannot be made.
    """
    from lllm.handles import give_folder, is_addressed, place_below
    from lllm.registry import registry

    name = "sqlite" if spec is None else spec.strip().lower()
    store = registry.get("store", name)
    place = place_below(store)
    options = {"synchronous": synchronous} if synchronous else {}
    made: LogStore
    if is_addressed(store):
        if not url:
            raise ConfigError(
                f"the store '{name}' needs the address of its server",
                hint="Set LLLM_LOG_URL, or `url` under [log]: postgresql://USER:${PGPASSWORD}@HOST/DATABASE",
            )
        with guarded(f"store '{name}'"):
            made = store(url, **options)
        give_folder(made, Path(dir))
    else:
        with guarded(f"store '{name}'"):
            made = store() if place is None else store(Path(dir) / place, **options)
    if missing := [hook for hook in _HOOKS if not callable(attribute(f"store '{name}'", made, hook))]:
        raise ConfigError(f"store '{name}' has no {missing[0]}", hint="See lllm.ports.LogStore.")
    return made


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from lllm.porting import no_name

        raise no_name(__name__, name)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
