"""One suite for every log store: what `lllm.ports.LogStore` promises."""

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lllm.core.canonical import digest
from lllm.core.envelope import seal, verify_chain
from lllm.errors import LogError, LogWriteError, UnknownNameError
from lllm.log import LocalFileLog, MemoryLog, NoLog, PostgresLog, ReplayableLogBase, SQLiteLog
from lllm.ports import LogStore
from tests.log.events import BEGAN, Writer, bodies

Open = Callable[[], ReplayableLogBase]
SERVER = "POSTGRES_OF_THE_TESTS"


def postgres(folder: Path) -> PostgresLog:
    """A schema of its own per folder, on the server of the tests."""
    return PostgresLog(
        os.environ[SERVER], schema="log_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    )


ON_DISK: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "log" / "sessions.db", busy_timeout=120),
    "sqlite-full": lambda folder: SQLiteLog(
        folder / "log" / "sessions.db", busy_timeout=120, synchronous="full"
    ),
    "files": lambda folder: LocalFileLog(folder / "log"),
    "files-full": lambda folder: LocalFileLog(folder / "log", synchronous="full"),
}
LASTING = {**ON_DISK, "postgres": postgres}


def needed(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the server of a store that has one."""
    if kind == "postgres":
        monkeypatch.setenv(SERVER, request.getfixturevalue("postgres_url"))


@pytest.fixture(params=[*LASTING, "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReplayableLogBase]:
    needed(request.param, request, monkeypatch)
    made = MemoryLog() if request.param == "memory" else LASTING[request.param](tmp_path)
    with made:
        yield made


@pytest.fixture(params=ON_DISK)
def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same place on this machine's disk again and again; all of it is closed at the end."""
    yield from opened(ON_DISK[request.param], tmp_path)


@pytest.fixture(params=LASTING)
def reopen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the same place again and again; all of it is closed at the end."""
    needed(request.param, request, monkeypatch)
    yield from opened(LASTING[request.param], tmp_path)


def opened(make: Callable[[Path], ReplayableLogBase], folder: Path) -> Iterator[Open]:
    made: list[ReplayableLogBase] = []

    def open_one() -> ReplayableLogBase:
        made.append(make(folder))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def test_is_a_log_store(store: ReplayableLogBase) -> None:
    assert isinstance(store, LogStore)
    assert isinstance(NoLog(), LogStore)


async def test_what_is_appended_is_read(store: ReplayableLogBase) -> None:
    writer = Writer("s")
    records = [writer.start(), *writer.events(6)]
    await store.append(records[:1])
    await store.append(records[1:4])
    await store.append(records[4:])
    assert list(store.read("s")) == bodies(records)
    assert store.verify("s") == records[-1].hash
    for after in range(-2, 8):
        assert list(store.read("s", after)) == bodies(records)[max(after + 1, 0) :]


async def test_long_sessions_are_read_whole(store: ReplayableLogBase) -> None:
    records = Writer("s").events(3000)
    for start in range(0, 3000, 50):
        await store.append(records[start : start + 50])
    assert list(store.read("s")) == bodies(records)
    assert list(store.read("s", 1234)) == bodies(records)[1235:]


async def test_nothing_is_nothing(store: ReplayableLogBase) -> None:
    await store.append([])
    await store.append([], {})
    assert list(store.sessions()) == []


def test_an_empty_log(store: ReplayableLogBase) -> None:
    assert list(store.sessions()) == []
    assert list(store.sessions(3, prefix="a")) == []
    with pytest.raises(UnknownNameError):
        store.read("s")
    with pytest.raises(UnknownNameError):
        store.blob(digest(b"x"))


async def test_an_unknown_session_names_the_nearest(store: ReplayableLogBase) -> None:
    await store.append([Writer("monday-run").start()])
    with pytest.raises(UnknownNameError, match="Did you mean 'monday-run'") as caught:
        store.read("monday-rum")
    assert caught.value.kind == "session"


async def test_numbers_follow_each_other(store: ReplayableLogBase) -> None:
    writer = Writer("s")
    first, second, third = writer.events(3)
    with pytest.raises(LogWriteError, match="nothing of it is stored"):
        await store.append([second])
    assert list(store.sessions()) == []
    await store.append([first])
    with pytest.raises(LogWriteError, match="already stored"):
        await store.append([first])
    with pytest.raises(LogWriteError, match="does not follow: the last stored one is 0"):
        await store.append([third])
    with pytest.raises(LogWriteError, match="consecutive"):
        await store.append([second, second])
    with pytest.raises(LogWriteError, match="one session"):
        await store.append([second, seal("t", 2, BEGAN, None, None, "Noted", None, "")])
    await store.append([second, third])
    assert list(store.read("s")) == bodies([first, second, third])


async def test_a_refused_append_leaves_nothing(store: ReplayableLogBase) -> None:
    records = Writer("s").events(2)
    with pytest.raises(LogWriteError, match="one line"):
        await store.append([records[0], records[1]._replace(body=b"{\n}")])
    assert list(store.sessions()) == []
    await store.append(records)
    assert list(store.read("s")) == bodies(records)


async def test_one_refusal_does_not_touch_its_neighbours(store: ReplayableLogBase) -> None:
    logs = [Writer(f"s{n}").events(4) for n in range(9)]

    async def write(number: int) -> None:
        await store.append(logs[number][:1])
        await store.append(logs[number][2:] if number == 4 else logs[number][1:])

    outcomes = await asyncio.gather(*map(write, range(9)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(type(None)) == 8
    assert isinstance(outcomes[4], LogWriteError)
    for number, records in enumerate(logs):
        assert list(store.read(f"s{number}")) == bodies(records[:1] if number == 4 else records)


async def test_resume(reopen: Open) -> None:
    writer = Writer("s")
    first = [writer.start(task="x"), *writer.events(3), writer.end()]
    with reopen() as store:
        await store.append(first)
    with reopen() as store:
        assert store.sessions()[0].status == "done"
        second = writer.events(2)
        await store.append(second)
        assert store.sessions()[0].status == "running"
    with reopen() as store:
        assert list(store.read("s")) == bodies([*first, *second])
        assert store.verify("s") == second[-1].hash


async def test_blobs(store: ReplayableLogBase) -> None:
    writer, data, other = Writer("s"), bytes(range(256)) * 4000, b""
    await store.append([writer.start()], {digest(data): data, digest(other): other})
    await store.append([writer.event()], {digest(data): data})
    await store.append([], {digest(b"alone"): b"alone"})
    assert store.blob(digest(data)) == data
    assert store.blob(digest(other)) == other
    assert store.blob(digest(b"alone")) == b"alone"
    for name in (digest(b"absent"), "sha256:../../etc/passwd", "", "x"):
        with pytest.raises(UnknownNameError):
            store.blob(name)
    with pytest.raises(LogWriteError, match="digest"):
        await store.append([writer.event()], {"../../x": b"x"})


async def test_blobs_are_kept_once(on_disk: Open, tmp_path: Path) -> None:
    data = bytes(1_000_000)
    with on_disk() as store:
        for number in range(20):
            await store.append([Writer(f"s{number}").start()], {digest(data): data})
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2_000_000


async def test_sessions_newest_first(store: ReplayableLogBase) -> None:
    for number, name in enumerate(["a-1", "b-1", "a-2", "a%", "é-1"]):
        await store.append([Writer(name, BEGAN + number * 1_000_000).start(number=number)])
    writer = Writer("a-1", BEGAN + 9_000_000, seq=1)
    await store.append([writer.event()])
    names = [info.id for info in store.sessions()]
    assert names == ["é-1", "a%", "a-2", "b-1", "a-1"]
    assert [info.id for info in store.sessions(2)] == names[:2]
    assert [info.id for info in store.sessions(0)] == []
    assert [info.id for info in store.sessions(prefix="a-")] == ["a-2", "a-1"]
    assert [info.id for info in store.sessions(1, prefix="a-")] == ["a-2"]
    assert [info.id for info in store.sessions(prefix="a%")] == ["a%"]
    assert [info.id for info in store.sessions(prefix="é")] == ["é-1"]
    info = store.sessions(prefix="a-1")[0]
    assert info == ("a-1", "running", BEGAN, BEGAN + 9_000_001, 2, {"number": 0})


@pytest.mark.parametrize("status", ["done", "failed", "cancelled"])
async def test_status(store: ReplayableLogBase, status: str) -> None:
    writer = Writer("s")

    def shown() -> str:
        return store.sessions()[0].status

    await store.append([writer.start()])
    assert shown() == "running"
    await store.append([writer.event(), writer.end(status)])
    assert shown() == status
    await store.append([writer.event("SessionResumed")])
    assert shown() == "running"
    await store.append([writer.end("done")])
    assert shown() == "done"


async def test_a_session_without_a_start(store: ReplayableLogBase) -> None:
    await store.append(Writer("s").events(2))
    assert store.sessions()[0] == ("s", "running", BEGAN, BEGAN + 1, 2, {})


async def test_a_huge_event(store: ReplayableLogBase) -> None:
    writer = Writer("s")
    records = [
        writer.start(text="é" * 2_500_000),
        writer.event(),
        writer.event(data={"text": "x" * 5_000_000}),
    ]
    await store.append(records[:2])
    await store.append(records[2:])
    assert list(store.read("s")) == bodies(records)
    assert store.sessions()[0].events == 3


async def test_unicode(store: ReplayableLogBase) -> None:
    text = "line\nfeed \u2028\u2029 \x85 \x00 \x7f 日本語 🜁 \U0010ffff \\n \r"
    writer = Writer("ünï 🜁 ' \" \\ %s")
    records = [writer.start(text=text), writer.event("ĸind", [text], "çall")]
    await store.append(records)
    assert list(store.read(writer.session)) == bodies(records)
    assert store.sessions()[0].meta == {"text": text}
    assert store.verify(writer.session)


async def test_fifty_sessions_at_once(store: ReplayableLogBase) -> None:
    logs = [Writer(f"s{n}").events(40, {"of": n}) for n in range(50)]

    async def write(number: int) -> None:
        for start in range(0, 40, 2):
            await store.append(logs[number][start : start + 2])
            if number % 3 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*map(write, range(50)))
    assert len(store.sessions()) == 50
    for number, records in enumerate(logs):
        assert list(store.read(f"s{number}")) == bodies(records)


async def test_appends_of_one_session_keep_their_order(store: ReplayableLogBase) -> None:
    records = Writer("s").events(60)
    await asyncio.gather(*(store.append([record]) for record in records))
    assert list(store.read("s")) == bodies(records)


def test_threads_with_loops_of_their_own(store: ReplayableLogBase) -> None:
    logs = [[Writer(f"s{n}-{m}").events(20) for m in range(5)] for n in range(6)]
    failures: list[BaseException] = []

    async def write(records: list) -> None:
        for record in records:
            await store.append([record])
            assert list(store.read(record.session, record.seq - 1)) == [record.body]

    async def several(number: int) -> None:
        await asyncio.gather(*map(write, logs[number]))

    def run(number: int) -> None:
        try:
            asyncio.run(several(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number, several_logs in enumerate(logs):
        for m, records in enumerate(several_logs):
            assert list(store.read(f"s{number}-{m}")) == bodies(records)


async def test_a_cancelled_waiter(store: ReplayableLogBase) -> None:
    logs = [Writer(f"s{n}").events(2) for n in range(8)]
    tasks = [asyncio.create_task(store.append(records)) for records in logs]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(6000):
        if len(store.sessions()) == 8:
            break
        await asyncio.sleep(0.01)
    for number, records in enumerate(logs):
        assert list(store.read(f"s{number}")) == bodies(records)
    writer = Writer("s0", seq=2, prev=logs[0][-1].hash)
    await store.append([writer.event()])
    assert store.verify("s0")


async def test_close(store: ReplayableLogBase) -> None:
    writer = Writer("s")
    await store.append([writer.start()])
    store.close()
    store.close()
    with pytest.raises(LogWriteError, match="closed"):
        await store.append([writer.event()])
    with pytest.raises(LogError, match="closed"):
        store.read("s")
    with pytest.raises(LogError, match="closed"):
        store.sessions()


async def test_close_writes_what_is_queued(reopen: Open) -> None:
    logs = [Writer(f"s{n}").events(2) for n in range(8)]
    store = reopen()
    tasks = [asyncio.create_task(store.append(records)) for records in logs]
    await asyncio.sleep(0)
    store.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    with reopen() as store:
        for task, records in zip(tasks, logs, strict=True):
            if task.exception() is None:
                assert list(store.read(records[0].session)) == bodies(records)


def test_nothing_is_written_before_the_first_append(on_disk: Open, tmp_path: Path) -> None:
    with on_disk() as store:
        assert list(store.sessions()) == []
    assert list(tmp_path.iterdir()) == []


async def test_only_the_user_may_read(on_disk: Open, tmp_path: Path) -> None:
    with on_disk() as store:
        await store.append([Writer("s").start()], {digest(b"x"): b"x"})
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_two_writers_of_one_session(reopen: Open) -> None:
    writer = Writer("s")
    one, other = reopen(), reopen()
    await one.append([writer.start(), writer.event()])
    late = writer.events(2)
    await one.append(late[:1])
    with pytest.raises(LogWriteError):
        await other.append(late[:1])
    await one.append(late[1:])
    assert one.verify("s") == other.verify("s") == late[1].hash


async def test_a_reader_sees_what_another_store_writes(reopen: Open) -> None:
    writer = Writer("s")
    one, other = reopen(), reopen()
    assert list(other.sessions()) == []
    for number in range(5):
        record = writer.event()
        await one.append([record])
        assert list(other.read("s", number - 1)) == [record.body]
        assert other.sessions()[0].events == number + 1


PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.conformance.test_log_store import LASTING
from tests.log.events import Writer

async def main(kind, folder, session):
    with LASTING[kind](Path(folder)) as store:
        for record in Writer(session).events(150):
            await store.append([record])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["sqlite", "files", "postgres"])
def test_processes_writing_different_sessions(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed(kind, request, monkeypatch)
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, kind, str(tmp_path), f"s{n}"], cwd=root)
        for n in range(3)
    ]
    assert [process.wait(600) for process in running] == [0, 0, 0]
    with LASTING[kind](tmp_path) as store:
        for number in range(3):
            assert list(store.read(f"s{number}")) == bodies(Writer(f"s{number}").events(150))
            assert verify_chain(store.read(f"s{number}"), session=f"s{number}", events=150)


async def test_no_log(tmp_path: Path) -> None:
    store = NoLog()
    await store.append([Writer("s").start()], {digest(b"x"): b"x"})
    assert list(store.sessions()) == []
    with pytest.raises(UnknownNameError, match="Logging is off"):
        store.read("s")
    with pytest.raises(UnknownNameError, match="Logging is off"):
        store.blob(digest(b"x"))
    store.close()
    store.close()
    assert list(tmp_path.iterdir()) == []
