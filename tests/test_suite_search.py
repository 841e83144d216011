"""The search after every test finds a key wherever it is planted, also in the workers of xdist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEY = "planted-0123456789"
TESTS = f'''
import os
import pytest
from lllm.core.redact import Redactor

KEY = "{KEY}"


@pytest.fixture(autouse=True)
def known(tmp_path, monkeypatch):
    Redactor().add("PLANTED", KEY)
    monkeypatch.chdir(tmp_path)


def test_prints():
    print("it is", KEY)


def test_reads_what_it_prints(capsys):
    print("it is", KEY)
    capsys.readouterr()


def test_logs():
    import logging

    logging.getLogger("x").warning("it is %s", KEY)


def test_writes(tmp_path):
    os.system(f"printf %s {{KEY}} > found.log")


def test_base64():
    import base64

    print(base64.b64encode(b"x" + KEY.encode()).decode())


def test_on_purpose_by_itself(tmp_path):
    (tmp_path / "tests.env").write_text(KEY)


@pytest.mark.holds_secrets
def test_on_purpose():
    print(KEY)


def test_clean():
    print("[redacted:PLANTED]")
'''


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_planted_key_is_found(tmp_path: Path, workers: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_planted.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.suite_search",
        "-p",
        "no:cacheprovider",
        "-n",
        workers,
    ]
    done = subprocess.run(
        [*command, "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = set(re.findall(r"ERROR tests/test_planted\.py::(\w+)", done.stdout))
    assert found == {"test_prints", "test_reads_what_it_prints", "test_logs", "test_writes", "test_base64"}, (
        done
    )
    assert "8 passed" in done.stdout
