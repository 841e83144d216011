"""A configuration file that was renamed: its sessions and kept tests are found again by --config."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Terminal
from tests.cli.test_run import change

NEW = "config/demo/new.yaml"
HINT = "If it was renamed, pass its new name: --config FILE"


@pytest.fixture
def renamed(lllm: Terminal, demo: Path) -> Terminal:
    """A project with a session, a chat and two kept sessions, whose file has another name now."""
    assert lllm("run", "What is 17 times 23?").code == 0
    assert lllm("test", "keep", "--last", "--name", "sums").code == 0
    assert lllm("test", "keep", "--last", "--name", "call", "--call", "c1").code == 0
    lllm.scripts["talk"] = lambda: ["Hello."]
    assert lllm("chat", "--model", "talk/m", stdin="Hi\n").code == 0
    (demo / "config/demo/default.yaml").rename(demo / NEW)
    change(demo / "lllm.toml", "config/demo/default.yaml", NEW)
    return lllm


def test_sessions(renamed: Terminal) -> None:
    chat, session = (row["session"] for row in renamed("sessions", "--json").json)
    for words in (["replay", session], ["fork", session], ["replay", chat], ["chat", "--continue"]):
        result = renamed(*words, stdin="And?\n")
        assert (result.code, HINT in result.err) == (2, True), (words, result.err)
        assert "config/demo/default.yaml" in result.err
        assert renamed(*words, "--config", NEW, stdin="And?\n").code == 0, words


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]], ids=str)
def test_kept_sessions(renamed: Terminal, jobs: list[str]) -> None:
    result = renamed("test", *jobs)
    assert (result.code, HINT in result.err) == (3, True)
    assert "To record the new file name: lllm test accept sums --config FILE" in result.err
    assert renamed("test", "--config", NEW).out == "2 passed, 0 failed\n"
    for name in ("sums", "call"):
        done = renamed("test", "accept", name, "--config", NEW, "--offline", "--json")
        assert (done.code, done.json["accepted"]) == (0, True), done.err
    assert renamed("test").out == "2 passed, 0 failed\n"
    assert renamed("test", "accept", "sums", "--config", NEW, "--json").json["accepted"] is False
