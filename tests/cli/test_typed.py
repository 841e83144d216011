"""Messages name what was typed, not what it became on the way in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Terminal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "x", "--profile", "nope"], "error: --profile: no profile named 'nope'."),
        (["chat", "--profile", "nope"], "error: --profile: no profile named 'nope'."),
        (["run", "x", "--set", "profile=nope"], "error: --set profile: no profile named 'nope'."),
        (["run", "x", "--cache", "nope"], "error: --cache: cache.mode is 'nope'"),
        (["run", "x", "--set", "temperature=hot"], "error: --set temperature: temperature is 'hot'"),
        (["run", "x", "--model", "nosuch/m"], "error: --model nosuch/m: no backend named 'nosuch'."),
        (["chat", "--model", "nosuch/m"], "error: --model nosuch/m: no backend named 'nosuch'."),
        (["fork", "--model", "nosuch/m"], "error: --model nosuch/m: no backend named 'nosuch'."),
        (["chat", "--agent", "nope"], "error: --agent: no agent named 'nope'."),
        (["fork", "--tools", "nope"], "error: --tools must be run, pure or refuse, got 'nope'"),
        (["whatif", "--last", "--tools", "nope"], "error: --tools must be run, pure or refuse, got 'nope'"),
        (
            ["test", "accept", "x", "--tools", "nope"],
            "error: --tools must be run, pure or refuse, got 'nope'",
        ),
        (["create"], "error: the system has no name. Type: lllm create demo"),
        (["create", "a", "--name", "b"], "error: two names were given: 'a' and 'b'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_named(lllm: Terminal, demo: Path, words: list[str], said: str) -> None:
    assert lllm("run", "x", "--model", "good/m").code == 0
    result = lllm(*words, stdin="hello\n")
    assert result.code == 2
    assert result.err.startswith(said), result.err


def test_a_system_is_created_by_name(lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lllm("create", "one").code == 0
    assert lllm("create", "--name", "two").code == 0
    assert lllm("create", "two", "--name", "two").code == 2, "it exists"
    assert (tmp_path / "one/lllm.toml").is_file()
    assert lllm("create", "../three").code == 2
