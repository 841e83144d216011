"""`lllm sessions`, `lllm show`, `lllm replay`: looking at what happened, and proving it again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal
from tests.cli.test_run import change


@pytest.fixture
def session(lllm: Terminal, demo: Path) -> str:
    """A session of the created project."""
    return str(lllm("run", "What is 17 times 23?", "--json").json["session"])


def test_sessions_are_listed_newest_first(lllm: Terminal, session: str) -> None:
    newer = lllm("run", "and\nnow?", "--json").json["session"]
    rows = lllm("sessions", "--json").json
    assert [row["session"] for row in rows] == [newer, session]
    assert rows[1] | {"started": "", "updated": "", "events": 0, "head": ""} == {
        "session": session,
        "status": "done",
        "started": "",
        "updated": "",
        "events": 0,
        "name": "demo",
        "task": "What is 17 times 23?",
        "head": "",
    }
    assert [row["session"] for row in lllm("sessions", "--json", "--limit", "1").json] == [newer]
    table = lllm("sessions").out.splitlines()
    assert table[0].split() == ["SESSION", "STATUS", "STARTED", "EVENTS", "TASK"]
    assert table[1].startswith(newer)
    assert table[1].endswith("and now?")


def test_no_session_yet(lllm: Terminal, demo: Path) -> None:
    assert lllm("sessions", "--json").json == []
    assert lllm("sessions").code == 0
    for command in ("show", "replay"):
        result = lllm(command)
        assert (result.code, result.err) == (2, 'error: there are no sessions yet. Type: lllm run "..."\n')
    assert not (demo / ".lllm").exists(), "looking writes nothing"


def test_a_session_is_shown_in_order(lllm: Terminal, session: str) -> None:
    result = lllm("show", session)
    assert result.code == 0
    words = [
        "What is 17 times 23?",
        "good/model",
        "You are a helpful assistant.",
        "asks for calculate(expression='17 * 23')",
        "tool  calculate(expression='17 * 23')",
        "calculate gives  391",
        "<answer>391</answer>",
        "done; 1 agent call, 2 model calls, 1 tool call;",
        "cost unknown",
    ]
    places = [result.out.find(word) for word in words]
    assert -1 not in places, list(zip(words, places, strict=True))
    assert places == sorted(places)


def test_a_session_by_the_beginning_of_its_id_and_by_last(lllm: Terminal, session: str) -> None:
    for words in ([session[:-3]], ["--last"], []):
        assert lllm("show", *words, "--json").json["session"] == session
    lllm("run", "again")
    result = lllm("show", session[:8])
    assert result.code == 2
    assert f"2 sessions begin with '{session[:8]}'" in result.err
    assert lllm("show", session, "--last").code == 2


@pytest.mark.parametrize("command", ["show", "replay"])
def test_an_unknown_session_names_the_nearest(lllm: Terminal, session: str, command: str) -> None:
    typo = session[:-1] + "~"
    result = lllm(command, typo)
    assert result.code == 2
    assert f"no session named '{typo}'. Did you mean '{session}'?" in result.err
    assert lllm(command, "nosuchsession", "--json").json["error"]["type"] == "UnknownNameError"
    assert lllm(command, "nosuchsession").err.count("\n") == 1


def test_the_events_as_they_are_logged(lllm: Terminal, session: str) -> None:
    lines = lllm("show", session, "--events").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert lllm("show", session, "--events", "--json").json["events"] == events


def test_a_markdown_page(lllm: Terminal, session: str) -> None:
    assert lllm("show", session, "--markdown").out.startswith("# demo\n")


def test_a_session_is_shown_where_its_project_is_gone(lllm: Terminal, session: str, demo: Path) -> None:
    shutil.rmtree(demo / "system")
    shutil.rmtree(demo / "config")
    (demo / "lllm.toml").unlink()
    assert "calculate gives  391" in lllm("show", session).out


def test_a_replay_is_verified(lllm: Terminal, session: str) -> None:
    result = lllm("replay", session, "--json")
    assert result.code == 0
    assert result.json["verified"] is True
    assert (result.json["session"], result.json["reexecuted"]) == (session, 1)
    result = lllm("replay", "--last")
    assert result.out.startswith(f"verified: {session}: ")
    assert result.err == ""


def test_a_replay_asks_no_model_and_runs_no_tool(lllm: Terminal, session: str, demo: Path) -> None:
    change(
        demo / "system/tools.py",
        "    text = expression",
        '    raise SystemExit("ran")\n    text = expression',
    )
    asked = len(lllm.backends)
    assert lllm("replay", session).code == 0
    assert len(lllm.backends) == asked


@pytest.mark.parametrize(
    ("file", "old", "new", "names"),
    [
        ("system/agent/prompts/task.py", "Use the tools", "Take the tools", "prompt 'demo/task_query'"),
        (
            "system/agent/prompts/task.py",
            "helpful assistant",
            "kind assistant",
            "system prompt 'demo/system'",
        ),
        ("system/tools.py", "Calculate an arithmetic", "Work out an arithmetic", "calculate"),
        ("config/demo/default.yaml", "max_tokens: 1024", "max_tokens: 1025", "sampling"),
        ("system/agent/agent.py", '.first("answer")', '.first("answer") + "!"', "result"),
    ],
)
def test_a_changed_word_exits_with_3_and_is_named(
    lllm: Terminal, session: str, demo: Path, file: str, old: str, new: str, names: str
) -> None:
    change(demo / file, old, new)
    result = lllm("replay", session)
    assert (result.code, result.out) == (3, "")
    assert names in result.err
    assert "recorded: " in result.err
    assert "present: " in result.err
    found = lllm("replay", session, "--json")
    assert found.code == 3
    assert found.json["verified"] is False
    assert set(found.json["divergence"]) == {"message", "seq", "kind", "cause", "recorded", "present"}
    change(demo / file, new, old)
    assert lllm("replay", session).code == 0


def tamper(demo: Path, old: bytes, new: bytes) -> None:
    """Changes bytes of an event in the store's file."""
    connection = sqlite3.connect(demo / ".lllm" / "sessions.db")
    changed = 0
    with connection:
        for row, body in connection.execute("SELECT rowid, body FROM appends").fetchall():
            if old in body:
                changed += 1
                connection.execute(
                    "UPDATE appends SET body = ? WHERE rowid = ?", (body.replace(old, new, 1), row)
                )
    connection.close()
    assert changed == 1


