"""The Postgres store on a real server: leases, fences, followers, a server that dies, and errors without passwords."""

import asyncio
import hashlib
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lllm.core.canonical import digest
from lllm.core.envelope import verify_chain
from lllm.errors import ConfigError, LogError, LogWriteError, UnknownNameError
from lllm.log import MemoryLog, PostgresLog, SQLiteLog, open_store
from lllm.log.copy import copy_session
from lllm.log.postgres import schema as tables
from lllm.log.postgres.address import Address
from lllm.session import Session
from tests.log.events import Writer, bodies
from tests.servers.postgres import PASSWORD, Server, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def schema(tmp_path: Path) -> str:
    return "live_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]


@pytest.fixture
def store(postgres_url: str, schema: str) -> Iterator[PostgresLog]:
    with PostgresLog(postgres_url, schema=schema) as made:
        yield made


@pytest.fixture
def other(postgres_url: str, schema: str) -> Iterator[PostgresLog]:
    """A second store on the same tables, as another process would have it."""
    with PostgresLog(postgres_url, schema=schema) as made:
        yield made


def query(url: str, statement: str, *values: object) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement, values)
        return done.fetchall() if done.description else []


# --- one session, one writer


def test_a_second_writer_is_refused(store: PostgresLog, other: PostgresLog) -> None:
    assert not other.held("s")
    store.claim("s")
    assert store.held("s")
    assert other.held("s")
    for second in (other, store):
        with pytest.raises(LogWriteError, match="written by somebody else"):
            second.claim("s")
    other.claim("t")
    store.release("s")
    assert not other.held("s")
    other.claim("s")
    with pytest.raises(LogWriteError):
        store.claim("s")


async def test_who_has_no_lease_writes_nothing(store: PostgresLog, other: PostgresLog) -> None:
    store.claim("s")
    first, second = Writer("s").events(2)
    with pytest.raises(LogWriteError, match="written by somebody else"):
        await other.append([first])
    assert list(other.sessions()) == []
    await store.append([first])
    with pytest.raises(LogWriteError, match="written by somebody else"):
        await other.append([second])
    store.release("s")
    await other.append([second])
    assert list(store.read("s")) == bodies([first, second])


def test_closing_gives_leases_back(postgres_url: str, schema: str, other: PostgresLog) -> None:
    with PostgresLog(postgres_url, schema=schema) as store:
        store.claim("s")
        assert other.held("s")
    assert not other.held("s")
    with pytest.raises(LogWriteError, match="closed"):
        store.claim("s")
    assert not other.held("s")


async def test_a_lost_lease_is_a_fence(postgres_url: str, schema: str, other: PostgresLog) -> None:
    # its heart does not beat: the thread that renews has nothing to do before the lease has run out
    with PostgresLog(postgres_url, schema=schema, lease=3600) as slow:
        records = Writer("s").events(3)
        slow.claim("s")
        await slow.append(records[:1])
        with pytest.raises(LogWriteError):
            other.claim("s")
        query(postgres_url, f"UPDATE {schema}.leases SET until = now() - interval '1 second'")
        await slow.append(records[1:2])  # run out, but nobody has taken it
        other.claim("s")
        with pytest.raises(LogWriteError, match="has another writer now"):
            await slow.append(records[2:])
        with pytest.raises(LogWriteError, match="has another writer now"):
            await slow.append(records[2:])
        assert len(list(other.read("s"))) == 2
        await other.append(records[2:])
        other.release("s")
        with pytest.raises(LogWriteError, match="has another writer now"):
            await slow.append([Writer("s", seq=3).event()])  # also when nobody has it any more
        slow.claim("s")
        await slow.append([Writer("s", seq=3, prev=records[2].hash).event()])
        assert slow.verify("s") == other.verify("s")


async def test_a_heart_beats(postgres_url: str, schema: str, other: PostgresLog) -> None:
    with PostgresLog(postgres_url, schema=schema, lease=0.6) as store:
        store.claim("first")  # from now on it beats three times in 0.6 s
        store._leases.seconds = 300  # but a beat that is late loses nothing
        store.claim("s")
        (until,) = query(postgres_url, f"SELECT until FROM {schema}.leases WHERE session = 's'")[0]
        for _ in range(6000):
            if query(
                postgres_url,
                f"SELECT 1 FROM {schema}.leases WHERE session = 's' AND until > %s + interval '1 second'",
                until,
            ):
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("the lease was not renewed")
        with pytest.raises(LogWriteError):
            other.claim("s")


