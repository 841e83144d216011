"""Sessions are removed while others are written: no append fails, and none waits long."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.core.canonical import digest
from lllm.errors import LogWriteError, UnknownNameError
from lllm.log import LocalFileLog, PostgresLog, ReplayableLogBase, SQLiteLog, removing
from lllm.log.claims import COMPACTING, REMOVING, WAITING, Claims
from lllm.log.prune import Limits, prune
from lllm.log.schema import open_writer
from tests.log.events import BEGAN, Writer

PATIENCE = (
    1.0  # seconds that an append of the writer waits: less than removing takes as a whole on a busy machine
)
KINDS: dict[str, Callable[[str], ReplayableLogBase]] = {
    "sqlite": lambda place: SQLiteLog(Path(place) / "sessions.db", busy_timeout=PATIENCE),
    "files": lambda place: LocalFileLog(Path(place) / "files"),
    "postgres": lambda place: PostgresLog(place, schema="prune_live", retry_for=PATIENCE),
}

WRITES = """
import asyncio, json, sys, time
from lllm.core.canonical import digest
from lllm.errors import LogWriteError
from tests.log.events import Writer
from tests.log.test_prune_live import KINDS

kind, place, claimed = sys.argv[1:]
store = KINDS[kind](place)

async def write():
    count, slowest, number = 0, 0.0, 0
    print("writing", flush=True)
    asyncio.get_running_loop().run_in_executor(None, lambda: (sys.stdin.read(), stop.set()))
    while not stop.is_set():
        name = f"live{number}"
        number += 1
        if claimed == "claimed":
            store.claim(name)
        writer = Writer(name, 9_000_000_000_000_000 + number)
        # each names a blob that the old sessions have as well, and one of its own
        blobs = {digest(data): data for data in (b"shared" * 1000, name.encode() * 1000)}
        pieces = [([writer.start(), writer.event(data=list(blobs))], blobs)]
        pieces += [([writer.event(data="x" * 500)], None) for _ in range(50)]
        pieces.append(([writer.end()], None))
        for records, kept in pieces:
            begun = time.monotonic()
            await store.append(records, kept)
            slowest = max(slowest, time.monotonic() - begun)
            count += 1
            await asyncio.sleep(0)
        if claimed == "claimed":
            store.release(name)
    return {"appends": count, "slowest": slowest, "sessions": number}

import threading
stop = threading.Event()
try:
    print(json.dumps(asyncio.run(write())), flush=True)
except LogWriteError as error:
    print(json.dumps({"error": str(error)}), flush=True)
store.close()
"""


def fill(store: ReplayableLogBase, sessions: int) -> None:
    """Sessions old0, old1, ...: each with a blob of a megabyte, one that all share, and 400 events of a kilobyte."""
    shared = b"shared" * 1000
    chance = random.Random(1)

    async def write() -> None:
        for number in range(sessions):
            blob = chance.randbytes(1_000_000)
            writer = Writer(f"old{number}", BEGAN + number)
            blobs = {digest(blob): blob, digest(shared): shared}
            await store.append([writer.start(), writer.event(data=list(blobs))], blobs)
            for _ in range(20):
                await store.append([writer.event(data="y" * 1000) for _ in range(20)])
            await store.append([writer.end()])

    asyncio.run(write())


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    return lambda kind: request.getfixturevalue("postgres_url") if kind == "postgres" else str(tmp_path)


class Live:
    """A process that writes all the time."""

    def __init__(self, kind: str, place: str, claimed: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITES, kind, place, claimed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "writing\n"

    def stop(self) -> dict[str, Any]:
        told, _ = self.process.communicate()
        found: dict[str, Any] = json.loads(told)
        return found


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    made: list[Live] = []

    def start(*args: str) -> Live:
        made.append(Live(*args))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("claimed", ["claimed", "unclaimed"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_writes_is_not_disturbed(
    kind: str, claimed: str, place: Callable[[str], str], live: Callable[..., Live]
) -> None:
    with KINDS[kind](place(kind)) as store:
        for info in store.sessions():
            store.delete([info.id])  # of a test before, on the same server
        fill(store, 40)
        writer = live(kind, place(kind), claimed)
        # any later one will do: it may have written more than are looked at
        while all(info.id == "live0" or info.id.startswith("old") for info in store.sessions(5)):
            pass
        done = prune(store, Limits(older_than=1), now=BEGAN + 10**12)
        seen = {info.id for info in store.sessions()}
        told = writer.stop()
        assert "error" not in told, told
        assert told["appends"] > 50
        assert not any(name.startswith("old") for name in seen)
        assert sum(info.id.startswith("old") for info in done.sessions) == 40
        assert done.bytes > 40 * 1_400_000
        assert done.blobs >= 40
        for info in store.sessions():
            assert store.verify(info.id)
        assert store.blob(digest(b"shared" * 1000))
        assert store.blob(digest(b"live0" * 1000))


# --- SQLite: in slices, over a crash, and when nobody writes


def old_sessions(store: ReplayableLogBase) -> list[str]:
    return [info.id for info in store.sessions() if info.id.startswith("old")]


def rows(path: Path, sql: str) -> list[Any]:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_any_size_of_slice_removes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for number, slice_ in enumerate((0.0, 0.001, 0.2)):
        monkeypatch.setattr(removing, "SLICE", slice_)
        path = tmp_path / f"{number}.db"
        with SQLiteLog(path) as store:
            fill(store, 4)
            done = store.delete(["old0", "old3", "old1"])
            found.add(done)
            assert old_sessions(store) == ["old2"]
            assert store.verify("old2")
        assert rows(path, "SELECT count(*) FROM blobs") == [(2,)]
        assert rows(path, "SELECT count(DISTINCT session) FROM appends") == [(1,)]
    assert len(found) == 1
    assert found.pop()[:2] == (3, 3)


REMOVES = """
import sys, time
from pathlib import Path
from lllm.log import SQLiteLog, removing

