"""Sessions from store to store, and in files: nothing is lost, nothing is overwritten."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.core.canonical import digest
from lllm.core.envelope import seal
from lllm.errors import ConfigError, LogCorrupt, LogError, LogWriteError, UnknownNameError
from lllm.log import LocalFileLog, MemoryLog, NoLog, ReplayableLogBase, SQLiteLog
from lllm.log.blobs import named_in
from lllm.log.copy import Copied, copy_session, load_session, save_session
from tests.log.events import Writer, bodies

KINDS: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": lambda folder: LocalFileLog(folder / "files"),
    "memory": lambda folder: MemoryLog(),
}
PICTURE = bytes(range(256)) * 100
OTHER = b"a blob that no event names"


def fill(store: ReplayableLogBase, name: str = "s", events: int = 40) -> list[bytes]:
    """A session whose event 1 names a blob, and a blob of nobody."""
    writer = Writer(name)
    records = [writer.start(task="é\n🜁"), writer.event(data={"hash": digest(PICTURE), "prev": "x"})]
    records += [*writer.events(events), writer.end()]
    asyncio.run(store.append(records, {digest(PICTURE): PICTURE, digest(OTHER): OTHER}))
    return bodies(records)


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReplayableLogBase]:
    with KINDS[request.param](tmp_path / "from") as store:
        yield store


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReplayableLogBase]:
    with KINDS[request.param](tmp_path / "to") as store:
        yield store


def test_between_any_two_stores(source: ReplayableLogBase, target: ReplayableLogBase) -> None:
    written = fill(source)
    head = source.verify("s")
    assert copy_session(source, target, "s") == Copied("s", "copied", 43, 1, head)
    assert list(target.read("s")) == written
    assert target.verify("s") == head
    assert target.blob(digest(PICTURE)) == PICTURE
    with pytest.raises(UnknownNameError):
        target.blob(digest(OTHER))
    assert target.sessions() == source.sessions()
    assert copy_session(source, target, "s") == Copied("s", "there", 0, 0, head)
    assert not target.held("s")


def test_through_a_file(source: ReplayableLogBase, target: ReplayableLogBase, tmp_path: Path) -> None:
    written = fill(source)
    assert save_session(source, "s", tmp_path / "s.lllm") == source.verify("s")
    assert load_session(tmp_path / "s.lllm", target) == "s"
    assert list(target.read("s")) == written
    assert target.blob(digest(PICTURE)) == PICTURE
    save_session(target, "s", tmp_path / "again.lllm")
    assert (tmp_path / "again.lllm").read_bytes() == (tmp_path / "s.lllm").read_bytes()
    assert load_session(tmp_path / "s.lllm", target) == "s"
    assert sorted(path.name for path in tmp_path.glob("*.lllm*")) == ["again.lllm", "s.lllm"]


def test_the_file_is_plain_lines(tmp_path: Path) -> None:
    store = MemoryLog()
    written = fill(store)
    save_session(store, "s", tmp_path / "s.lllm")
    header, *rest = (tmp_path / "s.lllm").read_bytes().splitlines()
    assert json.loads(header) == {"lllm": "session", "format": 1, "session": "s", "events": 43, "blobs": 1}
    assert rest[:43] == written
    assert json.loads(rest[43])["blob"] == digest(PICTURE)
    assert len(rest) == 44


def test_an_interrupted_copy_goes_on(source: ReplayableLogBase, target: ReplayableLogBase) -> None:
    written = fill(source)
    half = MemoryLog()
    fill(half)
    records = half._sessions["s"][:17]
    asyncio.run(target.append(records))
    done = copy_session(source, target, "s")
    assert (done.outcome, done.events, done.blobs) == ("continued", 26, 1)
    assert list(target.read("s")) == written


def test_a_copy_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lllm.log.copy.PORTION", 500)
    source, target = MemoryLog(), MemoryLog()
    written = fill(source, events=200)
    assert copy_session(source, target, "s").events == 203
    assert list(target.read("s")) == written


def test_another_session_of_that_name_is_refused(
    source: ReplayableLogBase, target: ReplayableLogBase
) -> None:
    fill(source)
    other = [Writer("s").start(task="another")]
    asyncio.run(target.append(other))
    with pytest.raises(LogWriteError, match="differ from event 0 on"):
        copy_session(source, target, "s")
    assert list(target.read("s")) == bodies(other)


def test_a_target_that_went_on_is_left_alone() -> None:
    source, target = MemoryLog(), MemoryLog()
    fill(target)
    asyncio.run(source.append(target._sessions["s"][:5], {digest(PICTURE): PICTURE}))
    assert copy_session(source, target, "s").outcome == "there"
    assert len(list(target.read("s"))) == 43


def test_who_writes_the_target_is_not_disturbed(target: ReplayableLogBase) -> None:
    source = MemoryLog()
    fill(source)
    target.claim("s")
    with pytest.raises(LogWriteError, match="written by somebody else"):
        copy_session(source, target, "s")
    assert list(target.sessions()) == []


def test_a_store_that_keeps_nothing_is_no_target() -> None:
    source = MemoryLog()
    fill(source)
    with pytest.raises(ConfigError, match="keeps nothing"):
        copy_session(source, NoLog(), "s")


def test_a_changed_session_is_not_copied(tmp_path: Path) -> None:
    source, target = MemoryLog(), MemoryLog()
    fill(source)
    record = source._sessions["s"][3]
    source._sessions["s"][3] = record._replace(body=record.body.replace(b'"n":1', b'"n":9'))
    with pytest.raises(LogCorrupt):
        copy_session(source, target, "s")
    with pytest.raises(LogCorrupt):
        save_session(source, "s", tmp_path / "s.lllm")
    assert list(target.sessions()) == []
    assert list(tmp_path.glob("*.lllm*")) == []


def test_every_changed_byte_of_a_file_is_seen(tmp_path: Path) -> None:
    source = MemoryLog()
    written = fill(source, events=1)
    path = tmp_path / "s.lllm"
    save_session(source, "s", path)
    good = path.read_bytes()
    for place in range(0, len(good), 97):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises((LogError, ConfigError)):
            load_session(path, MemoryLog())
    for size in range(0, len(good), 101):
        path.write_bytes(good[:size])
        with pytest.raises(LogCorrupt):
            load_session(path, MemoryLog())
    path.write_bytes(good)
    back = MemoryLog()
    load_session(path, back)
    assert list(back.read("s")) == written


def resealed(file: Path, session: str, change: Callable[[dict[str, Any]], object]) -> None:
    """A file whose seals are right, and whose session lllm never wrote."""
    header, *lines = file.read_bytes().split(b"\n")
    told = json.loads(header)
    out, prev = [json.dumps({**told, "session": session}).encode()], ""
    for line in lines[: told["events"]]:
        event = json.loads(line)
        change(event)
        keys = ("seq", "at", "call", "dialog", "kind", "data")
        record = seal(session, *(event[key] for key in keys), prev)
        out.append(record.body)
        prev = record.hash
    file.write_bytes(b"\n".join([*out, *lines[told["events"] :]]))


HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "out of the folder": ("../../evil", lambda event: None, "is not a valid session id"),
    "the folder above": ("..", lambda event: None, "is not a valid session id"),
    "no name": ("", lambda event: None, "is not a valid session id"),
    "NUL": ("a\0b", lambda event: None, "is not a valid session id"),
    "for a terminal": ("a\x1b[31m", lambda event: None, "is not a valid session id"),
    "long": ("x" * 201, lambda event: None, "is not a valid session id"),
    "before 1970": ("s", lambda event: event.update(at=-1), "event 0: its time must be"),
    "after 9999": ("s", lambda event: event.update(at=10**18), "event 0: its time is after the year 9999"),
    "no data": ("s", lambda event: event.update(data=3), "event 0: its data must be an object"),
    "entry": ("s", lambda event: event["data"].update(entry="x"), "data.entry must be an object"),
    "fork": ("s", lambda event: event["data"].update(fork=7), "data.fork must be an object"),
    "name": ("s", lambda event: event["data"].update(name=["x"]), "data.name cannot be"),
    "events": (
        "s",
        lambda event: event["seq"] == 1 and event.update(kind="ModelReplied", data={}),
        "event 1: ",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_lllm_never_wrote_is_refused(
    what: str, tmp_path: Path, target: ReplayableLogBase
) -> None:
    """Its hashes are right; one such session in a store would stop every list of sessions, or lead out of a folder."""
    source, file = MemoryLog(), tmp_path / "s.lllm"
    fill(source)
    save_session(source, "s", file)
    session, change, said = HOSTILE[what]
    resealed(file, session, change)
    with pytest.raises(LogCorrupt, match=said):
        load_session(file, target)
    assert target.sessions() == []


def test_a_file_of_a_later_format(tmp_path: Path) -> None:
    path = tmp_path / "s.lllm"
    path.write_text('{"lllm":"session","format":2,"session":"s","events":0,"blobs":0}\n')
    with pytest.raises(LogError, match="git pull && pip install"):
        load_session(path, MemoryLog())
    with pytest.raises(LogError, match="could not be read"):
        load_session(tmp_path / "absent.lllm", MemoryLog())


def test_what_may_name_a_blob() -> None:
    writer = Writer("s")
    writer.start()
    event = writer.event(data={"a": digest(b"1"), "b": [f"see {digest(b'2')}"], "hash": digest(b"3")})
    assert named_in(event.body) == {digest(b"1"), digest(b"2"), digest(b"3")}