DIES = """
import asyncio, sys
from lllm.log import PostgresLog
from tests.log.events import Writer
url, schema = sys.argv[1:]
store = PostgresLog(url, schema=schema, lease=300)
store.claim("s")
asyncio.run(store.append(Writer("s").events(3)))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_dead_writer_is_replaced(postgres_url: str, schema: str, store: PostgresLog) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, postgres_url, schema],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        with pytest.raises(LogWriteError):
            store.claim("s")
        process.kill()
    # it would have been 300 seconds: a lease that runs out while a slow machine looks on is a test of the machine
    query(postgres_url, f"UPDATE {schema}.leases SET until = now() + interval '0.5 seconds'")
    for _ in range(3000):
        if not store.held("s"):
            break
        threading.Event().wait(0.02)
    store.claim("s")
    last = Writer("s").events(4)[3:]
    asyncio.run(store.append(last))
    assert verify_chain(store.read("s"), session="s", events=4)


async def test_a_session_whose_lease_is_lost_does_not_go_on(
    postgres_url: str, schema: str, other: PostgresLog
) -> None:
    with PostgresLog(postgres_url, schema=schema, lease=3600) as store:
        session = Session(store, id="s")
        await session.start()
        await session.flush()
        query(postgres_url, f"UPDATE {schema}.leases SET until = now() - interval '1 second'")
        other.claim("s")
        session.emit("Note", {"text": "x"})
        with pytest.raises(LogWriteError, match="has another writer now"):
            await session.flush()
        with pytest.raises(LogWriteError):
            session.emit("Note", {"text": "x"})


MANY = """
import asyncio, sys
from lllm.log import PostgresLog
from tests.log.events import Writer
url, schema, number = sys.argv[1:]

async def main():
    with PostgresLog(url, schema=schema) as store:
        async def one(name):
            store.claim(name)
            writer = Writer(name)
            await store.append([writer.start()])
            for _ in range(6):
                await store.append(writer.events(2))
            await store.append([writer.end()])
            store.release(name)
        await asyncio.gather(*(one(f"p{number}-{n}") for n in range(25)))

asyncio.run(main())
"""


def test_many_writers_of_many_sessions(postgres_url: str, schema: str, store: PostgresLog) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", MANY, postgres_url, schema, str(n)], cwd=ROOT)
        for n in range(4)
    ]
    assert [worker.wait(600) for worker in workers] == [0, 0, 0, 0]
    found = store.sessions()
    assert {info.id for info in found} == {f"p{p}-{n}" for p in range(4) for n in range(25)}
    assert {(info.status, info.events) for info in found} == {("done", 14)}
    for info in found:
        assert verify_chain(store.read(info.id), session=info.id, events=14)
        assert not store.held(info.id)


RACE = """
import asyncio, sys
from lllm.errors import LogWriteError
from lllm.log import PostgresLog
from tests.log.events import Writer
url, schema = sys.argv[1:]
won = 0
with PostgresLog(url, schema=schema) as store:
    for number in range(40):
        try:
            store.claim(f"r{number}")
            asyncio.run(store.append([Writer(f"r{number}").start()]))
            won += 1
        except LogWriteError:
            pass
    print("tried", flush=True)
    sys.stdin.read()
    print(won)
