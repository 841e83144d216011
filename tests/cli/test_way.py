"""Where a session is kept that `lllm show` would not find by itself, and one that is not kept."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal


def way(said: str) -> tuple[dict[str, str], list[str]]:
    """The environment and the command that a line ends in."""
    found = re.search(r"To look at it: (.*)$|Look at it: (.*)$", said, re.MULTILINE)
    assert found is not None, said
    words = shlex.split(found[1] or found[2])
    variables = [word for word in words if "=" in word]
    return dict(word.split("=", 1) for word in variables), words[len(variables) :]


SETS = (["--set", "log.type=localfile"], ["--set", "log.dir=my logs"], ["--profile", "apart"])


@pytest.mark.parametrize("words", SETS, ids=str)
@pytest.mark.parametrize("command", ["run", "chat", "failed"])
def test_the_command_that_is_named_finds_it(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: list[str]
) -> None:
    with (demo / "lllm.toml").open("a") as file:
        file.write('\n[profiles.apart]\n"log.type" = "localfile"\n')
    if command == "chat":
        said = lllm("chat", *words, stdin="What is 17 times 23?\n")
    else:
        limits = ["--set", "max_model_calls=0"] if command == "failed" else []
        said = lllm("run", "What is 17 times 23?", *words, *limits)
    assert said.code == (command == "failed"), said.err
    variables, then = way(said.err)
    assert then[:3] == ["lllm", "show", then[-1]]
    assert lllm(*then[1:]).code == 2, "it is not in the usual log"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown = lllm(*then[1:])
    assert shown.code == 0, shown.err
    assert "What is 17 times 23?" in shown.out


def test_nothing_is_said_of_the_usual_log(lllm: Terminal, demo: Path) -> None:
    for words in ([], ["--set", "temperature=0"], ["--set", "log.type=sqlite"]):
        assert lllm("run", "What is 17 times 23?", *words).err == ""


@pytest.mark.parametrize("kind", ["none", "memory"])
def test_a_log_that_keeps_nothing_costs_no_result(lllm: Terminal, demo: Path, kind: str) -> None:
    words = ("run", "What is 17 times 23?", "--set", f"log.type={kind}")
    assert (lllm(*words).code, lllm(*words).out) == (0, "391\n")
    told = lllm(*words, "--json").json
    assert (told["session"], told["result"]) == (None, "391")
    assert told["usage"]["prompt"] > 0


@pytest.mark.parametrize("command", [["run", "x"], ["chat"], ["fork"], ["whatif", "--last", "1"]])
def test_an_empty_model_is_none(lllm: Terminal, demo: Path, command: list[str]) -> None:
    result = lllm(*command, "--model", " ")
    assert (result.code, "it is empty; an unset variable?" in result.err) == (2, True), result.err
