"""What is special about the SQLite store: its file, other processes, crashes, full disks, forks, checkpoints."""

import asyncio
import gc
import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.core import canonical
from lllm.core.canonical import digest
from lllm.errors import ConfigError, LogCorrupt, LogError, LogWriteError, UnknownNameError
from lllm.log import SQLiteLog
from lllm.log import schema as schema_module
from lllm.log import sqlite as sqlite_module
from tests.log.events import Writer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "s.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteLog]:
    with SQLiteLog(path) as made:
        yield made


def run(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, text=True, capture_output=True, timeout=300,
        **options,
    )  # fmt: skip


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("collects", [True, False])
async def test_a_listing_leaves_the_garbage_collector_as_it_was(
    collects: bool, store: SQLiteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append([Writer("s").start()])
    (gc.enable if collects else gc.disable)()
    try:
        assert len(store.sessions()) == 1
        assert gc.isenabled() is collects

        def broken(stored: bytes) -> None:
            assert not gc.isenabled()
            raise MemoryError

        monkeypatch.setattr(sqlite_module.base, "Meta", broken)
        with pytest.raises(MemoryError):
            store.sessions()
        assert gc.isenabled() is collects
    finally:
        gc.enable()


async def test_an_event_per_row_for_queries_by_hand(store: SQLiteLog, path: Path) -> None:
    writer = Writer("s")
    records = [writer.start(task="x"), writer.event("Noted", ["é", 1.5], call="c1"), writer.event()]
    await store.append(records[:2])
    await store.append(records[2:])
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT session, seq, at, kind, call, dialog, data, hash FROM events"
        ).fetchall()
    database.close()
    assert [json.loads(row[6]) for row in rows] == [{"task": "x"}, ["é", 1.5], None]
    assert [(*row[:6], row[7]) for row in rows] == [
        (r.session, r.seq, r.at, r.kind, r.call, None, r.hash) for r in records
    ]


async def test_nothing_lies_beside_a_closed_file(store: SQLiteLog, path: Path) -> None:
    await store.append([Writer("s").start()])
    list(store.read("s"))
    store.close()
    assert os.listdir(path.parent) == ["s.db"]


async def test_a_file_that_is_not_a_database(store: SQLiteLog, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("this is no database\n" * 500)
    with pytest.raises(LogCorrupt, match="is not a readable SQLite database"):
        await store.append([Writer("s").start()])
    with pytest.raises(LogCorrupt, match="is not a readable SQLite database"):
        store.sessions()


async def test_the_database_of_somebody_else(store: SQLiteLog, path: Path) -> None:
    path.parent.mkdir(parents=True)
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LogCorrupt, match="not a log of lllm"):
        await store.append([Writer("s").start()])
    with pytest.raises(LogCorrupt, match="not a log of lllm"):
        store.read("s")
    assert path.read_bytes() == before


async def test_a_damaged_database(store: SQLiteLog, path: Path) -> None:
    await store.append(Writer("s").events(400))
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with SQLiteLog(path) as again, pytest.raises(LogCorrupt):
        list(again.read("s"))


async def test_a_torn_blob(store: SQLiteLog, path: Path) -> None:
    await store.append([Writer("s").start()], {digest(b"data"): b"data"})
    store.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE blobs SET data = x'00'")
    database.commit()
    database.close()
    with SQLiteLog(path) as again, pytest.raises(LogCorrupt, match="changed after it was written"):
        again.blob(digest(b"data"))


async def test_a_later_schema_says_what_to_do(store: SQLiteLog, path: Path) -> None:
    await store.append([Writer("s").start()])
    store.close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with SQLiteLog(path) as again:
        with pytest.raises(LogError, match="schema 99"):
            again.sessions()
        with pytest.raises(LogError, match="git pull && pip install"):
            await again.append([Writer("t").start()])


