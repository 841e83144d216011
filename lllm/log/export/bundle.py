"""A session with its blobs, as `lllm import` takes it: the file of `lllm.log.copy.save_session`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from lllm.log.copy import save_session
from lllm.log.export.source import Source


def write(source: Source) -> Iterator[str]:
    """The lines of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session"
        save_session(source.store, source.session, path)
        with open(path, encoding="utf-8", newline="") as file:
            yield from file
