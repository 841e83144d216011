"""What leaves a log, and that nothing else does: on every store."""

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lllm.core.canonical import digest
from lllm.errors import ConfigError, LogWriteError, UnknownNameError
from lllm.log import LocalFileLog, MemoryLog, NoLog, PostgresLog, ReplayableLogBase, SQLiteLog
from lllm.log.base import Deleted
from lllm.log.prune import Limits, prune
from tests.log.events import BEGAN, Writer, bodies

DAY = 86_400_000_000
NOW = BEGAN + 100 * DAY
ALL, ONE, TWO = b"in all of them" * 50, b"in the first" * 500, b"in two of them" * 5000

KINDS: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": lambda folder: LocalFileLog(folder / "files"),
    "memory": lambda folder: MemoryLog(),
}


@pytest.fixture(params=[*KINDS, "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReplayableLogBase]:
    if request.param == "postgres":
        name = "prune_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        made: ReplayableLogBase = PostgresLog(request.getfixturevalue("postgres_url"), schema=name)
    else:
        made = KINDS[request.param](tmp_path)
    with made:
        yield made


def fill(store: ReplayableLogBase, count: int = 5) -> dict[str, list[bytes]]:
    """Sessions s0 (the oldest, 100 days old) to s4, 20 days apart. The last but one failed, the last runs."""
    written = {}
    for number in range(count):
        writer = Writer(f"s{number}", BEGAN + number * 20 * DAY)
        blobs = [ALL, *([ONE] if number == 0 else []), *([TWO] if number in (1, 2) else [])]
        records = [writer.start(number=number), writer.event(data=[digest(blob) for blob in blobs])]
        records += writer.events(10)
        if number < count - 1:
            records.append(writer.end("failed" if number == count - 2 else "done"))
        asyncio.run(store.append(records[:5], {digest(blob): blob for blob in blobs}))
        asyncio.run(store.append(records[5:]))
        written[f"s{number}"] = bodies(records)
    return written


def names(store: ReplayableLogBase) -> list[str]:
    return [info.id for info in store.sessions()]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (Limits(older_than=50 * 86400), ["s4", "s3"]),
        (Limits(older_than=1000 * 86400), ["s4", "s3", "s2", "s1", "s0"]),
        (Limits(keep=3), ["s4", "s3", "s2"]),
        (Limits(keep=0), []),
        (Limits(keep=9), ["s4", "s3", "s2", "s1", "s0"]),
        (Limits(status="failed"), ["s4", "s2", "s1", "s0"]),
        (Limits(status="interrupted"), ["s3", "s2", "s1", "s0"]),
        (Limits(status="done", keep=1), ["s4", "s3", "s2"]),
        (Limits(older_than=90 * 86400, keep=4), ["s4", "s3", "s2", "s1"]),
    ],
)
def test_limits(store: ReplayableLogBase, limits: Limits, left: list[str]) -> None:
    written = fill(store)
    told = prune(store, limits, dry_run=True, now=NOW)
    assert names(store) == ["s4", "s3", "s2", "s1", "s0"]
    done = prune(store, limits, now=NOW)
    assert done == told
    assert names(store) == left
    assert [info.id for info in done.sessions] == [
        name for name in ("s4", "s3", "s2", "s1", "s0") if name not in left
    ]
    for name in left:
        assert list(store.read(name)) == written[name]
        assert store.verify(name)
    for name in written.keys() - set(left):
        with pytest.raises(UnknownNameError):
            store.read(name)


def test_a_size(store: ReplayableLogBase) -> None:
    written = fill(store)
    sizes = {name: sum(map(len, lines)) for name, lines in written.items()}
    three = sizes["s4"] + sizes["s3"] + sizes["s2"] + len(ALL) + len(TWO)
    assert prune(store, Limits(max_size=three), dry_run=True).bytes == sizes["s0"] + sizes["s1"] + len(ONE)
    done = prune(store, Limits(max_size=three))
    assert names(store) == ["s4", "s3", "s2"]
    assert (done.blobs, done.bytes) == (1, sizes["s0"] + sizes["s1"] + len(ONE))
    prune(store, Limits(max_size=three - 1))
    assert names(store) == ["s4", "s3"]
    prune(store, Limits(max_size=0))
    assert names(store) == []


