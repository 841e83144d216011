"""A session that an older version wrote, with JSON that is nested deeper than is read today."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, ScriptedBackend, record
from lllm.core import canonical
from lllm.core import events as ev
from lllm.errors import LogCorrupt
from lllm.log import open_store
from lllm.log.views import load
from lllm.replay import replay_session
from tests.cli.conftest import Terminal


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(params=["sqlite", "localfile"])
def log(request: pytest.FixtureRequest, demo: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """A good session, one that is too deep, and another good one."""
    kind = request.param
    monkeypatch.setenv("LLLM_LOG_TYPE", kind)
    ids = []
    with open_store(kind, demo / ".lllm") as store:  # type: ignore[attr-defined]  # those of this package
        for name in ("before", "deep", "after"):
            with record(name, store=store) as live:
                Agent("a", ScriptedBackend(["hello"]))("hi")
                if name == "deep":
                    limit = sys.getrecursionlimit()
                    with monkeypatch.context() as older:
                        older.setattr(canonical, "DEEPEST", 100_000)
                        sys.setrecursionlimit(20_000)
                        live.emit(ev.NOTE, {"text": "deep", "value": nested(400)})
                    sys.setrecursionlimit(limit)
                Agent("a", ScriptedBackend(["bye"]))("hi")
            ids.append(live.id)
    return ids[0], ids[1], ids[2]


def test_the_error_names_session_event_and_cause(log: tuple[str, str, str], demo: Path) -> None:
    with open_store(
        "sqlite" if (demo / ".lllm/sessions.db").exists() else "localfile", demo / ".lllm"
    ) as store:  # type: ignore[attr-defined]
        words = f"event 6 of session '{log[1]}' cannot be read: its JSON is nested more than 250 lists"
        with pytest.raises(LogCorrupt, match=words) as caught:
            load(store, log[1])
        assert caught.value.seq == 6
        with pytest.raises(LogCorrupt, match=words):
            replay_session(log[1], store=store)


ONE = [
    *(
        "show ID",
        "show ID --events",
        "replay ID",
        "resume ID",
        "fork ID",
        "export ID",
        "compare ID OTHER",
        "test keep ID",
    ),
    *("sessions artifacts ID", "sessions copy ID --to localfile:other", "sessions copy ID --to one.lllm"),
]


@pytest.mark.parametrize("log", ["sqlite"], indirect=True)
def test_every_command_for_one_session_says_so(lllm: Terminal, log: tuple[str, str, str]) -> None:
    before, deep, _ = log
    for words in ONE:
        result = lllm(
            *(deep if word == "ID" else before if word == "OTHER" else word for word in words.split())
        )
        assert result.code == 3, (words, result.err)
        assert (
            f"event 6 of session '{deep}' cannot be read: its JSON is nested more than 250" in result.err
        ), words
        assert "Traceback" not in result.err


def test_the_other_sessions_are_as_before(lllm: Terminal, log: tuple[str, str, str]) -> None:
    before, deep, after = log
    for words in (["sessions"], ["sessions", "--long"], ["sessions", "--text", "hi"]):
        result = lllm(*words)
        assert result.code == 0
        assert all(id in result.out for id in log), words
    rows = {row["session"]: row for row in lllm("sessions", "--long", "--json").json}
    assert [rows[id]["status"] for id in log] == ["done", "corrupt", "done"]
    assert "nested" in rows[deep]["problem"]
    assert (lllm("totals").code, lllm("totals", "--json").json[0]["calls"]) == (
        0,
        5,
    )  # of the deep one, those before it
    for id in (before, after):
        assert lllm("show", id).code == 0
    exported = lllm("export", "--all", "--format", "openai")
    assert (exported.code, len(exported.out.splitlines())) == (3, 4)
    assert f"session {deep} is left out" in exported.err
    whatif = lllm("whatif", before, deep, "--set", "temperature=0", "--json")
    assert "nested" in next(case["error"] for case in whatif.json["cases"] if case["session"] == deep)


def test_copy_leaves_it_out_and_goes_on(lllm: Terminal, log: tuple[str, str, str], demo: Path) -> None:
    before, deep, after = log
    result = lllm("sessions", "copy", "--all", "--to", "localfile:other")
    assert result.code == 3
    assert f"session {deep} is left out: event 6 of session '{deep}' cannot be read" in result.err
    with open_store("localfile", demo / "other") as store:  # type: ignore[attr-defined]
        assert {info.id for info in store.sessions()} == {before, after}


def test_prune_removes_it(lllm: Terminal, log: tuple[str, str, str]) -> None:
    _, deep, _ = log
    assert lllm("sessions", "prune", "--keep", "1").code == 0
    assert deep not in lllm("sessions").out