async def test_migrations_run_once_and_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(session: str) -> None:
        with SQLiteLog(path) as store:
            await store.append([Writer(session).start()])

    await write("a")
    later = [
        lambda database: database.execute("ALTER TABLE blobs ADD COLUMN note TEXT"),
        lambda database: database.execute("UPDATE meta SET value = value + 1 WHERE name = 'checkpoints'"),
    ]
    monkeypatch.setattr(schema_module, "MIGRATIONS", [*schema_module.MIGRATIONS, *later])
    await write("b")
    await write("c")
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (len(schema_module.MIGRATIONS),)
    assert database.execute("SELECT value FROM meta").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM sessions").fetchone() == (3,)
    database.close()


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(database: sqlite3.Connection) -> None:
        database.execute("DROP TABLE blobs")
        database.execute("DROP TABLE no_such_table")

    with SQLiteLog(path) as store:
        await store.append([Writer("a").start()], {digest(b"x"): b"x"})
    with monkeypatch.context() as patch:
        patch.setattr(schema_module, "MIGRATIONS", [*schema_module.MIGRATIONS, broken])
        with SQLiteLog(path) as store, pytest.raises(LogWriteError, match="no_such_table"):
            await store.append([Writer("b").start()])
    with SQLiteLog(path) as store:
        assert store.blob(digest(b"x")) == b"x"


def test_settings_that_do_not_exist(path: Path) -> None:
    with pytest.raises(ConfigError, match="MemoryLog"):
        SQLiteLog(":memory:")
    with pytest.raises(ConfigError, match="'normal' or 'full'"):
        SQLiteLog(path, synchronous="off")  # type: ignore[arg-type]


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with SQLiteLog(tmp_path / "file" / "s.db") as store:
        with pytest.raises(LogWriteError, match="could not be written"):
            await store.append([Writer("s").start()])
        assert store.sessions() == []


READ_ONLY = """
import asyncio, os, sys
from lllm.errors import LogWriteError
from lllm.log import SQLiteLog
from tests.log.events import Writer

store = SQLiteLog(sys.argv[1])  # all imports are done before the user changes
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print([info.id for info in store.sessions()], len(list(store.read("s"))))
try:
    asyncio.run(store.append([Writer("t").start()]))
except LogWriteError as error:
    print("refused:", error)
store.close()
"""


async def test_a_read_only_folder_is_readable() -> None:
    with (
        tempfile.TemporaryDirectory() as above
    ):  # not tmp_path: root's is closed to the user that the test becomes
        os.chmod(above, 0o755)
        folder = Path(above) / "log"
        with SQLiteLog(folder / "s.db") as store:
            await store.append(Writer("s").events(3))
        (folder / "s.db").chmod(0o444)
        folder.chmod(0o555)
        outcome = run(READ_ONLY, folder / "s.db")
        folder.chmod(0o755)
    assert outcome.stderr == ""
    assert "['s'] 3\nrefused: " in outcome.stdout
    assert "could not be written" in outcome.stdout


# --- crashes and full disks ------------------------------------------------------------------------------------------

ENDLESS = """
import asyncio, sys
from lllm.log import SQLiteLog
from tests.log.events import Writer

async def write(store, session):
    writer = Writer(session)
    while True:
        await store.append(writer.events(2, "x" * 500))
        print(session, writer.seq, flush=True)

async def main():
    store = SQLiteLog(sys.argv[1])
    await asyncio.gather(*(write(store, f"s{n}") for n in range(int(sys.argv[2]))))

asyncio.run(main())
"""