def test_blobs_go_with_the_last_session_that_names_them(store: ReplayableLogBase) -> None:
    fill(store)
    assert store.delete(["s0", "s1"]).blobs == 1
    assert store.blob(digest(ALL)) == ALL
    assert store.blob(digest(TWO)) == TWO
    with pytest.raises(UnknownNameError):
        store.blob(digest(ONE))
    assert store.delete(["s2", "s3"]).blobs == 1
    assert store.delete(["s4"]).blobs == 1
    for blob in (ALL, ONE, TWO):
        with pytest.raises(UnknownNameError):
            store.blob(digest(blob))
    assert store.delete([]) == Deleted(0, 0, 0)


def test_what_is_written_stays(store: ReplayableLogBase) -> None:
    fill(store)
    store.claim("s4")
    store.claim("s1")
    for dry in (True, False):
        done = prune(store, Limits(keep=0), dry_run=dry)
        assert [info.id for info in done.held] == ["s4", "s1"]
    assert names(store) == ["s4", "s1"]
    with pytest.raises(LogWriteError, match="written by somebody else"):
        store.delete(["s4"])
    store.release("s4")
    with pytest.raises(LogWriteError):
        store.delete(["s4", "s1"])
    assert names(store) == ["s4", "s1"]
    assert not store.held("s4")
    store.release("s1")
    prune(store, Limits(keep=0))
    assert names(store) == []


def test_an_unknown_session_is_not_deleted(store: ReplayableLogBase) -> None:
    fill(store)
    with pytest.raises(UnknownNameError):
        store.delete(["s0", "s9"])
    assert len(names(store)) == 5
    assert not store.held("s0")


def test_a_name_can_be_used_again(store: ReplayableLogBase) -> None:
    fill(store)
    store.delete(["s4", "s2"])
    writer = Writer("s2", BEGAN + 40 * DAY)
    store.claim("s2")
    records = [writer.start(number=2), writer.event(), writer.end()]
    asyncio.run(store.append(records))
    store.release("s2")
    assert list(store.read("s2")) == bodies(records)
    assert names(store) == ["s3", "s2", "s1", "s0"]


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(keep=-1), Limits(status="running"), Limits(status="faild")]
)
def test_no_limit_removes_nothing(limits: Limits) -> None:
    store = MemoryLog()
    fill(store)
    with pytest.raises(ConfigError):
        prune(store, limits)
    assert len(names(store)) == 5


def test_a_log_that_is_off() -> None:
    assert prune(NoLog(), Limits(keep=0)).sessions == []


def test_sqlite_gives_room_back(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteLog(path) as store:
        for number in range(4):
            blob = bytes([number]) * 3_000_000
            writer = Writer(f"s{number}", BEGAN + number)
            asyncio.run(store.append([writer.start(), writer.event(data=digest(blob))], {digest(blob): blob}))
        store.delete(["s0", "s1", "s2"])
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3_500_000
        assert store.verify("s3")
        writer = Writer("s4", BEGAN + 9)
        asyncio.run(store.append([writer.start()]))
        assert names(store) == ["s4", "s3"]


READS = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("BEGIN")
database.execute("SELECT count(*) FROM appends").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


def test_sqlite_is_pruned_under_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteLog(path) as store:
        fill(store)
        reader = subprocess.Popen(
            [sys.executable, "-c", READS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            prune(store, Limits(keep=2))
            assert names(store) == ["s4", "s3"]
            reader.stdin.close()  # type: ignore[union-attr]


def test_sqlite_waits_for_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteLog(path, busy_timeout=0.2) as store:
        fill(store)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogWriteError, match="locked by another process"):
            store.delete(["s0"])
        other.execute("COMMIT")
        other.close()
        assert len(names(store)) == 5
        store.delete(["s0"])
        assert len(names(store)) == 4


def test_a_session_that_another_process_writes_without_a_claim(tmp_path: Path) -> None:
    with LocalFileLog(tmp_path) as one, LocalFileLog(tmp_path) as other:
        fill(one)
        with pytest.raises(LogWriteError, match="written by another process"):
            other.delete(["s0", "s4"])  # s4 has no end, so its file is still open
        assert len(names(one)) == 5
