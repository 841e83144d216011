"""Files and values that a session keeps: written down, compared by a replay, got out again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, FunctionCall, LocalFileLog, MemoryLog, NoLog, SQLiteLog, record, replay_session
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.canonical import digest
from lllm.errors import ConfigError, LogCorrupt
from lllm.log import views
from lllm.replay.resume import resume_session
from lllm.session import Session, current
from lllm.utils.artifacts import Artifact, artifacts, save

UNSAFE = [
    "", ".", "..", "../x", "a/../x", "/etc/x", "a//b", "a/", "C:\\x", "a\\b", "a\0b", "a\nb", "nul", "con.txt", "x.",
    "x" * 201, "\udc80", 7,
]  # fmt: skip


def last(store: Any) -> str:
    return str(store.sessions(1)[0].id)


def program(store: Any, content: str = "# Report\n") -> Callable[[], None]:
    def main() -> None:
        with record("kept", store=store) as session:
            session.save_artifact("report.md", content)
            session.save_artifact("plots/1.png", b"\x89PNG\xff")
            session.save_artifact("numbers", {"b": [1, 2], "a": None})

    return main


@pytest.mark.parametrize("kind", [MemoryLog, SQLiteLog, LocalFileLog])
def test_artifacts_are_kept_and_got_out(kind: Any, tmp_path: Path) -> None:
    store = kind() if kind is MemoryLog else kind(tmp_path / "log")
    with store:
        program(store)()
        found = artifacts(views.load(store, last(store)))
        assert [(item.name, item.media_type, item.size) for item in found] == [
            ("report.md", "text/markdown", 9),
            ("plots/1.png", "image/png", 5),
            ("numbers", "application/json", 20),
        ]
        assert found[0].digest == digest(b"# Report\n")
        files = save(store, found, tmp_path / "out")
        assert [str(file.relative_to(tmp_path / "out")) for file in files] == [
            "report.md",
            "plots/1.png",
            "numbers",
        ]
        assert [file.read_bytes() for file in files] == [
            b"# Report\n",
            b"\x89PNG\xff",
            b'{"a":null,"b":[1,2]}',
        ]
        with pytest.raises(ConfigError, match="there already"):
            save(store, found, tmp_path / "out")
        save(store, found, tmp_path / "out", overwrite=True)


def test_the_transcript_lists_them() -> None:
    store = MemoryLog()
    program(store)()
    rows = [row.text for row in views.transcript(views.load(store, last(store))) if row.kind == "artifact"]
    assert rows[0] == "report.md (text/markdown, 9 bytes)"


def test_a_replay_compares_the_content() -> None:
    store = MemoryLog()
    program(store)()
    assert replay_session(last(store), store=store, entry=program(store)).verified
    report = replay_session(last(store), store=store, entry=program(store, "# Another\n"))
    assert not report.verified
    assert report.divergence is not None
    assert report.divergence.cause == "code: the artifact 'report.md' has another content"


def test_a_tool_keeps_one_for_its_call() -> None:
    def draw() -> str:
        """Draws."""
        scope = current.get()
        assert scope is not None
        scope.session.save_artifact("drawing.svg", "<svg/>")
        return "drawn"

    store = MemoryLog()

    def main() -> str:
        with record("drawn", store=store):
            return str(
                Agent("a", ScriptedBackend([FunctionCall("", "draw", "{}"), "done"]), tools=[draw])("draw")
            )

    main()
    (found,) = artifacts(views.load(store, last(store)))
    assert (found.call, found.media_type) == ("c1", "image/svg+xml")
    report = replay_session(last(store), store=store, entry=main)
    assert report.verified, report.divergence


def test_a_resumed_session_keeps_what_it_had_not() -> None:
    whole = MemoryLog()
    program(whole)()
    id = last(whole)
    for cut in range(1, len([*whole.read(id)])):
        store = MemoryLog()
        asyncio.run(store.append(whole._sessions[id][:cut], dict(whole._blobs) if cut > 1 else {}))
        resume_session(id, store=store, entry=program(store))
        found = artifacts(views.load(store, id))
        assert [item.name for item in found] == ["report.md", "plots/1.png", "numbers"]
        assert store.blob(found[-1].digest)


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_is_no_plain_path_is_refused(name: Any, tmp_path: Path) -> None:
    store = MemoryLog()
    session = Session(store, id="s")
    with pytest.raises(ConfigError, match="an artifact cannot be named"):
        session.save_artifact(name, "x")
    stranger = Artifact(name, "text/plain", 1, digest(b"x"), 0, None)
    with pytest.raises(LogCorrupt, match="cannot be a file"):
        save(store, [stranger], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    store = MemoryLog()
    program(store)()
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "plots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogCorrupt, match="lead out"):
        save(store, artifacts(views.load(store, last(store))), tmp_path / "out", overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_secrets_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-verysecretvalue")
    store = MemoryLog()
    with record("secret", store=store) as session:
        for name, data in (
            ("a", "key sk-verysecretvalue"),
            ("b", b"sk-verysecretvalue"),
            ("c", {"x": "sk-verysecretvalue"}),
        ):
            session.save_artifact(name, data)
    for item in artifacts(views.load(store, last(store))):
        assert b"sk-verysecretvalue" not in store.blob(item.digest)
        assert b"[redacted:MY_API_KEY]" in store.blob(item.digest)


def test_the_last_of_a_name_counts(tmp_path: Path) -> None:
    store = MemoryLog()
    with record("twice", store=store) as session:
        session.save_artifact("x.txt", "old", media_type="text/x-mine")
        session.save_artifact("x.txt", "new")
        with pytest.raises(TypeError):
            session.save_artifact("y", object())
    found = artifacts(views.load(store, last(store)))
    assert [item.media_type for item in found] == ["text/x-mine", "text/plain"]
    assert [file.read_text() for file in save(store, found, tmp_path)] == ["new"]


def test_without_a_log_nothing_is_kept() -> None:
    with record("none", store=NoLog()) as session:
        assert session.save_artifact("x", "y") == digest(b"y")


def test_an_artifact_is_an_event() -> None:
    store = MemoryLog()
    program(store)()
    events = [event for event in views.load(store, last(store)) if event["kind"] == ev.ARTIFACT]
    assert events[0]["data"] == {
        "name": "report.md", "media_type": "text/markdown", "size": 9, "digest": digest(b"# Report\n"),
    }  # fmt: skip
