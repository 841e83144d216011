"""The pytest plug-in, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal, demo, lllm  # noqa: F401  fixtures
from tests.cli.test_run import change

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "system/agent/prompts/task.py"


def run_pytest(tmp_path: Path, *words: str) -> tuple[int, str]:
    """pytest in the working folder, with the plug-in as an installed package has it."""
    point = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    dist = tmp_path / "site" / "lllm_test-1.dist-info"
    dist.mkdir(parents=True, exist_ok=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: lllm-test\nVersion: 1\n")
    (dist / "entry_points.txt").write_text(f"[pytest11]\nlllm = {point['lllm']}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=.", *words],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(dist.parent)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def kept(lllm: Terminal, demo: Path) -> Path:  # noqa: F811
    """Two kept sessions of the created project."""
    session = lllm("run", "What is 17 times 23?", "--json").json["session"]
    for name in ("sums", "more/sums"):
        assert lllm("test", "keep", session, "--name", name).code == 0
    return demo / "tests/sessions"


def outcomes(said: str) -> dict[str, int]:
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", said)}


def test_each_kept_session_is_a_test(kept: Path, tmp_path: Path) -> None:
    code, said = run_pytest(tmp_path, "-v", "tests/sessions")
    assert (code, outcomes(said)) == (0, {"passed": 2}), said
    assert "tests/sessions/sums.lllm::sums PASSED" in said
    code, said = run_pytest(tmp_path, "-n", "2", "tests/sessions")
    assert (code, outcomes(said)) == (0, {"passed": 2}), said
    code, said = run_pytest(tmp_path, "-p", "no:lllm", "tests/sessions")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED, said


def test_a_failure_says_what_to_do_and_no_traceback(kept: Path, tmp_path: Path) -> None:
    change(Path(PROMPT), "Give the final answer", "Put the final answer")
    code, said = run_pytest(tmp_path, "tests/sessions")
    assert (code, outcomes(said)) == (1, {"failed": 2}), said
    for words in (
        "tests/sessions/sums.lllm: diverged at event 1 (CallStarted): prompt 'demo/task_query' changed: template",
        "  step: event 1 (CallStarted) of call c1, agent 'vanilla'",
        "  If that is how it should be: lllm test accept sums",
        "  If that is how it should be: lllm test accept more/sums",
    ):
        assert words in said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said, "no line of ours"


def test_offline_tests(tmp_path: Path, nobodys_machine: Path) -> None:
    Path("test_it.py").write_text(
        "import socket, pytest\n"
        "def call():\n"
        "    try: socket.create_connection(('127.0.0.1', 9))\n"
        "    except Exception: pass\n"
        "def test_free(): call()\n"
        "@pytest.mark.lllm_offline\n"
        "def test_marked(): call()\n"
        "def test_fixture(lllm_offline): call()\n"
        "@pytest.mark.lllm_offline\n"
        "class TestClass:\n"
        "    def test_quiet(self): pass\n"
        "    def test_loud(self): call()\n"
        "def test_meant(lllm_offline):\n"
        "    call()\n"
        "    assert lllm_offline.attempts.pop().host == '127.0.0.1:9'\n"
    )
    code, said = run_pytest(tmp_path, "-rA", "--strict-markers")
    assert code == 1, said
    assert outcomes(said)["error"] == 3, said
    assert re.findall(r"ERROR test_it.py::(\S+)", said) == [
        "test_marked",
        "test_fixture",
        "TestClass::test_loud",
    ]
    assert "127.0.0.1:9, by test_it.py:3 in call" in said


def test_a_project_without_kept_sessions_sees_nothing(tmp_path: Path, nobodys_machine: Path) -> None:
    Path(".lllm").mkdir()
    Path("notes.lllm.txt").write_text("x")
    Path("test_it.py").write_text(
        "import sys\ndef test_light():\n    assert not [name for name in sys.modules if name.startswith('lllm.replay')]\n"
    )
    code, said = run_pytest(tmp_path)
    assert (code, outcomes(said)) == (0, {"passed": 1}), said


def test_what_is_no_session_fails_as_one(tmp_path: Path, nobodys_machine: Path) -> None:
    Path("bad.lllm").write_text("{}\n")
    code, said = run_pytest(tmp_path)
    assert code == 1, said
    assert "bad.lllm is not a session in a file" in said


def test_a_failure_does_not_drive_the_terminal(kept: Path, tmp_path: Path) -> None:
    change(Path(PROMPT), "Give the final answer", "Put\\x1b[2J\\u202e the final answer")
    code, said = run_pytest(tmp_path, "tests/sessions")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    assert "Put" in said


def test_a_renamed_configuration_is_named(kept: Path, tmp_path: Path) -> None:
    Path("config/demo/default.yaml").rename("config/demo/new.yaml")
    change(Path("lllm.toml"), "config/demo/default.yaml", "config/demo/new.yaml")
    code, said = run_pytest(tmp_path, "tests/sessions")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "lllm test accept sums --config FILE" in said