real = removing.Sweep._events
def events(self, keys):
    if len(keys) < 3:
        print("midway", flush=True)
        time.sleep(60)
    real(self, keys)

removing.Sweep._events = events
removing.SLICE = 0.0
SQLiteLog(Path(sys.argv[1])).delete(["old0", "old1", "old2"])
"""


def test_what_a_killed_removal_left_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteLog(path) as store:
        fill(store, 4)
    process = subprocess.Popen([sys.executable, "-c", REMOVES, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "midway\n"
        process.kill()
    assert rows(path, "SELECT count(*) FROM sessions WHERE id LIKE '~removed-%'")[0][0] > 0
    with SQLiteLog(path) as store:
        assert old_sessions(store) == ["old3"]
        assert [info.id for info in store.sessions(prefix="~")] == []
        for name in ("old0", "~removed-1"):
            with pytest.raises(UnknownNameError, match="old3") as caught:
                store.read(name)
            assert "~removed-2" not in str(caught.value)
        writer = Writer("new", BEGAN + 50)
        asyncio.run(store.append([writer.start(), writer.end()]))
        again = Writer("old0", BEGAN + 60)  # a name may be used again
        asyncio.run(store.append([again.start(), again.end()]))
        assert store.verify("new")
        assert store.delete(["new"]).sessions == 1
        assert {info.id for info in store.sessions()} == {"old3", "old0"}
    assert rows(path, "SELECT count(*) FROM sessions") == [(2,)]
    assert rows(path, "SELECT count(DISTINCT session) FROM appends") == [(2,)]
    assert rows(path, "SELECT count(*) FROM blobs") == [(2,)]


def test_two_do_not_remove_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    claims = Claims(tmp_path / "sessions.db-writers")
    with SQLiteLog(path) as store:
        fill(store, 1)
        claims.claim(REMOVING)
        with pytest.raises(LogWriteError, match="another process is removing"):
            store.delete(["old0"])
        claims.release(REMOVING)
        assert store.delete(["old0"]).sessions == 1
    claims.close()


def test_a_file_is_written_anew_only_while_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    claims = Claims(tmp_path / "sessions.db-writers")
    with SQLiteLog(path) as store:
        fill(store, 6)
        claims.claim("somebody")
        store.delete(["old0", "old1"])
        assert rows(path, "PRAGMA freelist_count")[0][0] > 100
        claims.release("somebody")
        store.delete(["old2"])
        assert rows(path, "PRAGMA freelist_count")[0][0] == 0
        store.delete(["old3"])
        # somebody begins while it is being written
        looks = iter([True, True])
        monkeypatch.setattr(removing, "_STEPS", 10)
        database = open_writer(path, "normal")
        database.execute("DELETE FROM blobs")
        removing.compact(database, lambda: next(looks, False))
        database.close()
        assert rows(path, "PRAGMA freelist_count")[0][0] > 100
        assert store.verify("old5")
    claims.close()


def test_an_append_waits_for_a_file_that_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    claims = Claims(tmp_path / "sessions.db-writers")
    writer = Writer("live", BEGAN)

    async def wait(store: SQLiteLog, other: sqlite3.Connection) -> None:
        append = asyncio.ensure_future(store.append([writer.event()]))
        while not claims.held(WAITING):
            await asyncio.sleep(0.001)
        done, _ = await asyncio.wait((append,), timeout=5 * PATIENCE)
        assert not done
        other.execute("COMMIT")
        claims.release(COMPACTING)
        await append
        assert not claims.held(WAITING)

    with SQLiteLog(path, busy_timeout=PATIENCE) as store:
        asyncio.run(store.append([writer.start()]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        claims.claim(COMPACTING)
        asyncio.run(wait(store, other))
        other.close()
        assert store.verify("live")
    claims.close()


# --- what is written while a removal looks through the log


def test_a_blob_that_is_named_again_meanwhile_stays_in_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    blob = b"again" * 1000
    with SQLiteLog(path) as store, SQLiteLog(path) as other:
        writer = Writer("old", BEGAN)
        asyncio.run(
            store.append(
                [writer.start(), writer.event(data=digest(blob)), writer.end()], {digest(blob): blob}
            )
        )
        real = removing.Sweep._look

        def look(self: Any, left: set[bytes], after: int) -> int:
            last = real(self, left, after)
            if not after:
                live = Writer("live", BEGAN + 1)
                asyncio.run(other.append([live.start(), live.event(data=digest(blob))], {digest(blob): blob}))
            return last

        monkeypatch.setattr(removing.Sweep, "_look", look)
        assert store.delete(["old"])[:2] == (1, 0)
        assert store.blob(digest(blob)) == blob


def test_a_blob_that_is_named_again_meanwhile_stays_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = b"again" * 1000
    with LocalFileLog(tmp_path) as store, LocalFileLog(tmp_path) as other:
        writer = Writer("old", BEGAN)
        asyncio.run(
            store.append(
                [writer.start(), writer.event(data=digest(blob)), writer.end()], {digest(blob): blob}
            )
        )
        real = LocalFileLog._named

        def named(self: LocalFileLog, left: set[bytes], read: dict[str, int]) -> None:
            first = not read
            real(self, left, read)
            if first and left:
                read.setdefault("seen", 0)
                live = Writer("live", BEGAN + 1)
                asyncio.run(other.append([live.start(), live.event(data=digest(blob))], {digest(blob): blob}))

        monkeypatch.setattr(LocalFileLog, "_named", named)
        assert store.delete(["old"])[:2] == (1, 0)
        assert store.blob(digest(blob)) == blob


@pytest.mark.parametrize("kind", ["files", "postgres"])
def test_nobody_waits_for_a_removal_that_looks_through_the_log(
    kind: str, place: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go = threading.Event(), threading.Event()
    if kind == "files":
        real = LocalFileLog._named

        def named(self: Any, *args: Any) -> Any:
            looking.set()
            assert go.wait(60)
            return real(self, *args)

        monkeypatch.setattr(LocalFileLog, "_named", named)
    else:
        from lllm.log.postgres import store as module

        unnamed: Any = module.unnamed  # type: ignore[attr-defined]

        def slow(digests: Any, bodies: Any) -> Any:
            looking.set()
            assert go.wait(60)
            return unnamed(digests, bodies)

        monkeypatch.setattr(module, "unnamed", slow)
    with KINDS[kind](place(kind)) as store:
        for info in store.sessions():
            go.set()
            store.delete([info.id])
        go.clear()
        looking.clear()
        fill(store, 2)
        removal = threading.Thread(target=store.delete, args=(["old0"],))
        removal.start()
        try:
            assert looking.wait(60)
            writer = Writer("live", BEGAN + 9)
            blobs = {digest(b"shared" * 1000): b"shared" * 1000}
            store.claim("live")
            begun = [writer.start(), writer.event(data=list(blobs))]
            asyncio.run(asyncio.wait_for(store.append(begun, blobs), 30))
            store.release("live")
            assert list(store.read("live"))
        finally:
            go.set()
            removal.join()
        assert {info.id for info in store.sessions()} == {"old1", "live"}
        assert store.blob(digest(b"shared" * 1000))