"""


def test_of_four_that_want_a_session_one_gets_it(postgres_url: str, schema: str, store: PostgresLog) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", RACE, postgres_url, schema], cwd=ROOT, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        for n in range(4)
    ]  # fmt: skip
    for worker in workers:  # nobody leaves, and lets go of what it has, before everybody has tried
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"tried\n"
    assert len(store.sessions()) == 40
    won = [int(worker.communicate()[0]) for worker in workers]
    assert sum(won) == 40
    assert {info.events for info in store.sessions()} == {1}


# --- group commit


async def test_appends_that_come_together_are_one_transaction(
    store: PostgresLog, postgres_url: str, schema: str
) -> None:
    logs = [Writer(f"s{n}").events(3) for n in range(100)]
    await store.append(logs[0][:1])
    with psycopg.connect(postgres_url) as lock:  # until all have come
        lock.execute(f"LOCK TABLE {schema}.appends IN ACCESS EXCLUSIVE MODE")
        left = [record for records in logs for record in records][1:]
        waiting = [asyncio.create_task(store.append([record])) for record in left]
        await asyncio.sleep(0)
        lock.rollback()
    await asyncio.gather(*waiting)
    rows = query(
        postgres_url,
        f"SELECT count(*), count(DISTINCT xmin::text), sum(last - seq + 1) FROM {schema}.appends",
    )
    appends, transactions, events = rows[0]
    assert events == 300
    assert appends < 300
    assert transactions < 10


async def test_a_loop_is_not_blocked(store: PostgresLog, postgres_url: str, schema: str) -> None:
    writer = Writer("s")
    await store.append([writer.event()])
    with psycopg.connect(postgres_url) as lock:
        lock.execute(f"LOCK TABLE {schema}.appends IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(store.append([writer.event()]))
        for _ in range(20):
            await asyncio.sleep(0.01)  # turns go on
        assert not waiting.done()
        lock.rollback()
    await waiting
    assert store.sessions()[0].events == 2


# --- followers


async def test_a_follower_is_told(store: PostgresLog, other: PostgresLog) -> None:
    writer = Writer("s")
    records = [writer.start(), *writer.events(20), writer.end()]
    await store.append(records[:3])
    seen: list[bytes] = []

    async def follow(after: int) -> list[bytes]:
        return [body async for body in other.follow("s", after)]

    async def watch() -> None:
        async for body in other.follow("s"):
            seen.append(body)  # noqa: PERF401  it is looked at meanwhile

    tasks = [asyncio.create_task(watch()), asyncio.create_task(follow(7))]
    for number in range(3, len(records)):
        await store.append(records[number : number + 1])
        if number == 10:
            while len(seen) < 11 and not tasks[0].done():
                await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert seen == bodies(records)
    assert tasks[1].result() == bodies(records)[8:]
    assert [body async for body in other.follow("s", 21)] == []


async def test_a_follower_is_told_at_once(
    store: PostgresLog, other: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.log.postgres.store._LISTEN", 3600.0)  # it never looks without being told
    writer = Writer("s")
    await store.append([writer.start()])
    bodies_ = aiter(other.follow("s"))
    await anext(bodies_)
    for _ in range(5):
        coming = asyncio.ensure_future(anext(bodies_))
        await asyncio.sleep(0.05)
        record = writer.event()
        await store.append([record])
        assert await asyncio.wait_for(coming, 30) == record.body
    await bodies_.aclose()  # type: ignore[attr-defined]


async def test_following_ends_and_leaves_nothing_open(
    store: PostgresLog, postgres_url: str, schema: str
) -> None:
    def open_() -> int:
        listening = f"LISTEN {tables.channel(schema, 's')}"  # others use the server too
        count = query(postgres_url, "SELECT count(*) FROM pg_stat_activity WHERE query = %s", listening)
        return int(count[0][0])

    with pytest.raises(UnknownNameError):
        async for _ in store.follow("absent"):
            pass
    writer = Writer("s")
    await store.append([writer.start()])
    task = asyncio.create_task(anext(aiter(store.follow("s", 0))))
    while not open_():
        assert not task.done()
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(3000):
        if not open_():
            break
        await asyncio.sleep(0.02)
    assert open_() == 0


async def test_a_follower_that_leaves_while_it_comes_leaves_nothing_open(
    store: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append([Writer("s").start()])
    connect, opened = Address.connect_async, []

    async def connect_and_leave(self: Address) -> psycopg.AsyncConnection:
        opened.append(await connect(self))
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return opened[0]

    monkeypatch.setattr(Address, "connect_async", connect_and_leave)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(anext(aiter(store.follow("s", 0))))
    assert opened[0].closed


async def test_other_stores_are_followed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lllm.log.base.POLL", 0.001)
    for store in (MemoryLog(), SQLiteLog(tmp_path / "sessions.db")):
        with store:
            writer = Writer("s")
            records = [writer.start(), *writer.events(5), writer.end()]
            await store.append(records[:1])

            async def follow(store: MemoryLog | SQLiteLog = store) -> list[bytes]:
                return [body async for body in store.follow("s")]

            task = asyncio.create_task(follow())
            for record in records[1:]:
                await asyncio.sleep(0.002)
                await store.append([record])
            assert await task == bodies(records)


# --- the tables


def test_tables_are_made_by_the_first_write(store: PostgresLog, postgres_url: str, schema: str) -> None:
    assert list(store.sessions()) == []
    assert not store.held("s")
    with pytest.raises(UnknownNameError):
        store.read("s")
    assert query(postgres_url, "SELECT to_regnamespace(%s)", schema) == [(None,)]
    asyncio.run(store.append([Writer("s").start()]))
    assert len(store.sessions()) == 1


async def test_events_by_hand(store: PostgresLog, postgres_url: str, schema: str) -> None:
    await store.append([Writer("s").start(task='x\n"y" \x00'), *Writer("s").events(3)[1:]])
    rows = query(postgres_url, f"SELECT session, seq, kind, data FROM {schema}.events ORDER BY seq")
    assert [row[:3] for row in rows] == [("s", 0, "SessionStarted"), ("s", 1, "Noted"), ("s", 2, "Noted")]
    assert rows[2][3] == {"n": 2}


VERSION_1 = Path(__file__).parent / "schemas" / "postgres-1.sql"


async def test_a_log_of_version_1_is_brought_up_to_date(
    postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query(
        postgres_url,
        VERSION_1.read_text().replace("lllm.", f"{schema}.").replace("SCHEMA lllm", f"SCHEMA {schema}"),
    )
    later = ("ALTER TABLE @sessions ADD note text", "INSERT INTO @meta VALUES ('note', 'two')")
    last = ("UPDATE @meta SET value = 'three' WHERE name = 'note'",)
    monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, later, last])
    with PostgresLog(postgres_url, schema=schema) as store:
        assert store.verify("old")  # reading changes nothing
        assert query(postgres_url, f"SELECT value FROM {schema}.meta WHERE name = 'version'") == [("1",)]
        assert store.sessions()[0].meta == {"task": "é"}
        assert store.blob(digest(b"kept")) == b"kept"
        seq, head = store.sessions()[0].events, store.verify("old")
        await store.append([Writer("old", seq=seq, prev=head).event()])
        assert store.verify("old")
    assert query(postgres_url, f"SELECT name, value FROM {schema}.meta ORDER BY name") == [
        ("note", "three"),
        ("version", str(len(tables.MIGRATIONS))),
    ]


async def test_a_migration_that_fails_changes_nothing(
    postgres_url: str, schema: str, store: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append([Writer("s").start()])
    broken = ("ALTER TABLE @sessions ADD note text", "ALTER TABLE @nothing ADD note text")
    monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, broken])
    with PostgresLog(postgres_url, schema=schema) as late, pytest.raises(LogWriteError):
        await late.append([Writer("t").start()])
    monkeypatch.undo()
    await store.append([Writer("t").start()])
    assert query(postgres_url, f"SELECT value FROM {schema}.meta") == [("1",)]
    columns = (
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = %s AND column_name = 'note'"
    )
    assert query(postgres_url, columns, schema) == [(0,)]


async def test_a_later_schema_says_what_to_do(postgres_url: str, schema: str, store: PostgresLog) -> None:
    await store.append([Writer("s").start()])
    query(postgres_url, f"UPDATE {schema}.meta SET value = '99'")
    with PostgresLog(postgres_url, schema=schema) as late:
        with pytest.raises(LogError, match="schema 99"):
            late.sessions()
        with pytest.raises(LogError, match="git pull && pip install"):
            await late.append([Writer("t").start()])


def test_many_make_the_tables_at_once(postgres_url: str, schema: str) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with PostgresLog(postgres_url, schema=schema) as store:
                asyncio.run(store.append([Writer(f"s{number}").start()]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with PostgresLog(postgres_url, schema=schema) as store:
        assert len(store.sessions()) == 8


def test_to_and_from_sqlite(store: PostgresLog, tmp_path: Path) -> None:
    blob = os.urandom(50_000)
    writer = Writer("s")
    records = [
        writer.start(task="\x00 é"),
        writer.event(data=digest(blob)),
        *writer.events(3000),
        writer.end(),
    ]
    with SQLiteLog(tmp_path / "a.db") as here, SQLiteLog(tmp_path / "b.db") as back:
        asyncio.run(here.append(records, {digest(blob): blob}))
        assert copy_session(here, store, "s").outcome == "copied"
        assert not store.held("s")
        assert copy_session(store, back, "s").head == here.verify("s")
        assert list(back.read("s")) == bodies(records)
        assert back.blob(digest(blob)) == blob
        assert copy_session(store, here, "s").outcome == "there"


# --- a server that goes away


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that keeps what it has acknowledged, and that may be killed."""
    with running(durable=True) as server:
        yield server