@pytest.mark.parametrize("tasks", [1, 20])
def test_kill_9_loses_nothing_that_was_acknowledged(path: Path, tasks: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), str(tasks)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged: dict[str, int] = {}
    for number, line in enumerate(process.stdout):
        if not line.endswith("\n"):
            break  # the last line it began to print
        session, seq = line.split()
        acknowledged[session] = int(seq)
        if number == 1500:
            process.send_signal(signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL
    process.stdout.close()
    with SQLiteLog(path) as store:
        for session, count in acknowledged.items():
            log = list(store.read(session))
            assert len(log) >= count
            assert len(log) % 2 == 0  # appends are atomic
            assert store.verify(session)
        writer = Writer("s0", seq=len(list(store.read("s0"))))
        asyncio.run(store.append([writer.event()]))


async def test_a_full_database(store: SQLiteLog, path: Path) -> None:
    writer = Writer("s")
    await store.append([writer.start()])
    assert store._writer is not None
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 3}")
    outcomes = [None]
    stored = 0
    while outcomes == [None]:
        stored += 1
        append = store.append([Writer("s", seq=stored).event(data="x" * 3000)])
        outcomes = await asyncio.gather(append, return_exceptions=True)
    message = str(outcomes[0])
    assert "no room left" in message
    assert str(path) in message
    assert "point log_dir" in message
    assert len(list(store.read("s"))) == stored
    # a group that does not fit fails alone, those that do are kept
    big, small = Writer("big").event(data="x" * 100_000), Writer("s", seq=stored).event()
    outcomes = await asyncio.gather(store.append([big]), store.append([small]), return_exceptions=True)
    assert isinstance(outcomes[0], LogWriteError)
    assert outcomes[1] is None
    store._writer.execute("PRAGMA max_page_count = 1000000")
    await store.append([big])
    assert list(store.read("big")) == [big.body]


