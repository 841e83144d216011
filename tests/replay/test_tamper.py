"""Whatever is changed in a stored session is noticed: 10,000 single bytes, and events that are gone, moved or twice there."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from lllm.core import canonical
from lllm.core.envelope import Record, open_event, seal, verify_chain
from lllm.errors import LLMError, LogCorrupt
from lllm.log import open_store as opened
from lllm.log.base import ReplayableLogBase
from lllm.log.files import EVENTS
from lllm.ports import LogStore
from tests.replay.systems import Recorded, System

CHANGES = 10_000
STORED = 40


def open_store(kind: str, folder: Path) -> ReplayableLogBase:
    store = opened(kind, folder)
    assert isinstance(store, ReplayableLogBase)
    return store


@pytest.fixture(scope="module")
def corpus() -> list[Recorded]:
    return [System(seed).record() for seed in range(30)]


def bodies(found: Recorded) -> list[bytes]:
    return list(found.store.read(found.session))


def test_every_changed_byte_is_noticed(corpus: list[Recorded]) -> None:
    rng = Random("bytes")
    logs = [bodies(found) for found in corpus]
    places = [(log, number) for log in logs for number in range(len(log))]
    for _ in range(CHANGES):
        log, number = rng.choice(places)
        body = bytearray(log[number])
        at = rng.randrange(len(body))
        body[at] ^= rng.randrange(1, 256)
        with pytest.raises(LogCorrupt):
            open_event(bytes(body))


def _dropped(log: list[bytes], rng: Random) -> list[bytes]:
    at = rng.randrange(len(log) - 1)
    return [*log[:at], *log[at + 1 :]]


def _doubled(log: list[bytes], rng: Random) -> list[bytes]:
    at = rng.randrange(len(log))
    return [*log[: at + 1], log[at], *log[at + 1 :]]


def _swapped(log: list[bytes], rng: Random) -> list[bytes]:
    left, right = rng.sample(range(len(log)), 2)
    out = list(log)
    out[left], out[right] = out[right], out[left]
    return out


def _torn(log: list[bytes], rng: Random) -> list[bytes]:
    at = rng.randrange(len(log))
    return [*log[:at], log[at][: rng.randrange(len(log[at]))], *log[at + 1 :]]


def _resealed(log: list[bytes], rng: Random) -> list[bytes]:
    """An event that was written anew, with a good hash of its own: the one after it does not follow."""
    at = rng.randrange(1, len(log) - 1)
    event = open_event(log[at])
    data = {**event["data"], "forged": True}
    made = seal(
        event["session"], at, event["at"], event["call"], event["dialog"], event["kind"], data, event["prev"]
    )
    return [*log[:at], made.body, *log[at + 1 :]]


@pytest.mark.parametrize("change", [_dropped, _doubled, _swapped, _torn, _resealed])
def test_changed_events_are_noticed(
    corpus: list[Recorded], change: Callable[[list[bytes], Random], list[bytes]]
) -> None:
    rng = Random(change.__name__)
    for number in range(200):
        found = corpus[number % len(corpus)]
        log = bodies(found)
        if len(log) < 4:
            continue
        with pytest.raises(LogCorrupt):
            verify_chain(change(log, rng), session=found.session)


def test_an_end_that_is_missing_is_noticed_where_it_is_known(corpus: list[Recorded]) -> None:
    for found in corpus:
        log = bodies(found)
        with pytest.raises(LogCorrupt):
            verify_chain(log[:-1], session=found.session, events=len(log))


def test_events_of_another_session_are_noticed(corpus: list[Recorded]) -> None:
    for found, other in pairwise(corpus):
        with pytest.raises(LogCorrupt):
            verify_chain([*bodies(found)[:2], *bodies(other)[2:]], session=found.session)
        with pytest.raises(LogCorrupt):
            verify_chain(bodies(other), session=found.session)


async def _store(kind: str, folder: Path, found: Recorded) -> None:
    with open_store(kind, folder) as store:
        for body in bodies(found):
            event = open_event(body)
            record = Record(
                found.session, event["seq"], event["at"], event["kind"], event["call"], event["hash"], body
            )
            await store.append([record], dict(found.store._blobs) if event["seq"] == 0 else None)


def _looked_at(store: LogStore, session: str, log: list[bytes]) -> None:
    assert list(store.read(session)) == log
    verify_chain(store.read(session), session=session)


def _rows(folder: Path) -> Iterator[tuple[int, bytes]]:
    with sqlite3.connect(folder / "sessions.db") as database:
        yield from database.execute("SELECT rowid, body FROM appends ORDER BY rowid").fetchall()
    database.close()


def test_changed_rows_of_a_database_are_noticed(corpus: list[Recorded], tmp_path: Path) -> None:
    rng = Random("rows")
    for number, found in enumerate(corpus[:4]):
        folder = tmp_path / str(number)
        asyncio.run(_store("sqlite", folder, found))
        rows = list(_rows(folder))
        database = sqlite3.connect(folder / "sessions.db", isolation_level=None)
        for _ in range(STORED):
            row, body = rng.choice(rows)
            changed = bytearray(body)
            changed[rng.randrange(len(body))] ^= rng.randrange(1, 256)
            database.execute("UPDATE appends SET body = ? WHERE rowid = ?", (bytes(changed), row))
            with open_store("sqlite", folder) as store, pytest.raises(LogCorrupt):
                store.verify(found.session)
            database.execute("UPDATE appends SET body = ? WHERE rowid = ?", (body, row))
        with open_store("sqlite", folder) as store:
            _looked_at(store, found.session, bodies(found))
        database.close()


def test_changed_bytes_of_a_file_are_noticed(corpus: list[Recorded], tmp_path: Path) -> None:
    rng = Random("files")
    for number, found in enumerate(corpus[:4]):
        folder = tmp_path / str(number)
        asyncio.run(_store("localfile", folder, found))
        (path,) = folder.rglob(EVENTS)
        data, log = path.read_bytes(), bodies(found)
        for _ in range(STORED):
            at = rng.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
            with open_store("localfile", folder) as store:
                try:
                    left = list(store.read(found.session))
                    verify_chain(left, session=found.session, events=len(log))
                except LLMError:
                    continue
                assert left == log  # the change was to what lies between two lines
                assert data[at] in b" \n"


@pytest.mark.parametrize("kind", ["sqlite", "localfile"])
def test_changed_blobs_are_noticed(corpus: list[Recorded], tmp_path: Path, kind: str) -> None:
    rng = Random("blobs")
    found = next(one for one in corpus if one.store._blobs)
    asyncio.run(_store(kind, tmp_path, found))
    digest, content = next(iter(found.store._blobs.items()))
    assert canonical.digest(content) == digest
    with open_store(kind, tmp_path) as store:
        assert store.blob(digest) == content
    for _ in range(STORED):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        if kind == "sqlite":
            database = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
            database.execute("UPDATE blobs SET data = ? WHERE digest = ?", (bytes(changed), digest))
            database.close()
        else:
            files = [path for path in tmp_path.rglob("blobs/**/*") if path.is_file()]
            for path in files:
                if digest.removeprefix("sha256:").endswith(path.name):
                    path.chmod(0o600)
                    path.write_bytes(bytes(changed))
        with open_store(kind, tmp_path) as store, pytest.raises(LogCorrupt):
            store.blob(digest)
    shutil.rmtree(tmp_path)
