"""A log in a folder of somebody else: an error that says so, from every way to look."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import LogError
from lllm.log import LocalFileLog, ReplayableLogBase, SQLiteLog
from lllm.log.query import totals
from lllm.log.summaries import place_of
from tests.log.events import Writer

KINDS: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": lambda folder: LocalFileLog(folder),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_may_not_be_looked_into(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KINDS[kind](tmp_path) as writer:
        asyncio.run(writer.append([Writer("s").start()]))

    def refuse(path: Any, *_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with KINDS[kind](tmp_path) as store:
        with monkeypatch.context() as closed:
            closed.setattr(os, "scandir", refuse)
            closed.setattr(Path, "exists", refuse)
            closed.setattr(Path, "is_dir", refuse)
            looks: tuple[Callable[[], object], ...] = (
                store.sessions,
                lambda: store.read("s"),
                lambda: totals(store),
            )
            assert place_of(store) is None
            for look in looks:
                with pytest.raises(LogError, match=r"could not be read \(Permission denied\)") as failed:
                    look()
                assert str(tmp_path) in failed.value.message
                assert failed.value.hint
        assert [info.id for info in store.sessions()] == ["s"]
