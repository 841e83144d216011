"""Figures of sessions are computed when they end, so that no log has to be read."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, FunctionCall, LocalFileLog, MemoryLog, ScriptedBackend, SQLiteLog, arecord, record
from lllm.core.canonical import encode
from lllm.core.figures import Counting
from lllm.log import open_store
from lllm.log import summaries as module
from lllm.log.base import ReplayableLogBase
from lllm.log.query import find, totals
from lllm.log.summaries import _like, place_of, summarise
from lllm.models.function import tool
from lllm.replay.fork import fork_session
from tests.replay.systems import System

Kept = dict[str, tuple[str, dict[str, Any]]]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Summaries given to stores when sessions end: session -> state of its log, and its figures."""
    found: Kept = {}

    def keep(
        self: ReplayableLogBase, session: str, like: tuple[Any, ...], summary: Callable[[], Mapping[str, Any]]
    ) -> None:
        found[session] = " ".join(map(str, like)), dict(summary())

    monkeypatch.setattr(ReplayableLogBase, "keep_summary", keep)
    return found


def agree(kept: Kept, store: ReplayableLogBase) -> int:
    """Checks that the figures equal those read from the log. Returns the number of cached sessions."""
    infos = [info for info in store.sessions() if info.id in kept]
    for info in infos:
        like, made = kept[info.id]
        assert like == _like(info)
        assert encode(made) == encode(summarise(store.read(info.id), info.id))
    return len(infos)


def test_figures_that_are_counted_as_written_are_those_that_are_read(kept: Kept) -> None:
    for seed in range(60):
        found = System(seed).record()
        assert agree(kept, found.store) == 1, seed


def test_those_of_forks_and_of_sessions_that_are_resumed(kept: Kept) -> None:
    @tool
    def look(n: int) -> str:
        """Looks."""
        return f"seen {n}"

    def program() -> str:
        with record("work", store=store) as session:
            agent = Agent("a", ScriptedBackend([FunctionCall("t", "look", '{"n":1}'), "seen"]), tools=[look])
            agent("go")
        return session.id

    store = MemoryLog()
    id = program()
    fork = fork_session(id, at=5, store=store, entry=program)
    assert fork.reused
    assert agree(kept, store) == 2
    for seed in range(12):
        system = System(seed)
        whole = system.record()
        kept.clear()
        cut = whole.cut(max(2, len(whole.events()) // 2))
        system.resume(cut)
        assert agree(kept, cut.store) in (
            0,
            1,
        )  # what went before was not counted: it is read when it is wanted


@pytest.mark.parametrize("kind", [SQLiteLog, LocalFileLog])
def test_nobody_reads_sessions_that_have_ended(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("log.db" if kind is SQLiteLog else "sessions")
    read: list[str] = []
    real = kind.read

    def counted(self: Any, session: str, after: int = -1) -> Any:
        read.append(session)
        return real(self, session, after)

    monkeypatch.setattr(kind, "read", counted)
    monkeypatch.setattr(module, "PORTION", 8)

    async def some(store: Any) -> None:
        await asyncio.gather(
            *[Agent("a", ScriptedBackend(["fine"]), store=store).acall("go") for _ in range(20)]
        )

    with kind(place) as store:
        asyncio.run(some(store))
        with record("by hand", store=store):
            Agent("b", ScriptedBackend(["fine"] * 2))("go")
        with pytest.raises(RuntimeError), record("failed", store=store):
            raise RuntimeError("broken")
    with kind(place) as store:
        rows = find(store)
        (sums,) = totals(store)
        assert len(rows) == 22
        assert sums["calls"] == 21
        assert sorted(row["status"] for row in rows)[-1] == "failed"
        assert read == []
        (place_of(store) or Path()).unlink()
        assert [dict(row) for row in find(store)] == [dict(row) for row in rows]
        assert len(read) == 22


def test_those_of_a_server_are_kept_in_the_folder_of_the_project(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store("postgres", tmp_path, url=postgres_url) as store:  # type: ignore[attr-defined]
        for info in store.sessions():
            store.delete([info.id])
        Agent("a", ScriptedBackend(["fine"]), store=store)("go")
    with open_store("postgres", tmp_path, url=postgres_url) as store:  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "summarise", lambda *_: pytest.fail("it was read"))
        assert [row["status"] for row in find(store)] == ["done"]
    assert (tmp_path / "summaries.db").exists()


def test_what_is_listed_is_proven_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    with SQLiteLog(path) as store:
        for _ in range(3):
            Agent("a", ScriptedBackend(["fine"]), store=store)("go")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE appends SET body = CAST(replace(CAST(body AS TEXT), 'fine', 'good') AS BLOB)")
    with SQLiteLog(path) as store:
        assert [row["status"] for row in find(store)] == ["done"] * 3
        assert [row["status"] for row in find(store, limit=1)] == ["corrupt"]
        assert [row["status"] for row in find(store)] == ["corrupt", "done", "done"]
        assert len(find(store, status="corrupt")) == 3
        assert len(find(store, status="done", limit=5)) == 0
        monkeypatch.setattr(module, "summarise", lambda *_: pytest.fail("it was read again"))
        assert len(find(store, status="corrupt", limit=5)) == 3


LEAVES = """
import sys
from pathlib import Path
from lllm import Agent, ScriptedBackend, SQLiteLog, LocalFileLog
store = {"sqlite": SQLiteLog, "files": LocalFileLog}[sys.argv[1]](Path(sys.argv[2]))
Agent("a", ScriptedBackend(["fine"]), store=store)("go")
"""


@pytest.mark.parametrize("kind", ["sqlite", "files"])
def test_a_program_that_ends_keeps_them_without_closing_anything(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("log.db" if kind == "sqlite" else "sessions")
    subprocess.run([sys.executable, "-c", LEAVES, kind, str(place)], check=True)
    with SQLiteLog(place) if kind == "sqlite" else LocalFileLog(place) as store:
        monkeypatch.setattr(module, "summarise", lambda *_: pytest.fail("it was read"))
        assert find(store)[0]["status"] == "done"


def test_a_file_that_is_in_use_or_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    with SQLiteLog(tmp_path / "log.db") as store:
        Agent("a", ScriptedBackend(["fine"]), store=store)("go")
        store.keep_summaries()
        path = place_of(store)
        assert path is not None
        assert path.stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            Agent("a", ScriptedBackend(["fine"]), store=store)("go")
            store.keep_summaries()
            other.execute("ROLLBACK")
        path.write_bytes(b"nothing that SQLite knows" * 100)
        Agent("a", ScriptedBackend(["fine"]), store=store)("go")
        store.keep_summaries()
        assert len(find(store)) == 3


@pytest.mark.odd_events
async def test_what_cannot_be_counted_is_written_all_the_same(kept: Kept) -> None:
    store = MemoryLog()
    async with arecord("odd", store=store) as session:
        session.emit("CallEnded", {}, "c1")  # not as the runtime writes it
    assert session.id not in kept
    assert summarise(store.read(session.id), session.id)["problem"]
    assert Counting().summary(0, "", None)["parts"] == []
