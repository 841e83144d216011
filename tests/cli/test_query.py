"""`lllm sessions` with filters, and `lllm totals`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal


@pytest.fixture
def session(lllm: Terminal, demo: Path) -> str:
    """A session of the created project."""
    return str(lllm("run", "What is 17 times 23?", "--json").json["session"])


def test_sessions_are_looked_for(lllm: Terminal, session: str) -> None:
    lllm("run", "and now?")
    agent = lllm("sessions", "--long", "--json").json[0]["agents"][0]
    for words in (
        ["--text", "what is 17"],
        ["--text", "What", "--agent", agent, "--model", "good/*", "--tool", "calculate", "--status", "done"],
        ["--text", '"what is 17"', "--since", "2h", "--sort", "tokens", "--limit", "1"],
    ):
        (row,) = lllm("sessions", *words, "--json").json
        assert (row["session"], row["tool_calls"], row["model_calls"], row["cost"]) == (session, 1, 2, None)
    for words in (
        ["--until", "2020-01-01"],
        ["--min-cost", "0.01"],
        ["--name", "nobody"],
        ["--fork-of", session],
    ):
        assert lllm("sessions", *words, "--json").json == []
        assert "no such session" in lllm("sessions", *words).err
    table = lllm("sessions", "--text", "now").out.splitlines()
    assert table[0].split() == ["SESSION", "STATUS", "STARTED", "AGENTS", "MODELS", "TOKENS", "COST", "MATCH"]
    assert table[1].endswith("0: and now?")


def test_totals(lllm: Terminal, session: str) -> None:
    (row,) = lllm("totals", "--json").json
    assert (row["model"], row["sessions"], row["calls"], row["unpriced"], row["cost"]) == (
        "good/model",
        1,
        1,
        2,
        None,
    )
    (row,) = lllm("totals", "--by", "tool", "--json").json
    assert (row["tool"], row["tool_calls"], row["failed_tools"]) == ("calculate", 1, 0)
    lines = lllm("totals", "--by", "status").out.splitlines()
    assert lines[0].split()[:4] == ["STATUS", "SESSIONS", "CALLS", "FAILED"]
    assert lines[1].split() == ["done", "1", "1", "0", "2", *lines[1].split()[5:7], "unknown"]
    assert lllm("totals", "--since", "2020-01-01", "--until", "2020-01-02", "--json").json == []


def test_what_is_not_possible_says_what_is(lllm: Terminal, session: str) -> None:
    for words, said in (
        (
            ["sessions", "--status", "finished"],
            "Known: cancelled, corrupt, done, failed, interrupted, running",
        ),
        (["sessions", "--sort", "price"], "Known: cost, events, seconds, started, tokens, updated"),
        (["totals", "--by", "colour"], "Known: agent, day, model, name, prompt, status, tool"),
        (["totals", "--since", "soon"], "since is 'soon', which is no time"),
        (["sessions", "--min-cost", "nan"], "min_cost is nan (a number); it wants a number of 0 or more"),
        (["sessions", "--min-cost", "inf"], "min_cost is inf"),
        (["totals", "--max-cost", "-1"], "max_cost is -1.0"),
        (["sessions", "--min-tokens", "-5"], "min_tokens is -5"),
        (
            ["sessions", "--min-tokens", "5", "--max-tokens", "4"],
            "min_tokens is 5, above max_tokens, which is 4",
        ),
        (["sessions", "--since", "1h", "--until", "2h"], "since 1h is later than until 2h. Change the two."),
        (["sessions", "--text", ""], "the text to look for is empty"),
        (["totals", "--text", " "], "the text to look for is empty"),
        (["sessions", "--limit", "9" * 30], "less than or equal to 1000000000"),
        (["export", "--last", "9" * 30, "--format", "openai"], "less than or equal to 1000000000"),
    ):
        result = lllm(*words)
        assert result.code == 2
        assert said in result.err


def test_a_corrupt_session_is_listed(lllm: Terminal, session: str, demo: Path) -> None:
    with closing(sqlite3.connect(demo / ".lllm/sessions.db")) as database, database:
        database.execute(
            "UPDATE appends SET body = CAST(replace(CAST(body AS TEXT), '17 times', '18 times') AS BLOB)"
        )
    result = lllm("sessions", "--long")
    assert result.code == 0
    assert f"{session}  corrupt" in result.out
    assert f"session '{session}': an event was changed" in result.err


def test_without_a_session(lllm: Terminal, demo: Path) -> None:
    assert lllm("sessions", "--long", "--json").json == lllm("totals", "--json").json == []
    assert "no sessions yet" in lllm("sessions", "--long").err
    assert not (demo / ".lllm").exists(), "looking writes nothing"


def test_what_a_fork_saved_is_said(lllm: Terminal, demo: Path) -> None:
    lllm("run", "What is 17 times 23?")
    fork = lllm("fork", "--json").json
    assert fork["reused"] == 2
    words = f"2 replies given again: {fork['saved']['prompt'] + fork['saved']['completion']} tokens"
    assert words in lllm("show", fork["session"]).out.replace("\n", " ")
    (row,) = lllm("totals", "--json").json
    assert row["reused"] == 2
    assert "2 replies were given again" in lllm("totals").err
