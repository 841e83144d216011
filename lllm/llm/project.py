"""What the project of this folder says where a program says nothing: its model and its log."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from lllm.ports import LogStore

if TYPE_CHECKING:
    from lllm.config import Config

_lock = threading.Lock()
_stores: dict[tuple[str, ...], LogStore] = {}
_read: tuple[tuple[str, dict[Any, Any]], Config] | None = None


def project() -> Config:
    """The configuration that holds here. Read again when the folder or the environment has changed: reading it costs as
    much as several agent calls."""
    global _read
    # CPython's own dict of the environment; elsewhere the environment is copied every time
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""  # it was deleted under us
    here = (folder, getattr(os.environ, "_data", None) or dict(os.environ))
    known = _read
    if known is None or known[0] != here:
        from lllm.config import load_project

        known = ((here[0], dict(here[1])), load_project())
        _read = known
    return known[1]


def default_store() -> LogStore:
    """The store that the project's configuration names."""
    return store_of(project())


def store_of(config: Config) -> LogStore:
    """The store that a configuration names; one object per place."""
    log = config.log
    key = (log.type, str(log.dir), log.synchronous or "", log.url or "")
    with _lock:
        if key not in _stores:
            from lllm.log import open_store

            _stores[key] = open_store(log.type, log.dir, synchronous=log.synchronous, url=log.url)
        return _stores[key]
