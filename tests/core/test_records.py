"""The records of events: what the log holds, declared once. The corpus of random systems is held against them in
tests/replay/test_corpus.py, and what every test of this suite writes in tests/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lllm import MemoryLog, record
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.events import error_class
from lllm.core.records import OPEN, RECORDS, ToolReturned
from lllm.core.shapes import fields_of, misfit, misshapen
from lllm.errors import ConfigError
from lllm.log.copy import load_session
from tests.replay.systems import System

STORED = sorted((Path(__file__).parents[1] / "replay" / "recorded").glob("*.lllm"))


def stored(file: Path) -> list[dict[str, Any]]:
    store = MemoryLog()
    return [open_event(body) for body in store.read(load_session(file, store))]


def examples() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One event of each kind that a few systems write."""
    found: dict[str, Mapping[str, Any]] = {}
    for seed in range(12):
        for event in System(seed).record().events():
            found.setdefault(event["kind"], event["data"])
    yield from found.items()


def test_every_kind_has_a_record() -> None:
    kinds = {value for name, value in vars(ev).items() if name.isupper() and isinstance(value, str)}
    assert kinds == set(RECORDS)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_key_has_a_meaning(kind: str) -> None:
    assert all(field.meaning for field in fields_of(RECORDS[kind]).values())


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.stem)
def test_stored_logs_fit_their_records(file: Path) -> None:
    for event in stored(file):
        assert misfit(event["data"], RECORDS[event["kind"]], closed=True) == ""


def test_what_does_not_fit_a_record_is_found() -> None:
    seen = 0
    for kind, data in examples():
        record = RECORDS[kind]
        assert misfit(data, record, closed=True) == ""
        if record not in OPEN:
            wrong = misfit({**data, "sparkle": 1}, record, closed=True)
            assert wrong == f"data.sparkle is not a key of {kind}"
        for name, field in fields_of(record).items():
            if name in data and field.required:
                rest = {key: value for key, value in data.items() if key != name}
                assert misfit(rest, record, closed=True) == f"data.{name} is missing"
            if name in data and misfit({**data, name: object()}, record):
                assert misfit({**data, name: object()}, record, closed=True).startswith(f"data.{name} ")
                seen += 1
    assert seen > 30


def test_a_later_log_may_have_more() -> None:
    event = {"at": 1, "call": "c1", "dialog": None}
    assert misshapen({**event, "kind": "WaitEnded", "data": {"seconds": 1, "sparkle": 1}}) == ""
    assert misshapen({**event, "kind": "Sparkled", "data": {}}) == ""


@pytest.mark.parametrize(
    ("error", "name"), [("ValueError", "ValueError"), ("TimeoutError()", "TimeoutError"), (None, "")]
)
def test_error_class_reads_old_logs(error: str | None, name: str) -> None:
    data: ToolReturned = {"id": "t1"} if error is None else {"id": "t1", "error": error}
    assert error_class(data) == name


def test_what_a_test_writes_is_checked() -> None:
    from tests import conftest

    with record("x", store=MemoryLog()) as session:
        session.emit(ev.FRONTEND, {"method": "write", "sparkle": 1})
    assert conftest._unrecorded == ["Frontend: data.sparkle is not a key of Frontend"]
    conftest._unrecorded.clear()


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"seed": 1}, "cannot have 'seed'"),
        ({"lllm": "9"}, "cannot have 'lllm'"),
        ({"fork": {}}, "cannot have 'fork'"),
        ({"name": None}, "data.name cannot be NoneType"),
        ({"entry": "main.py"}, "data.entry must be an object"),
        ({"entry": {"kind": 1}}, "data.entry.kind cannot be int"),
    ],
)
def test_meta_must_fit_the_first_event(meta: dict[str, Any], problem: str) -> None:
    store = MemoryLog()
    with pytest.raises(ConfigError, match=problem), record("x", store=store, meta=meta):
        pass
    assert not store.sessions()


def test_meta_may_say_anything_else() -> None:
    store = MemoryLog()
    with record("x", store=store, meta={"task": 5, "experiment": {"arm": [1]}}):
        pass
    assert store.sessions()[0].meta["experiment"] == {"arm": [1]}
