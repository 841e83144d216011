"""The names of `lllm.log`, and the table behind `log_type`."""

import json
from pathlib import Path
from typing import Any

import pytest

import lllm.log
from lllm.core.canonical import encode
from lllm.core.envelope import seal
from lllm.errors import ConfigError, UnknownNameError
from lllm.log import LocalFileLog, MemoryLog, NoLog, ReplayableLogBase, SQLiteLog, open_store
from lllm.log.base import encoded_meta, status_of


@pytest.mark.parametrize("name", lllm.log.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(lllm.log, name).__name__ == name
    assert name in dir(lllm.log)


def test_a_name_that_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        lllm.log.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (None, SQLiteLog),
        ("sqlite", SQLiteLog),
        ("localfile", LocalFileLog),
        ("LocalFile", LocalFileLog),
        ("memory", MemoryLog),
        ("none", NoLog),
    ],
)
def test_open_store(spec: str | None, kind: type[ReplayableLogBase], tmp_path: Path) -> None:
    store = open_store(spec, tmp_path / "logs")
    assert type(store) is kind
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'sqlite'"):
        open_store("sqllite", tmp_path)


@pytest.mark.parametrize("spec", ["sqlite", "localfile", "memory", "none"])
@pytest.mark.parametrize("synchronous", [None, "normal", "full"])
def test_settings_of_stores(spec: str, synchronous: str | None, tmp_path: Path) -> None:
    open_store(spec, tmp_path, synchronous=synchronous).close()
    if spec in ("sqlite", "localfile"):
        with pytest.raises(ConfigError, match="'normal' or 'full'"):
            open_store(spec, tmp_path, synchronous="off")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "x"},
        {
            "name": '},"dialog":null,"hash":"sha256:',
            "task": ',"data":{"a":1}',
            "entry": {"dialog": {"data": {}}},
        },
        {"name": 'Zoë \\ " ,', "n": [1, {"a": None}]},
    ],
)
def test_what_is_said_of_a_session_is_read_from_its_first_event(data: dict[str, Any]) -> None:
    record = seal('s","data":{', 0, 7, None, 'd},"dialog":', "SessionStarted", data, "")
    assert encoded_meta(record.kind, record.body) == encode(data)
    assert encoded_meta("Note", record.body) == b"{}"
    spaced = json.dumps({"data": data, "kind": "SessionStarted"}).encode()
    assert encoded_meta("SessionStarted", spaced) == encode(data)


@pytest.mark.parametrize(
    "data",
    [
        {"status": "done"},
        {"status": "done", "result": 1},
        {"status": "failed", "error": '{"at":1,"call":null,"data":{"status":"done"},'},
        {"result": {"at": 1, "call": None, "data": {"status": "done"}, "dialog": None}, "status": "failed"},
        {"status": "cancelled"},
    ],
)
@pytest.mark.parametrize("call", [None, 'x","data":{"status":"done"},'])
def test_the_status_is_what_the_last_event_says(data: dict[str, Any], call: str | None) -> None:
    record = seal("s", 3, 1234567, call, None, "SessionEnded", data, "sha256:")
    assert status_of(record.kind, record.body) == data["status"]
    assert status_of("Note", record.body) == "running"