LIMITED = """
import asyncio, resource, sys
from lllm.errors import LogWriteError
from lllm.log import SQLiteLog
from tests.log.events import Writer

async def main():
    store = SQLiteLog(sys.argv[1])
    writer = Writer("s")
    await store.append([writer.start()])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    stored = 1
    try:
        while True:
            await store.append(writer.events(1, "x" * 2000))
            stored += 1
    except LogWriteError as error:
        print(stored, error)
    store.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow(path: Path) -> None:
    outcome = run(LIMITED, path)
    assert outcome.stderr == ""
    stored, _, message = outcome.stdout.partition(" ")
    assert str(path) in message
    assert "log_dir" in message
    with SQLiteLog(path) as store:
        assert len(list(store.read("s"))) == int(stored)
        assert store.verify("s")


# --- other processes -------------------------------------------------------------------------------------------------


async def test_a_locked_file_holds_up_neither_loop_nor_events(path: Path) -> None:
    with SQLiteLog(path, busy_timeout=120) as store:
        writer = Writer("s")
        await store.append([writer.start()])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(store.append([Writer(f"s{n}").start()])) for n in range(3)]
        waiting.append(asyncio.create_task(store.append([writer.event()])))
        began = time.perf_counter()
        for _ in range(50):
            await asyncio.sleep(0.002)
        assert time.perf_counter() - began < 60  # the loop went on; had it waited for the lock, it were 120
        assert not any(task.done() for task in waiting)
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*waiting)
        assert len(store.sessions()) == 4
        assert len(list(store.read("s"))) == 2


async def test_a_file_that_stays_locked(path: Path) -> None:
    with SQLiteLog(path, busy_timeout=0.05) as store:
        writer = Writer("s")
        await store.append([writer.start()])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        event = writer.event()
        with pytest.raises(LogWriteError, match=r"locked by another process for 0\.05 seconds"):
            await store.append([event])
        other.execute("ROLLBACK")
        other.close()
        await store.append([event])


async def test_the_second_writer_of_a_session_is_refused(path: Path) -> None:
    writer = Writer("s")
    with SQLiteLog(path) as one, SQLiteLog(path) as other:
        await one.append([writer.start()])
        record = Writer("s", seq=1, prev=writer.prev).event("FromOther")
        await other.append([record])  # goes on where the first one stopped ...
        with pytest.raises(LogWriteError, match="Another process or task writes this session"):
            await one.append([writer.event()])  # ... which therefore cannot
        assert list(one.read("s"))[1] == record.body


# --- one transaction for many, loops and threads ---------------------------------------------------------------------


async def test_appends_of_one_turn_are_one_transaction(store: SQLiteLog) -> None:
    await store.append([Writer("first").start()])
    statements: list[str] = []
    assert store._writer is not None
    store._writer.set_trace_callback(statements.append)

    async def write(number: int) -> None:
        for record in Writer(f"s{number}").events(3):
            await store.append([record])

    await asyncio.gather(*map(write, range(100)))
    store._writer.set_trace_callback(None)
    assert statements.count("COMMIT") + sum("INSERT INTO appends" in each for each in statements) < 310
    assert statements.count("COMMIT") <= 4


async def test_alone_an_append_is_one_statement(store: SQLiteLog) -> None:
    writer = Writer("s")
    await store.append([writer.start()])
    await asyncio.sleep(0)
    statements: list[str] = []
    assert store._writer is not None
    store._writer.set_trace_callback(statements.append)
    await store.append(writer.events(3))
    store._writer.set_trace_callback(None)
    assert len(statements) == 1


async def test_a_task_that_only_appends_can_be_stopped(store: SQLiteLog) -> None:
    writer = Writer("s")

    async def endless() -> None:
        while writer.seq < 100_000:
            await store.append(writer.events(1))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(endless(), 0.1)
    assert store.verify("s")


async def test_large_blobs_are_written_by_the_helper(
    store: SQLiteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, threads = Writer("s"), set[str]()
    transaction = store._transaction

    def spy(appends: list[Any]) -> None:
        threads.add(threading.current_thread().name)
        transaction(appends)

    monkeypatch.setattr(store, "_transaction", spy)
    await store.append([writer.start()])
    assert threads == {"lllm-log"}  # which also opened the file
    for size, thread in ((1000, "MainThread"), (1_000_000, "lllm-log"), (2000, "MainThread")):
        threads.clear()
        data = bytes(size)
        await store.append([writer.event()], {digest(data): data})
        assert threads == {thread}
        assert store.blob(digest(data)) == data


async def test_the_write_ahead_log_stays_small_and_the_loop_goes_on(
    store: SQLiteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "CHECKPOINT_BYTES", 400_000)
    largest = 0

    async def write(number: int) -> None:
        nonlocal largest
        writer = Writer(f"s{number}")
        for _ in range(60):
            await store.append(writer.events(2, "x" * 1000))
            largest = max(largest, os.path.getsize(f"{path}-wal"))

    await asyncio.gather(*map(write, range(40)))
    assert sum(info.events for info in store.sessions()) == 4800
    assert largest < 4_000_000
    database = sqlite3.connect(path)
    assert database.execute("SELECT value FROM meta WHERE name = 'checkpoints'").fetchone()[0] >= 5
    database.close()


async def test_a_loop_that_ended_before_its_turn(store: SQLiteLog) -> None:
    def start_and_leave() -> None:
        loop = asyncio.new_event_loop()
        coroutine = store.append([Writer("left").start()])
        task = loop.create_task(coroutine)
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        loop._ready.clear()  # type: ignore[attr-defined]  # as if the process had been stopped right here
        loop.close()

    thread = threading.Thread(target=start_and_leave)
    thread.start()
    thread.join()
    await store.append([Writer("s").start()])
    store.close()
    with SQLiteLog(store.path) as again:
        assert {info.id for info in again.sessions()} >= {"s"}


async def test_many_sessions_are_not_all_remembered(
    store: SQLiteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "_KNOWN", 3)
    writers = [Writer(f"s{n}") for n in range(10)]
    for _ in range(3):
        for writer in writers:
            await store.append([writer.event()])
    assert len(store._known) <= 3
    assert [info.events for info in store.sessions()] == [3] * 10


# --- forks -----------------------------------------------------------------------------------------------------------


def write_in_child(store: SQLiteLog, session: str) -> None:
    async def write() -> None:
        writer = Writer(session)
        for _ in range(20):
            await store.append(writer.events(2))

    asyncio.run(write())
    assert len(list(store.read(session))) == 40
    store.close()


def test_a_fork_goes_on_with_connections_of_its_own(store: SQLiteLog) -> None:
    parent = Writer("parent")
    asyncio.run(store.append(parent.events(2)))
    list(store.read("parent"))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=write_in_child, args=(store, f"child{n}")) for n in range(3)]
    for child in children:
        child.start()
        asyncio.run(store.append(parent.events(2)))
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0, 0, 0]
    asyncio.run(store.append(parent.events(2)))
    assert {info.id: info.events for info in store.sessions()} == {
        "parent": 10, "child0": 40, "child1": 40, "child2": 40,
    }  # fmt: skip
    for info in store.sessions():
        assert store.verify(info.id)


def test_a_fork_that_outlives_its_parents_store(store: SQLiteLog, path: Path) -> None:
    asyncio.run(store.append([Writer("parent").start()]))
    list(store.read("parent"))
    context = multiprocessing.get_context("fork")
    go = context.Event()

    def late() -> None:
        asyncio.run(store.append([Writer("early").start()]))
        go.wait(300)
        write_in_child(store, "late")

    child = context.Process(target=late)
    child.start()
    store.close()
    go.set()
    child.join(300)
    assert child.exitcode == 0
    with SQLiteLog(path) as again:
        assert {info.id for info in again.sessions()} == {"parent", "early", "late"}


def test_many_processes_make_the_file_at_once(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=write_in_child, args=(SQLiteLog(path, busy_timeout=120), f"s{n}"))
        for n in range(8)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0] * 8
    with SQLiteLog(path) as store:
        assert [info.events for info in store.sessions()] == [40] * 8


def test_the_end_of_the_process_writes_all(path: Path) -> None:
    program = """
