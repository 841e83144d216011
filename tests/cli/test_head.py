"""`lllm sessions --json` prints the head of each session, and `lllm replay --head` holds a session against one."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Terminal


def test_a_head_that_was_kept_proves_a_session(lllm: Terminal, demo: Path) -> None:
    lllm("run", "What is 17 times 23?")
    (row,) = lllm("sessions", "--json").json
    assert row["head"].startswith("sha256:")
    assert lllm("sessions", "--long", "--json").json[0]["head"] == row["head"]
    assert lllm("replay", "--last", "--head", row["head"]).code == 0
    other = lllm("replay", "--last", "--head", "sha256:" + "0" * 64)
    assert other.code == 3
    assert "does not hold the event" in other.err
    assert lllm("replay", "--last", "--head", "x").code == 2