def test_a_tampered_log_is_refused_and_shown_up_to_there(lllm: Terminal, session: str, demo: Path) -> None:
    before = lllm("show", session, "--json").json
    tamper(demo, b"helpful", b"Helpful")
    result = lllm("replay", session, "--json")
    assert result.code == 3
    assert result.json["error"]["type"] == "LogCorrupt"
    shown = lllm("show", session)
    assert shown.code == 3
    assert "What is 17 times 23?" in shown.out
    assert "391" not in shown.out.replace(session, "")  # which holds the time of day
    assert "warning: the log is shown up to where it is intact" in shown.err
    record = lllm("show", session, "--json").json
    assert (record["intact"], record["problem"]["seq"], record["status"]) == (False, 1, "unfinished")
    assert record["transcript"] == before["transcript"][:1]


def test_a_log_that_breaks_off_is_shown_and_replayed_up_to_there(
    lllm: Terminal, session: str, demo: Path
) -> None:
    """As after `kill -9`: the last events were never written."""
    events = lllm("show", session, "--json", "--events").json["events"]
    for kept in range(len(events) - 1, 0, -1):
        connection = sqlite3.connect(demo / ".lllm" / "sessions.db")
        with connection:
            (seq, last, body) = connection.execute(
                "SELECT seq, last, body FROM appends ORDER BY seq DESC"
            ).fetchone()
            if seq == last:
                connection.execute("DELETE FROM appends WHERE seq = ?", (seq,))
            else:
                shorter = body.rstrip(b"\n").rpartition(b"\n")[0]
                connection.execute(
                    "UPDATE appends SET last = ?, body = ? WHERE seq = ?", (last - 1, shorter, seq)
                )
            connection.execute("UPDATE sessions SET ended = NULL, status = NULL")
        connection.close()
        shown = lllm("show", session, "--json", "--events")
        assert (shown.code, shown.json["events"]) == (0, events[:kept])
        replayed = lllm("replay", session, "--json")
        assert (replayed.code, replayed.json["finished"]) == (0, False), (kept, replayed)


def test_a_store_that_is_no_store_is_named(lllm: Terminal, session: str, demo: Path) -> None:
    for path in (demo / ".lllm").glob("sessions.db*"):
        path.unlink()
    (demo / ".lllm" / "sessions.db").write_bytes(b"this is no database" * 100)
    for words in (["sessions"], ["show", session], ["replay", session], ["run", "x"]):
        result = lllm(*words)
        assert result.code in (1, 2, 3)
        assert "sessions.db" in result.err
        assert "Traceback" not in result.err
