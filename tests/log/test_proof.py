"""Verification of a session: every event, the chain, the blobs, and a head noted elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lllm.core.envelope import Record
from lllm.core.order import EventOrder
from lllm.core.shapes import misshapen
from lllm.errors import ConfigError, LogCorrupt
from lllm.log.copy import read_session, record_of, save_session
from lllm.log.files import EVENTS, LocalFileLog
from lllm.log.memory import MemoryLog
from lllm.log.proof import check_head, head_of, prove
from lllm.replay import replay_session
from tests.log.sessions import full
from tests.replay.systems import System


@pytest.fixture
def session() -> tuple[MemoryLog, str]:
    store = MemoryLog()
    return store, full(store)


def in_files(folder: Path, session: tuple[MemoryLog, str], at_once: int = 1) -> tuple[LocalFileLog, Path]:
    """The session in plain files, in appends of so many events."""
    store, id = session
    records = [record_of(body) for body in store.read(id)]
    files = LocalFileLog(folder)
    for start in range(0, len(records), at_once):
        asyncio.run(files.append(records[start : start + at_once], store._blobs if start == 0 else {}))
    files.close()
    return LocalFileLog(folder), folder / id / EVENTS


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("byte", [0, 10, 32, 255])
def test_a_changed_byte_in_the_middle_is_never_taken_for_a_torn_end(
    byte: int, at_once: int, tmp_path: Path, session: tuple[MemoryLog, str]
) -> None:
    files, path = in_files(tmp_path, session, at_once)
    whole = path.read_bytes()
    end = whole.rstrip(b"\n").rfind(b"\n", 0, len(whole) - 2000)  # the last append may be torn
    for at in range(3, end, max(1, end // 40)):
        if whole[at] == byte:
            continue
        path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        with pytest.raises(LogCorrupt):
            prove(files, session[1])
    files.close()


def test_zeros_at_the_end_are_a_torn_end(tmp_path: Path, session: tuple[MemoryLog, str]) -> None:
    files, path = in_files(tmp_path, session)
    count = len(prove(files, session[1]))
    with path.open("ab") as file:
        file.write(b"\0" * 500 + b"\n" + b"\0" * 9 + b" \n")
    assert len(prove(files, session[1])) == count
    files.close()


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_blob_is_a_part_of_what_is_verified(
    change: str, tmp_path: Path, session: tuple[MemoryLog, str]
) -> None:
    files, _ = in_files(tmp_path, session)
    blob = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    blob.unlink() if change == "gone" else blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(LogCorrupt, match="missing" if change == "gone" else "changed after it was written"):
        replay_session(session[1], store=files)
    with pytest.raises(LogCorrupt):
        prove(files, session[1])
    files.close()


def test_a_file_without_its_blob_is_refused(tmp_path: Path, session: tuple[MemoryLog, str]) -> None:
    path = tmp_path / "x.lllm"
    save_session(*session, path)
    head, *lines = path.read_bytes().splitlines()
    kept = [line for line in lines if not line.startswith(b'{"blob"')]
    assert len(kept) < len(lines)
    blobs = len(lines) - len(kept)
    path.write_bytes(b"\n".join([head.replace(b'"blobs":%d' % blobs, b'"blobs":0'), *kept, b""]))
    with pytest.raises(LogCorrupt, match="which is missing"):
        read_session(path)


def test_a_head_that_was_kept_elsewhere(session: tuple[MemoryLog, str]) -> None:
    store, id = session
    events = prove(store, id)
    last = events[-1]["hash"]
    assert head_of(store, id, len(events)) == last
    assert prove(store, id, head=last) == events
    assert prove(store, id, head=last.removeprefix("sha256:").upper()) == events
    assert prove(store, id, head=events[3]["hash"]) == events  # what came later is allowed

    shorter = MemoryLog()
    records: list[Record] = [record_of(body) for body in store.read(id)][:-1]
    asyncio.run(shorter.append(records, store._blobs))
    prove(shorter, id)  # a chain alone does not show that its end is missing
    with pytest.raises(LogCorrupt, match="does not hold the event"):
        replay_session(id, store=shorter, head=last)


@pytest.mark.parametrize("head", ["", "sha256:12", "x" * 64, "md5:" + "0" * 64])
def test_what_is_not_a_hash_is_refused(head: str) -> None:
    with pytest.raises(ConfigError, match="head must be sha256: and 64 hexadecimal digits"):
        check_head(head)


@pytest.mark.parametrize("seed", range(8))
def test_every_event_has_its_shape_and_its_place(seed: int) -> None:
    order = EventOrder()
    for event in System(seed).record().events():
        assert (misshapen(event), order.misplaced(event)) == ("", "")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("ModelReplied", {"message": 5}, "data.message must be an object, got int"),
    ("ModelReplied", {"message": {"role": "x", "content": "y"}}, "data.message.role cannot be str here"),
    ("ModelReplied", {}, "data.message is missing"),
    (
        "ModelReplied",
        {"message": {"role": "assistant", "tool_calls": [{"id": 1}]}},
        "data.message.tool_calls.0.id cannot be int here",
    ),
    ("ModelReplied", {"message": {"role": "assistant"}, "cost": "NaN"}, "data.cost cannot be str here"),
    ("CallStarted", {"agent": "a", "spec": {"tools": {"x": {"effect": 3}}}}, "data.spec.tools.x.effect"),
    ("WaitEnded", {"seconds": True}, "data.seconds cannot be bool here"),
]


@pytest.mark.parametrize(("kind", "data", "said"), WRONG)
def test_a_wrong_shape_is_named_with_its_place(kind: str, data: dict[str, Any], said: str) -> None:
    event = {"kind": kind, "at": 1, "call": "c1", "dialog": None, "data": data}
    assert said in misshapen(event)