async def test_what_was_acknowledged_outlives_the_server(own: Server, schema: str) -> None:
    acknowledged: dict[str, int] = {}

    async def write(store: PostgresLog, name: str) -> None:
        writer = Writer(name)
        store.claim(name)
        for number in range(4000):
            await store.append([writer.event(data={"n": number})])
            acknowledged[name] = number + 1
            if done.is_set():
                return

    async def more_than(count: int) -> None:
        while sum(acknowledged.values()) < count:
            assert not any(task.done() for task in tasks), tasks
            await asyncio.sleep(0.005)

    done = asyncio.Event()
    with PostgresLog(own.url, schema=schema, retry_for=60) as store:
        tasks = [asyncio.create_task(write(store, f"s{n}")) for n in range(10)]
        for _ in range(2):
            before = sum(acknowledged.values())
            await more_than(before + 500)
            own.kill()
            kept = dict(acknowledged)
            await asyncio.to_thread(own.start)
            with PostgresLog(own.url, schema=schema) as fresh:
                for name, count in kept.items():
                    assert len(list(fresh.read(name))) >= count
        before = sum(acknowledged.values())
        await more_than(before + 200)
        done.set()
        await asyncio.gather(*tasks)
        for name, count in acknowledged.items():
            assert verify_chain(store.read(name), session=name, events=count)


