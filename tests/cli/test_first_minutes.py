"""A stranger's first minutes, on the embedded model: real inference, a real tool call, a verified replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Terminal
from tests.cli.test_look import tamper
from tests.cli.test_run import change


def test_from_create_to_a_verified_replay(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lllm("create", "--name", "mysystem").code == 0
    monkeypatch.chdir(tmp_path / "mysystem")
    root = Path.cwd()

    answer = lllm("run", "What is 17 times 23?", "--json")
    assert answer.code == 0, answer
    assert "391" in answer.json["result"]
    assert answer.json["cost"] == "0"
    session = answer.json["session"]
    rows = lllm("show", session, "--json").json["transcript"]
    assert [(row["who"], row["text"]) for row in rows if row["kind"] == "result"] == [("calculate", "391")]

    assert lllm("replay", session, "--json").json["verified"] is True

    change(root / "system/agent/prompts/task.py", "Use the tools", "Take the tools")
    changed = lllm("replay", session)
    assert changed.code == 3
    assert "prompt 'mysystem/task_query' changed" in changed.err
    change(root / "system/agent/prompts/task.py", "Take the tools", "Use the tools")

    tamper(root, b'"content":"391"', b'"content":"392"')
    assert lllm("replay", session).code == 3


def test_a_talk_with_it(lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lllm("create", "--name", "mysystem").code == 0
    monkeypatch.chdir(tmp_path / "mysystem")
    result = lllm("chat", stdin="What is 12 plus 30?\nWhat is 6 times 7?\n")
    assert [("42" in line) for line in result.out.splitlines()] == [True, True]
    assert lllm("replay", "--last", "--json").json["verified"] is True
