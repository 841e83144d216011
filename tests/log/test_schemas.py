"""Logs that older versions wrote open, and are brought up to date. `schemas/` has one file per version, as SQL."""

import sqlite3
from pathlib import Path

import pytest

from lllm.core import envelope
from lllm.core.canonical import digest
from lllm.log import SQLiteLog, views
from lllm.log import schema as tables
from lllm.log.postgres import schema as postgres
from tests.log.events import Writer

FOLDER = Path(__file__).parent / "schemas"


def test_every_version_has_its_file() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(
        [f"sqlite-{n}.sql" for n in range(1, len(tables.MIGRATIONS) + 1)]
        + [f"postgres-{n}.sql" for n in range(1, len(postgres.MIGRATIONS) + 1)]
    )


@pytest.mark.parametrize("version", range(1, len(tables.MIGRATIONS) + 1))
async def test_an_sqlite_log_of_every_version(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    old = sqlite3.connect(path)
    old.executescript((FOLDER / f"sqlite-{version}.sql").read_text())
    old.close()
    monkeypatch.setattr(
        tables,
        "MIGRATIONS",
        [*tables.MIGRATIONS, lambda database: database.execute("ALTER TABLE sessions ADD note")],
    )
    with SQLiteLog(path) as store:
        (info,) = store.sessions()
        assert (info.id, info.status, info.events, info.meta) == ("old", "done", 3, {"task": "é"})
        assert (store.sessions(prefix="ol"), store.sessions(prefix="new")) == ([info], [])
        head = store.verify("old")
        assert store.blob(digest(b"kept")) == b"kept"
        store.claim("old")
        await store.append([Writer("old", seq=3, prev=head).event()])
        assert store.verify("old")
    found = sqlite3.connect(path)
    assert found.execute("PRAGMA user_version").fetchone() == (len(tables.MIGRATIONS),)
    assert found.execute("SELECT id, note FROM sessions").fetchall() == [("old", None)]
    found.close()


def test_events_of_an_older_format_are_read_as_of_today(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chain is proven on the old bytes; what reads the log sees the new form; the log itself stays as it is."""
    path = tmp_path / "sessions.db"
    old = sqlite3.connect(path)
    old.executescript((FOLDER / "sqlite-1.sql").read_text())
    old.close()
    monkeypatch.setattr(envelope, "UPGRADES", [lambda event: {**event, "v": 2, "lane": 0}])
    monkeypatch.setattr(envelope, "FORMAT", 2)
    with SQLiteLog(path) as store:
        before = list(store.read("old"))
        assert [(event["v"], event["lane"]) for event in views.load(store, "old")] == [(2, 0)] * 3
        assert store.verify("old")
        assert list(store.read("old")) == before