async def test_a_server_that_stays_away_ends_the_session(own: Server, schema: str) -> None:
    with PostgresLog(own.url, schema=schema, retry_for=0.3) as store:
        session = Session(store, id="s")
        await session.start()
        await session.flush()
        own.kill()
        try:
            session.emit("Note", {"text": "x"})
            with pytest.raises(LogWriteError, match="cannot be reached") as caught:
                await session.flush()
            assert "lllm resume" in str(caught.value.hint)
            with pytest.raises(LogWriteError):
                session.emit("Note", {"text": "x"})
            with pytest.raises(LogError, match="cannot be reached"):
                store.sessions()
            with pytest.raises(LogWriteError, match="cannot be reached"):
                store.claim("t")
            session.release()
        finally:
            own.start()
        assert len(list(store.read("s"))) == 1


async def test_an_append_that_was_stored_unseen_is_not_stored_twice(own: Server, schema: str) -> None:
    """The connection is cut after the server has stored an append and before it could say so."""
    with PostgresLog(own.url, schema=schema) as store:
        writer = Writer("s")
        first, second, third = writer.events(3)
        await store.append([first])
        at_work = store._writer
        assert at_work is not None
        stored = at_work._store

        def cut(connection: psycopg.Connection, rows: list) -> set[str]:
            at_work._store = stored  # type: ignore[method-assign]
            stored(connection, rows)
            raise psycopg.OperationalError("the connection is lost")

        at_work._store = cut  # type: ignore[method-assign]
        await store.append([second])
        await store.append([third])
        assert list(store.read("s")) == bodies([first, second, third])