import asyncio, sys
from lllm.log import SQLiteLog
from tests.log.events import Writer
store = SQLiteLog(sys.argv[1])
asyncio.run(store.append([Writer("s").start()]))
"""
    outcome = run(program, path)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert os.listdir(path.parent) == ["s.db"]
    with SQLiteLog(path) as store:
        assert store.sessions()[0].id == "s"
        with pytest.raises(UnknownNameError):
            store.read("t")


def test_importing_the_package_loads_no_database() -> None:
    outcome = run("import sys, lllm.log; print('sqlite3' in sys.modules, 'asyncio' in sys.modules)")
    assert outcome.stdout == "False False\n"


# --- listing ---------------------------------------------------------------------------------------------------------


async def test_an_ended_session_is_listed_from_its_row_alone(path: Path) -> None:
    """Until it goes on: then its last event counts again."""

    def listed() -> list[tuple[str, str, int, int]]:
        with SQLiteLog(path) as store:
            return [(info.id, info.status, info.events, info.updated) for info in store.sessions()]

    one = Writer("s")
    with SQLiteLog(path) as store:
        await store.append([one.start(), end := one.event("SessionEnded", {"status": "failed"})])
    database = sqlite3.connect(path)
    database.execute("UPDATE appends SET at = 1")  # nobody looks there
    database.commit()
    assert listed() == [("s", "failed", 2, end.at)]
    for again in (True, False):  # by a store that knows the session, and by one that does not
        with SQLiteLog(path) as store:
            await store.append([more := one.event()])
            assert [(info.status, info.events, info.updated) for info in store.sessions()] == [
                ("running", end.seq + 2, more.at)
            ]
            await store.append([end := one.event("SessionEnded", {"status": "done"})])
            assert [info.status for info in store.sessions()] == ["done"]
            if again:
                await store.append([one.event()])
                assert [info.status for info in store.sessions()] == ["running"]
                await store.append([end := one.event("SessionEnded", {"status": "done"})])
        assert listed() == [("s", "done", end.seq + 1, end.at)]
    database.close()


async def test_what_a_session_began_with_is_decoded_when_it_is_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    decode = canonical.decode

    def seen(body: bytes) -> Any:
        decoded.append(body)
        return decode(body)

    monkeypatch.setattr(canonical, "decode", seen)
    with SQLiteLog(path) as store:
        await store.append([Writer("s").event("SessionStarted", {"name": "n", "task": ["é"]})])
        decoded.clear()
        [info] = store.sessions()
        assert not decoded
        assert info.meta["task"] == ["é"]
    data = {"name": "n", "task": ["é"]}
    assert (info.meta, dict(info.meta), len(info.meta), repr(info.meta)) == (data, data, 2, repr(data))
    assert len(decoded) == 1
    assert pickle.loads(pickle.dumps(info)) == info
