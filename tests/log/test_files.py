"""What is special about the file store: torn records, locks, names, files that anybody may read."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm.core.canonical import digest
from lllm.core.envelope import verify_chain
from lllm.errors import ConfigError, LogCorrupt, LogWriteError, UnknownNameError
from lllm.log import LocalFileLog
from lllm.log import files as files_module
from lllm.ports import Record
from tests.log.events import Writer, bodies

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "sessions"


@pytest.fixture
def store(folder: Path) -> Iterator[LocalFileLog]:
    with LocalFileLog(folder) as made:
        yield made


def events_file(folder: Path, session: str = "s") -> Path:
    return folder / session / "events.jsonl"


async def test_a_line_per_event(store: LocalFileLog, folder: Path) -> None:
    records = Writer("s").events(5)
    await store.append(records[:1])
    await store.append(records[1:])
    lines = events_file(folder).read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2, 3, 4]
    assert verify_chain(line.rstrip().encode() for line in lines) == records[-1].hash


async def test_a_torn_append_at_every_byte(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a crash leaves of an append is not read, is cut off by the next one, and is reported."""
    writer = Writer("s")
    kept, torn = writer.events(2), writer.events(2, {"text": "é🜁\n" * 3})
    with LocalFileLog(folder) as store:
        await store.append(kept)
        good = events_file(folder).read_bytes()
        await store.append(torn)
        whole = events_file(folder).read_bytes()
    for cut in range(len(good), len(whole)):
        events_file(folder).write_bytes(whole[:cut])
        caplog.clear()
        with LocalFileLog(folder) as store:
            assert list(store.read("s")) == bodies(kept)
            assert store.verify("s") == kept[-1].hash
            assert store.sessions()[0].events == 2
            assert store.recovered == []  # reading repairs nothing
            assert events_file(folder).read_bytes() == whole[:cut]
            await store.append(torn)
            assert list(store.read("s")) == bodies([*kept, *torn])
            if cut == len(good):
                assert store.recovered == []
            else:
                assert store.recovered == [("s", 2, whole[len(good) : cut])]
                assert "an append that a crash cut short, from event 2 on" in caplog.text
        assert events_file(folder).read_bytes() == whole


async def test_a_torn_first_append(folder: Path) -> None:
    records = Writer("s").events(2)
    with LocalFileLog(folder) as store:
        await store.append(records)
    whole = events_file(folder).read_bytes()
    for cut in range(0, len(whole), 9):
        events_file(folder).write_bytes(whole[:cut])
        with LocalFileLog(folder) as store:
            assert store.sessions() == []
            with pytest.raises(UnknownNameError):
                store.read("s")
            await store.append(records)
            assert store.recovered == ([("s", 0, whole[:cut])] if cut else [])
            assert list(store.read("s")) == bodies(records)


@pytest.mark.parametrize("zeros", [1, 10, 5000, 200_000])
async def test_zeros_after_a_loss_of_power(folder: Path, zeros: int) -> None:
    writer = Writer("s")
    records = writer.events(3)
    with LocalFileLog(folder) as store:
        await store.append(records)
    for end in (b"", b"\n"):
        with open(events_file(folder), "ab") as file:
            file.write(bytes(zeros) + end)
        with LocalFileLog(folder) as store:
            assert list(store.read("s")) == bodies(records)
            assert store.sessions()[0].events == len(records)
            records += writer.events(1)
            await store.append(records[-1:])
            assert store.recovered == [("s", len(records) - 1, bytes(zeros) + end)]
            assert list(store.read("s")) == bodies(records)


@pytest.mark.parametrize("size", [100, 65_000, 65_536, 70_000, 400_000])
async def test_the_end_is_found_behind_long_lines(folder: Path, size: int) -> None:
    writer = Writer("s")
    records: list[Record] = []
    for _ in range(3):
        with LocalFileLog(folder) as store:
            new = [writer.event(data="x" * size), writer.event(data="y" * size)]
            await store.append(new)
            records += new
            assert store.sessions()[0].events == len(records)
            assert list(store.read("s", 2)) == bodies(records)[3:]
        with open(events_file(folder), "ab") as file:
            file.write(b'{"at":1' + b"z" * size)


async def test_a_changed_event_is_not_taken_for_a_torn_one(folder: Path) -> None:
    with LocalFileLog(folder) as store:
        await store.append(Writer("s").events(3))
    data = events_file(folder).read_bytes()
    events_file(folder).write_bytes(data[:-40] + b"!" + data[-39:])
    with LocalFileLog(folder) as store, pytest.raises(LogCorrupt) as caught:
        store.verify("s")
    assert caught.value.seq == 2
    events_file(folder).write_bytes(b"what is this\n")
    with LocalFileLog(folder) as store:
        assert store.sessions()[0].status == "corrupt"
        with pytest.raises(LogCorrupt, match="not readable"):
            await store.append([Writer("s", seq=1).event()])
    assert events_file(folder).read_bytes() == b"what is this\n"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b", "x" * 201, "é" * 101, "\ud800"])
async def test_names_that_are_no_folders(store: LocalFileLog, folder: Path, name: str) -> None:
    record = Writer("s").start()._replace(session=name)
    with pytest.raises(LogWriteError, match="a session cannot be named"):
        await store.append([record])
    with pytest.raises(UnknownNameError):
        store.read(name)
    assert not folder.exists()