async def test_connections_that_the_server_cuts(own: Server, schema: str) -> None:
    with PostgresLog(own.url, schema=schema) as store:
        writer = Writer("s")
        for _ in range(4):
            await store.append([writer.event()])
            assert store.sessions()[0].events == writer.seq
            query(own.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                  " AND application_name = 'lllm'")  # fmt: skip
        assert store.verify("s") == writer.prev


async def test_a_follower_outlives_the_connection(own: Server, schema: str) -> None:
    with PostgresLog(own.url, schema=schema) as store:
        writer = Writer("s")
        records = [writer.start(), writer.event(), writer.end()]
        await store.append(records[:1])
        coming = aiter(store.follow("s"))
        assert await anext(coming) == records[0].body
        second = asyncio.ensure_future(anext(coming))
        await asyncio.sleep(0.1)
        query(own.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"
              " AND pid <> pg_backend_pid()")  # fmt: skip
        await store.append(records[1:])
        assert await asyncio.wait_for(second, 30) == records[1].body
        assert [body async for body in coming] == [records[2].body]


# --- errors


def spoken(error: BaseException, store: object) -> str:
    return (
        "".join(traceback.format_exception(error))
        + repr(error)
        + repr(store)
        + str(getattr(error, "hint", ""))
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong-Pa55"}, "refused the login"),
        ({"user": "nobody_here", "password": "wrong-Pa55"}, "refused the login"),
        ({"database": "absent"}, "has no such database"),
    ],
)
async def test_a_login_that_fails(own: Server, change: dict[str, str], words: str) -> None:
    url = own.tcp(**change)
    with PostgresLog(url) as store:
        for attempt in (store.sessions, lambda: store.claim("s"), lambda: store.read("s")):
            with pytest.raises(LogError, match=words) as caught:
                attempt()
            assert "Pa55" not in spoken(caught.value, store)
        with pytest.raises(LogWriteError, match=words) as caught:
            await store.append([Writer("s").start()])
        assert "Pa55" not in spoken(caught.value, store)
        assert caught.value.hint


async def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with PostgresLog("postgresql://me:s3cret-Pa55@no-such-host.invalid/x", retry_for=0.1) as store:
        with pytest.raises(LogError, match="was not found") as caught:
            store.sessions()
        assert "no-such-host.invalid" in str(caught.value)
        assert "Pa55" not in spoken(caught.value, store)
        with pytest.raises(LogWriteError, match="was not found"):
            await store.append([Writer("s").start()])
    monkeypatch.undo()
    with PostgresLog("postgresql://me:s3cret-Pa55@127.0.0.1:1/x", retry_for=0.1) as store:
        with pytest.raises(LogWriteError, match="cannot be reached") as caught:
            await store.append([Writer("s").start()])
        assert "Pa55" not in spoken(caught.value, store)


