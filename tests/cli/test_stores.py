"""`lllm sessions prune`, `lllm sessions copy`, `lllm show --follow`, and a log in Postgres."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from lllm.log import LocalFileLog, PostgresLog, SQLiteLog
from tests.cli.conftest import Terminal
from tests.log.events import Writer


@pytest.fixture
def sessions(lllm: Terminal, demo: Path) -> list[str]:
    """Three sessions of the created project, the newest first."""
    for _ in range(3):
        assert lllm("run", "What is 17 times 23?").code == 0
    return [row["session"] for row in lllm("sessions", "--json").json]


def test_prune(lllm: Terminal, sessions: list[str]) -> None:
    dry = lllm("sessions", "prune", "--keep", "1", "--dry-run")
    assert dry.code == 0
    assert [line.split()[0] for line in dry.out.splitlines()] == ["SESSION", *sessions[1:]]
    assert "2 sessions and " in dry.err
    assert "would be removed" in dry.err
    assert len(lllm("sessions", "--json").json) == 3
    told = lllm("sessions", "prune", "--keep", "1", "--json").json
    assert [row["session"] for row in told["sessions"]] == sessions[1:]
    assert told["bytes"] > 0
    assert told["held"] == []
    assert [row["session"] for row in lllm("sessions", "--json").json] == sessions[:1]
    assert lllm("sessions", "prune", "--older-than", "30d").err == "0 sessions and 0 blobs removed, 0 bytes\n"
    assert lllm("sessions", "prune", "--max-size", "0.5kb").code == 0
    assert lllm("sessions", "--json").json == []


@pytest.mark.parametrize("kind", ["sqlite", "localfile", "SQLite"])
def test_a_store_in_a_folder_that_is_named_like_a_file(
    lllm: Terminal, sessions: list[str], kind: str, tmp_path: Path
) -> None:
    place = tmp_path / "other" / ".lllm"
    assert lllm("sessions", "copy", "--all", "--to", f"{kind}:{place}").code == 0
    assert place.is_dir()
    assert not [path for path in Path.cwd().iterdir() if ":" in path.name]
    assert lllm("sessions", "copy", "--all", "--from", f"{kind}:{place}", "--to", "localfile:again").code == 0
    assert len(LocalFileLog("again/sessions").sessions()) == 3
    (tmp_path / "a.db").write_text("")
    for where, said in (
        (f"{kind}:{tmp_path / 'a.db'}", "is a file"),
        ("memory:x", "does not keep sessions"),
        ("none", "does not keep sessions"),
        ("sqlit:.lllm", "Did you mean 'sqlite'?"),
        ("files:other.lllm", "no store named 'files'"),
    ):
        result = lllm("sessions", "copy", "--all", "--to", where)
        assert (result.code, said in result.err) == (2, True), result.err
        one = lllm("sessions", "copy", sessions[0], "--to", where)
        assert (one.code, one.err) == (2, result.err)
    assert not [path for path in Path.cwd().iterdir() if ":" in path.name]
    assert lllm("sessions", "copy", sessions[0], "--to", "./a:b.lllm").code == 0
    assert Path("a:b.lllm").is_file()
    (tmp_path / "a.db").unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no limit"),
        (("--older-than", "soon"), "30d"),
        (("--max-size", "2 boxes"), "2GB"),
        (("--status", "faild"), "failed"),
    ],
)
def test_prune_says_what_it_takes(lllm: Terminal, demo: Path, words: tuple[str, ...], said: str) -> None:
    result = lllm("sessions", "prune", *words)
    assert result.code == 2
    assert said in result.err


def test_copy_to_a_store_and_back(lllm: Terminal, sessions: list[str], tmp_path: Path) -> None:
    place = f"localfile:{tmp_path / 'there'}"
    first = lllm("sessions", "copy", sessions[0], "--to", place)
    assert first.code == 0
    assert "copied, " in first.err
    rest = lllm("sessions", "copy", "--all", "--to", place, "--json").json
    assert [(row["session"], row["outcome"]) for row in rest] == [
        (sessions[2], "copied"), (sessions[1], "copied"), (sessions[0], "there"),
    ]  # fmt: skip
    with LocalFileLog(tmp_path / "there" / "sessions") as store:
        assert {info.id for info in store.sessions()} == set(sessions)
    before = lllm("show", sessions[1], "--events").out
    lllm("sessions", "prune", "--keep", "0")
    assert lllm("sessions", "copy", "--all", "--from", place).code == 0
    assert lllm("show", sessions[1], "--events").out == before
    assert lllm("replay", sessions[1]).code == 0


def test_copy_to_a_file_and_back(lllm: Terminal, sessions: list[str], tmp_path: Path) -> None:
    file = str(tmp_path / "one.lllm")
    assert lllm("sessions", "copy", sessions[0], "--to", file).code == 0
    lllm("sessions", "prune", "--keep", "0")
    assert lllm("sessions", "copy", "--from", file).code == 0
    assert [row["session"] for row in lllm("sessions", "--json").json] == sessions[:1]
    assert lllm("replay", sessions[0]).code == 0
    text = Path(file).read_text()
    Path(file).write_text(text.replace("17", "71", 1))
    assert lllm("sessions", "copy", "--from", file).code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--all",), "--to TYPE:PLACE"),
        (("--to", "localfile:x"), "--all"),
        (("--all", "--to", "x.lllm"), "one session"),
        (("--all", "--to", "sqlit:x"), "sqlite"),
        (("--all", "--to", "postgres"), "LLLM_LOG_URL"),
        (("nothing-like-it", "--to", "localfile:x"), "nothing-like-it"),
    ],
)
def test_copy_says_what_it_takes(
    lllm: Terminal, sessions: list[str], words: tuple[str, ...], said: str
) -> None:
    result = lllm("sessions", "copy", *words)
    assert result.code == 2
    assert said in result.err


def test_follow(lllm: Terminal, demo: Path, sessions: list[str]) -> None:
    ended = lllm("show", sessions[0], "--follow")
    assert ended.code == 0
    assert ended.out == lllm("show", sessions[0]).out
    assert lllm("show", "--follow", "--json").code == 2


def test_follow_what_is_being_written(
    lllm: Terminal, demo: Path, sessions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.log.base.POLL", 0.005)
    writer = Writer("live")
    records = [
        writer.start(task="x"),
        *(writer.event("Noted", {"text": f"n{n}"}) for n in range(5)),
        writer.end(),
    ]
    with SQLiteLog(Path(".lllm/sessions.db")) as store:
        store.claim("live")
        asyncio.run(store.append(records[:1]))

        def write() -> None:
            for record in records[1:]:
                asyncio.run(store.append([record]))

        timer = threading.Timer(0.2, write)
        timer.start()
        shown = lllm("show", "live", "--follow", "--events")
        timer.join()
    assert shown.code == 0
    assert [json.loads(line)["seq"] for line in shown.out.splitlines()] == list(range(7))


def test_follow_ends_when_the_writer_is_gone(
    lllm: Terminal, demo: Path, sessions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.cli.following.PATIENCE", 0.05)
    with SQLiteLog(Path(".lllm/sessions.db")) as store:
        asyncio.run(store.append([Writer("gone").start(task="x")]))
    shown = lllm("show", "gone", "--follow")
    assert shown.code == 0
    assert "nobody writes it any more" in shown.err
    assert "lllm resume gone" in shown.err


def test_a_log_in_postgres(
    lllm: Terminal, demo: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The address is a setting like any other, and its password is in nothing that is written or said."""
    monkeypatch.setenv("LLLM_LOG_TYPE", "postgres")
    monkeypatch.setenv("LLLM_LOG_URL", postgres_url.replace("owner@", "owner:s3cret-Pa55@"))
    said = [lllm("run", "What is 17 times 23?", "--json")]
    id = said[0].json["session"]
    try:
        said += [
            lllm("sessions"),
            lllm("show", id, "--events"),
            lllm("replay", id),
            lllm("show", "--follow", id),
        ]
        said += [lllm("sessions", "copy", id, "--to", str(tmp_path / "a.lllm"))]
        assert [result.code for result in said] == [0] * 6
        assert id in said[1].out
        with PostgresLog(postgres_url) as store:
            written = b"".join(store.read(id)) + (tmp_path / "a.lllm").read_bytes()
        assert b"Pa55" not in written
        assert postgres_url.partition("host=")[2].encode() not in written
        assert not list(Path().glob(".lllm/sessions.db"))
    finally:
        said.append(lllm("sessions", "prune", "--keep", "0"))
    assert said[-1].code == 0
    monkeypatch.setenv("LLLM_LOG_URL", "postgresql://me:s3cret-Pa55@127.0.0.1:1/x")
    said.append(lllm("sessions", "--debug"))
    assert said[-1].code == 1
    assert "cannot be reached" in said[-1].err
    assert "Pa55" not in "".join(result.out + result.err for result in said)


def test_doctor_asks_the_server(lllm: Terminal, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLLM_LOG_TYPE", "postgres")
    monkeypatch.setenv("LLLM_LOG_URL", "postgresql://owner:s3cret-Pa55@127.0.0.1:1/nothing")  # nobody listens
    result = lllm("doctor", "--json")
    (log,) = [item for item in result.json["checks"] if item["name"] == "log"]
    assert (result.code, log["state"]) == (2, "problem")
    assert "127.0.0.1" in log["detail"]
    assert "s3cret" not in result.out + result.err
    monkeypatch.setenv("LLLM_LOG_URL", postgres_url)
    (log,) = [item for item in lllm("doctor", "--json").json["checks"] if item["name"] == "log"]
    assert (log["state"], " sessions" in log["detail"]) == ("ok", True)