async def test_names_that_are(store: LocalFileLog) -> None:
    names = ["blobs", "x" * 200, "-rf", "a b", "events.jsonl", "🜁", "\\", "con", "..."]
    for name in names:
        await store.append([Writer(name).start()], {digest(b"x"): b"x"})
    assert sorted(info.id for info in store.sessions()) == sorted(names)
    assert store.blob(digest(b"x")) == b"x"


async def test_other_things_in_the_folder(store: LocalFileLog, folder: Path) -> None:
    await store.append([Writer("s").start()])
    (folder / "notes").mkdir()
    (folder / "notes.txt").write_text("x")
    assert [info.id for info in store.sessions()] == ["s"]
    with pytest.raises(UnknownNameError):
        store.read("notes")


def write_as_child(
    folder: Path, store: LocalFileLog | None, seq: int, answers: "multiprocessing.Queue[str]"
) -> None:
    store = store or LocalFileLog(folder)
    try:
        asyncio.run(store.append([Writer("s", seq=seq).event()]))
        asyncio.run(store.append([Writer("mine").start()]))
        answers.put("written")
    except LogWriteError as error:
        answers.put(str(error))


@pytest.mark.parametrize("inherit", [False, True])
def test_a_session_has_one_writing_process(folder: Path, inherit: bool) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    writer = Writer("s")

    def child(store: LocalFileLog) -> str:
        process = context.Process(
            target=write_as_child, args=(folder, store if inherit else None, 1, answers)
        )
        process.start()
        process.join(300)
        return answers.get(timeout=60)

    with LocalFileLog(folder) as store:
        asyncio.run(store.append([writer.start()]))
        assert "is being written by another process" in child(store)
        asyncio.run(store.append([writer.end()]))
        asyncio.run(store.append(Writer("t").events(1)))
        assert "already stored" in child(store)  # the end of a session gives it free
    answers.close()
    answers.join_thread()


async def test_few_files_stay_open(store: LocalFileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_OPEN_FILES", 3)
    writers = [Writer(f"s{n}") for n in range(10)]
    for _ in range(3):
        for writer in writers:
            await store.append([writer.event()])
    assert len(store._files) == 3
    assert [info.events for info in store.sessions()] == [3] * 10


async def test_a_torn_blob(store: LocalFileLog, folder: Path) -> None:
    await store.append([Writer("s").start()], {digest(b"data"): b"data"})
    (path,) = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    path.write_bytes(b"dat")
    with pytest.raises(LogCorrupt, match="changed after it was written"):
        store.blob(digest(b"data"))


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = LocalFileLog(tmp_path / "file" / "sessions")
    with pytest.raises(LogWriteError, match="could not be written"):
        await store.append([Writer("s").start()])
    with pytest.raises(ConfigError, match="'normal' or 'full'"):
        LocalFileLog(tmp_path, synchronous="off")  # type: ignore[arg-type]


LIMITED = """
import asyncio, resource, sys
from lllm.errors import LogWriteError
from lllm.log import LocalFileLog
from tests.log.events import Writer

async def main():
    store = LocalFileLog(sys.argv[1])
    writer = Writer("s")
    await store.append([writer.start()])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    stored = 1
    try:
        while True:
            await store.append(writer.events(2, "x" * 700))
            stored += 2
    except LogWriteError as error:
        print(stored, error)
    store.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow(folder: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)], cwd=ROOT, text=True, capture_output=True, timeout=300
    )
    assert outcome.stderr == ""
    stored, _, message = outcome.stdout.partition(" ")
    assert "could not be written (File too large)" in message
    assert "point log_dir" in message
    assert events_file(folder).read_bytes().endswith(b"\n")  # nothing torn is left
    with LocalFileLog(folder) as store:
        assert len(list(store.read("s"))) == int(stored)
        assert store.verify("s")
        asyncio.run(store.append([Writer("s", seq=int(stored)).event()]))
        assert store.recovered == []


ENDLESS = """
import asyncio, sys
from lllm.log import LocalFileLog
from tests.log.events import Writer

async def main():
    store, writer = LocalFileLog(sys.argv[1]), Writer("s")
    while True:
        await store.append(writer.events(2, "x" * 500))
        print(writer.seq, flush=True)

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = 0
    for number, line in enumerate(process.stdout):
        if not line.endswith("\n"):
            break  # the last line it began to print
        acknowledged = int(line)
        if number == 1000:
            process.send_signal(signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL
    process.stdout.close()
    with LocalFileLog(folder) as store:
        log = list(store.read("s"))
        assert len(log) >= acknowledged
        assert store.verify("s")
        asyncio.run(store.append([Writer("s", seq=len(log)).event()]))


async def test_a_listing_does_not_read_the_sessions(store: LocalFileLog, folder: Path) -> None:
    writer = Writer("s")
    await store.append([writer.start(task="x")])
    for _ in range(20):
        await store.append(writer.events(5, "x" * 20_000))
    with open(events_file(folder), "r+b") as file:  # nobody looks at the middle
        file.seek(1_000_000)
        file.write(b"\n\n\n")
    info = store.sessions()[0]
    assert (info.events, info.meta) == (101, {"task": "x"})


def test_a_log_record_is_a_warning(caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    folder.joinpath("s").mkdir(parents=True)
    events_file(folder).write_bytes(b'{"at"')
    with LocalFileLog(folder) as store:
        asyncio.run(store.append([Writer("s").start()]))
    assert [(record.name, record.levelno) for record in caplog.records] == [("lllm.log", logging.WARNING)]
    assert os.listdir(folder / "s") == ["events.jsonl"]