async def test_a_user_who_may_only_read(own: Server, schema: str) -> None:
    records = Writer("s").events(2)
    with PostgresLog(own.url, schema=schema) as owner:
        await owner.append(records[:1])
    query(own.url, f"DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    with PostgresLog(own.tcp(user="reader"), schema=schema) as store:
        with pytest.raises(LogError, match="does not let this user"):
            store.sessions()
        query(
            own.url,
            f"GRANT USAGE ON SCHEMA {schema} TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader",
        )
        assert list(store.read("s")) == bodies(records[:1])
        assert not store.held("s")
        with pytest.raises(LogWriteError, match="does not let this user") as caught:
            await store.append(records[1:])
        assert "GRANT" in str(caught.value.hint)
        with pytest.raises(LogWriteError, match="does not let this user"):
            store.claim("s")
        with pytest.raises(LogWriteError, match="does not let this user"):
            store.delete(["s"])
    query(own.url, f"DROP OWNED BY reader; ALTER ROLE reader SET default_transaction_read_only = on;"
          f"GRANT USAGE ON SCHEMA {schema} TO reader; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO reader")  # fmt: skip
    with PostgresLog(own.tcp(user="reader"), schema=schema) as store:
        records = records[1:]
        with pytest.raises(LogWriteError, match="read-only"):
            await store.append(records)
    query(own.url, "DROP OWNED BY reader; DROP ROLE reader")


async def test_a_full_disk(own: Server, schema: str) -> None:
    """The server says so itself; what had been written stays, and writing goes on when there is room again."""
    writer = Writer("s")
    first, second = writer.events(2)
    with PostgresLog(own.url, schema=schema) as store:
        await store.append([first])
        query(own.url, f"CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
              f" 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
              f"CREATE TRIGGER full_disk BEFORE INSERT ON {schema}.appends EXECUTE FUNCTION {schema}.full()")  # fmt: skip
        with pytest.raises(LogWriteError, match="no room left on its disk") as caught:
            await store.append([second])
        assert "Free some space" in str(caught.value.hint)
        query(own.url, f"DROP TRIGGER full_disk ON {schema}.appends")
        await store.append([second])
        assert list(store.read("s")) == bodies([first, second])


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret-Pa55@[::1/x", "password=s3cret-Pa55 nonsense", "s3cret-Pa55"]
)
def test_an_address_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        PostgresLog(url)
    assert "Pa55" not in "".join(traceback.format_exception(caught.value))


def test_what_a_store_is_made_of(postgres_url: str, tmp_path: Path) -> None:
    made = open_store("postgres", tmp_path, url=postgres_url, synchronous="full")
    assert isinstance(made, PostgresLog)
    made.close()
    with pytest.raises(ConfigError, match="LLLM_LOG_URL"):
        open_store("postgres", tmp_path)
    with pytest.raises(ConfigError, match="'normal' or 'full'"):
        PostgresLog(postgres_url, synchronous="off")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="small letters"):
        PostgresLog(postgres_url, schema="a; DROP TABLE x")
    store = PostgresLog("host=db.example user=me password='s3cret-Pa55' dbname=logs")
    assert "Pa55" not in repr(store)
    assert "db.example/logs" in repr(store)
    store.close()


async def test_names_that_the_server_cannot_keep(store: PostgresLog) -> None:
    for name in ("a\0b", "", "\ud800"):
        with pytest.raises(LogWriteError, match="cannot be named"):
            store.claim(name)
        with pytest.raises(UnknownNameError):
            store.read(name)


async def test_full_synchronous(postgres_url: str, schema: str) -> None:
    with PostgresLog(postgres_url, schema=schema, synchronous="full") as store:
        await store.append([Writer("s").start()])
        assert store.verify("s")


# --- processes


def child(store: PostgresLog, results: "multiprocessing.Queue[bytes]") -> None:
    try:
        assert not store._leases.any
        asyncio.run(store.append(Writer("child").events(3)))
        seen = sorted(info.id for info in store.sessions())
        try:
            store.claim("parent")
        except LogWriteError as error:
            seen.append(type(error).__name__)
        results.put(pickle.dumps(seen))
        store.close()
    except BaseException as error:
        results.put(pickle.dumps(repr(error)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_fork_has_connections_of_its_own(store: PostgresLog) -> None:
    writer = Writer("parent")
    store.claim("parent")
    await store.append([writer.start()])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=child, args=(store, results))
    process.start()
    assert pickle.loads(await asyncio.to_thread(results.get)) == ["child", "parent", "LogWriteError"]
    process.join()
    assert process.exitcode == 0
    await store.append([writer.end()])
    assert store.held("parent")
    assert len(list(store.read("child"))) == 3
    assert store.verify("parent") == writer.prev


def test_an_exit_writes_what_is_queued(postgres_url: str, schema: str, store: PostgresLog) -> None:
    program = f"""
import asyncio
from lllm.log import PostgresLog
from tests.log.events import Writer
store = PostgresLog({postgres_url!r}, schema={schema!r})
async def main():
    store.claim("s")
    asyncio.ensure_future(store.append(Writer("s").events(5)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(store.read("s"))) == 5
    assert not store.held("s")


def test_the_tests_server_is_missed_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import postgres

    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    with pytest.raises(RuntimeError, match="apt-get install postgresql"):
        postgres.binaries()


def test_signals_do_not_reach_the_server(own: Server) -> None:
    assert own._process is not None
    assert os.getpgid(own._process.pid) != os.getpgid(os.getpid())
    assert signal.getsignal(signal.SIGINT) is not None
