"""The door: version, help, usage, broken pipes, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lllm import __version__
from lllm.cli.app import BELOW, COMMANDS, parser
from tests.cli.conftest import Terminal


def python(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *words], capture_output=True, text=True, timeout=300, check=False, **more
    )


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version(lllm: Terminal, word: str) -> None:
    assert lllm(word).out == f"lllm {__version__}\n"


def test_the_version_is_answered_before_typer_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); from lllm.cli import main; main(['--version']); "
        "heavy = ('typer', 'rich', 'pydantic', 'asyncio', 'pathlib', 'importlib.metadata', 'json', 'logging'); "
        "print([name for name in heavy if name in sys.modules and name not in before])"
    )
    done = python("-c", code)
    assert done.stdout.splitlines() == [f"lllm {__version__}", "[]"]


def test_reading_the_command_line_imports_little_more_than_typer() -> None:
    code = (
        "import sys; from lllm.cli import main; main(['nosuch']); "
        "print([name for name in ('rich', 'aiohttp', 'orjson', 'yaml', 'asyncio', 'sqlite3') if name in sys.modules])"
    )
    assert python("-c", code).stdout == "[]\n"


def test_no_words_show_the_help(lllm: Terminal) -> None:
    result = lllm()
    assert result.code == 0
    for name in COMMANDS:
        assert name in result.out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(lllm: Terminal, command: str) -> None:
    result = lllm(command, "--help")
    assert result.code == 0
    assert f"lllm {command}" in result.out
    assert result.err == ""


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"chat"}))
def test_every_command_that_prints_data_has_json(lllm: Terminal, command: str) -> None:
    assert "--json" in lllm(command, "--help").out


def test_only_the_command_that_was_typed_is_inspected() -> None:
    assert list(parser("run").commands) == ["run"]
    assert list(parser("sessions").commands["sessions"].commands) == list(BELOW["sessions"])
    assert set(parser().commands) == set(COMMANDS)


def test_an_unknown_command(lllm: Terminal) -> None:
    result = lllm("rnu", "--json")
    assert result.code == 2
    assert result.err == "error: No such command 'rnu'. Did you mean 'run'? Type: lllm --help\n"
    assert result.json["error"]["type"] == "UsageError"


def test_a_broken_pipe_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "lllm", "schema"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_shell_completes_commands_and_words() -> None:
    for typed, wanted in (
        ("lllm ", "replay"),
        ("lllm list ", "prompts"),
        ("lllm create --template ", "example"),
    ):
        environment = {
            **os.environ, "_LLLM_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))
        }  # fmt: skip
        done = python("-m", "lllm", env=environment)
        assert wanted in done.stdout.split(), done


def test_python_m_lllm(tmp_path: Path) -> None:
    done = python("-m", "lllm", "sessions", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")


def test_a_stream_that_cannot_show_a_character_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = python("-m", "lllm", "list", "→", cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "\\u2192" in done.stderr
