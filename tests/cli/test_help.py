"""Help: groups, examples that can be typed, and where the documentation is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer.main

from lllm.cli.app import BELOW, COMMANDS, application
from lllm.cli.commands import GROUPS, with_values
from lllm.cli.examples import EXAMPLES
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen

ALL = [*COMMANDS, *(f"{name} {word}" for name, below in BELOW.items() for word in below)]


def test_every_command_is_in_a_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("name", ["", *ALL])
def test_every_command_has_examples_that_can_be_typed(name: str) -> None:
    command = typer.main.get_command(application())
    for line in EXAMPLES[name]:
        words = shlex.split(
            line.rpartition(" | lllm")[2].partition(" && ")[0].partition(" > ")[0].partition(" | ")[0]
        )
        words = words[words[0] == "lllm" :]
        assert " ".join(words).startswith(name), line
        assert callable(command.main(words, prog_name="lllm", standalone_mode=False)), line


def test_help_has_groups_examples_and_the_documentation(lllm: Terminal) -> None:
    shown = lllm("--help").out
    places = [shown.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    assert "Examples:\n  lllm create demo" in shown
    page = Path(shown.rpartition("Documentation: ")[2].strip())
    assert page.is_file()
    assert page.name == "index.md"
    assert "cat app.log | lllm run" in lllm("run", "--help").out


@pytest.mark.parametrize("words", [[], ["run"], ["sessions"], ["sessions", "prune"]], ids=str)
def test_help_fits_a_terminal(tmp_path: Path, words: list[str]) -> None:
    with Screen(*words, "--help", cwd=tmp_path) as screen:
        assert screen.end() == 0
    lines = [line for line in screen.all.splitlines() if not line.startswith("Documentation:")]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["--last"], ["--last", "1"]),
        (["--last", "3"], ["--last", "3"]),
        (["-l", "--json"], ["-l", "1", "--json"]),
        (["--last", "1a2b"], ["--last", "1", "1a2b"]),
        (["--last=4"], ["--last=4"]),
        (["--", "--last"], ["--", "--last"]),
        (["--edit", "x"], ["--edit", "x"]),
    ],
)
def test_a_value_may_be_left_out(typed: list[str], read: list[str]) -> None:
    assert with_values(typed, ["--last", "-l", "--edit"]) == read
