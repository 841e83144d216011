"""`lllm export` and `lllm import`."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from lllm import record
from lllm.log import open_store
from lllm.log.export import FORMATS
from tests.cli.conftest import Terminal
from tests.cli.test_look import tamper
from tests.servers.collector import Collector


@pytest.fixture
def session(lllm: Terminal, demo: Path) -> str:
    """A session of the created project."""
    return str(lllm("run", "What is 17 times 23?", "--json").json["session"])


def test_markdown_to_stdout_by_default(lllm: Terminal, session: str) -> None:
    result = lllm("export", session)
    assert result.code == 0
    assert result.out.startswith("# demo\n")
    assert result.out == lllm("show", session, "--markdown").out.removesuffix("\n")
    assert lllm("export").out == result.out, "the newest"


def test_a_file_says_its_format(lllm: Terminal, demo: Path, session: str) -> None:
    for name in ("a.md", "b.html", "c.ipynb", "d.lllm"):
        result = lllm("export", session, "--out", name)
        assert (result.code, result.out, result.err) == (0, "", f"wrote {name}\n")
    assert (demo / "b.html").read_text().startswith("<!doctype html>")
    nbformat.validate(nbformat.read(demo / "c.ipynb", as_version=4))
    result = lllm("export", session, "--out", "rows.jsonl")
    assert result.code == 2
    assert "Say it with --format" in result.err
    assert not (demo / "rows.jsonl").exists()
    told = lllm("export", session, "--format", "openai", "--out", "rows.jsonl", "--json").json
    assert told == {
        "format": "openai", "sessions": [session], "file": "rows.jsonl", "bytes": (demo / "rows.jsonl").stat().st_size,
    }  # fmt: skip


def test_json_on_stdout_is_one_value(lllm: Terminal, session: str) -> None:
    told = lllm("export", session, "--format", "openai", "--json").json
    assert (told["format"], told["sessions"]) == ("openai", [session])
    assert json.loads(told["content"])["messages"][-1]["role"] == "assistant"


def test_many_sessions_in_one_file(lllm: Terminal, session: str) -> None:
    newer = lllm("run", "and now?", "--json").json["session"]
    rows = [json.loads(line) for line in lllm("export", "--all", "--format", "trl").out.splitlines()]
    assert [row["session"] for row in rows] == [session, newer]
    rows = [json.loads(line) for line in lllm("export", "--last", "1", "--format", "trl").out.splitlines()]
    assert [row["session"] for row in rows] == [newer]
    result = lllm("export", "--all", "--format", "html")
    assert result.code == 2
    assert "holds one session, and 2 are asked for" in result.err
    assert lllm("export", session, "--all", "--format", "trl").code == 2


def test_rows_with_tokens_and_without(lllm: Terminal, session: str) -> None:
    assert lllm("export", "--format", "trl", "--tokens").out == ""
    assert lllm("export", "--format", "trl", "--no-tokens").out == lllm("export", "--format", "trl").out != ""


def test_a_session_without_dialogs_says_so(lllm: Terminal, demo: Path, session: str) -> None:
    with open_store("sqlite", demo / ".lllm") as store, record("empty", store=store) as live:
        pass
    for format in FORMATS:
        result = lllm("export", live.id, "--format", format)
        assert result.code == 0
        if FORMATS[format].many:
            assert result.out == ""
            assert f"session {live.id} holds no dialog" in result.err
            assert f"there is nothing to write as {format}" in result.err
            assert "--format bundle, hf, html, markdown, notebook, otel" in result.err
        else:
            assert result.out
            assert result.err == ""
    result = lllm("export", live.id, "--format", "openai", "--json")
    assert (result.json["content"], "holds no dialog" in result.err) == ("", True)
    result = lllm("export", live.id, "--format", "openai", "--out", "rows.jsonl")
    assert (result.code, "holds no dialog" in result.err) == (0, True)
    result = lllm("export", "--all", "--format", "openai")
    assert [json.loads(line)["messages"][-1]["role"] for line in result.out.splitlines()] == ["assistant"]
    assert f"1 of 2 sessions hold no dialog, so they add nothing: {live.id}" in result.err


def test_rows_that_have_no_tokens_are_said(lllm: Terminal, session: str) -> None:
    result = lllm("export", "--format", "trl", "--tokens")
    assert (result.code, result.out) == (0, "")
    assert f"session {session} holds no dialog whose last call is done and that has token ids" in result.err


def test_of_many_sessions_the_broken_one_is_left_out_and_said(
    lllm: Terminal, session: str, demo: Path
) -> None:
    tamper(demo, b"helpful", b"Helpful")
    assert lllm("export", session, "--format", "openai", "--out", "a.jsonl").code == 3
    assert not (demo / "a.jsonl").exists()
    newer = lllm("run", "and now?", "--json").json["session"]
    result = lllm("export", "--all", "--format", "trl")
    assert result.code == 3
    assert f"session {session} is left out" in result.err
    assert [json.loads(line)["session"] for line in result.out.splitlines()] == [newer]


def test_no_session_yet(lllm: Terminal, demo: Path) -> None:
    for words in (["--all", "--format", "trl"], []):
        result = lllm("export", *words)
        assert (result.code, result.out) == (2, "")
        assert "there are no sessions yet" in result.err


def test_what_cannot_be_written_leaves_nothing(lllm: Terminal, demo: Path, session: str) -> None:
    (demo / "a.txt").write_text("mine")
    result = lllm("export", session, "--format", "pdf", "--out", "a.txt")
    assert result.code == 2
    assert "pdf" in result.err
    assert (demo / "a.txt").read_text() == "mine"
    assert lllm("export", "nobody", "--out", "a.md").code == 2
    assert sorted(path.name for path in demo.iterdir() if path.name.startswith(("a.", ".a."))) == ["a.txt"]


def test_spans_to_a_collector(lllm: Terminal, session: str) -> None:
    with Collector() as collector:
        url = f"http://{collector.address}"
        result = lllm("export", session, "--endpoint", url)
        told = lllm("export", session, "--endpoint", url, "--content", "--json").json
    got = [request.body for request in collector.requests]
    assert result.code == 0
    assert "spans of 1 session\n" in result.err
    assert b"17 times 23" not in got[0]
    assert b"17 times 23" in got[1]
    assert told["spans"] == len(json.loads(got[1])["resourceSpans"][0]["scopeSpans"][0]["spans"])
    assert lllm("export", session, "--endpoint", url, "--out", "a.md").code == 2
    result = lllm("export", session, "--format", "html", "--content")
    assert result.code == 2
    assert "content" in result.err


def test_a_bundle_goes_to_another_project(
    lllm: Terminal, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lllm("export", session, "--out", str(tmp_path / "a.lllm"))
    shown = lllm("show", session).out
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert lllm("import", str(tmp_path / "a.lllm")).out == f"{session}\n"
    assert lllm("show", session).out == shown
    assert lllm("import", str(tmp_path / "a.lllm"), "--json").json == {"sessions": [session], "notes": []}
    assert lllm("import", str(tmp_path / "a.lllm"), "--name", "x").code == 2


def test_messages_become_sessions_and_come_back(lllm: Terminal, session: str, demo: Path) -> None:
    rows = lllm("export", session, "--format", "openai").out
    (demo / "talk.jsonl").write_text(rows)
    result = lllm("import", "talk.jsonl")
    assert result.code == 0
    made = result.out.strip()
    assert made != session
    assert lllm("export", made, "--format", "openai").out == rows
    assert "calculate gives  391" in lllm("show", made).out
    (row,) = [row for row in lllm("sessions", "--json").json if row["session"] == made]
    assert (row["name"], row["status"]) == ("talk", "done")
    assert row["task"].startswith("What is 17 times 23?")
    assert lllm("replay", made).code == 0
    named = lllm("import", "talk.jsonl", "--name", "mine", "--json").json["sessions"][0]
    assert lllm("show", named, "--json").json["name"] == "mine"


def test_a_fork_of_imported_messages(lllm: Terminal, demo: Path) -> None:
    (demo / "talk.json").write_text(
        json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}])
    )
    made = lllm("import", "talk.json", "--model", "good/model").out.strip()
    lllm.scripts["good"] = lambda: ["Bonjour."]
    result = lllm("fork", made, "--at", "1", "--edit", "in French")
    assert (result.code, result.out) == (0, "Bonjour.\n")


def test_files_that_are_none(lllm: Terminal, demo: Path) -> None:
    (demo / "bad.json").write_text('[\n{"role": "user", "content": "a"},\n{"role": "bot", "content": "b"}]')
    result = lllm("import", "bad.json")
    assert result.code == 2
    assert "bad.json:3: message 2: the role is 'bot'; the roles are" in result.err
    assert lllm("import", "bad.json", "--json").json["status"] == "failed"
    (demo / "bin.json").write_bytes(b"[\n\xff]")
    assert "bin.json:2: not UTF-8" in lllm("import", "bin.json").err
    assert "none.json cannot be read" in lllm("import", "none.json").err
    (demo / "cut.lllm").write_text('{"lllm":"session"')
    assert lllm("import", "cut.lllm").code == 3
    assert lllm("sessions", "--json").json == []


def test_import_leaves_nothing_out(lllm: Terminal, demo: Path) -> None:
    said = [
        {"role": "user", "content": "hi", "weight": 1},
        {"role": "assistant", "content": "ho", "weight": 0},
    ]
    (demo / "a.json").write_text(json.dumps(said))
    result = lllm("import", "a.json", "--json")
    assert (result.err, result.json["notes"]) == ("", [])
    exported = lllm("export", *result.json["sessions"], "--format", "openai")
    assert json.loads(exported.out)["messages"] == said
