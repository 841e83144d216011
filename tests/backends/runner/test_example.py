"""The module of examples: R40."""

import subprocess
import sys
from contextlib import nullcontext

import pytest

from lllm.backends.runner import example
from lllm.backends.runner.factory import LLMRunnerFactory


def test_the_examples_run() -> None:
    """R40: in a process of their own, with exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "lllm.backends.runner.example"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    parts = done.stdout.split("# ")
    assert [part.partition("\n")[0] for part in parts[1:]] == ["basic", "streaming", "chat", "looking"]
    assert all(part.partition("\n")[2].strip() for part in parts[1:])


def test_what_a_model_says_is_made_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "basic", lambda runner: ["\x1b[2Jcleared"])
    monkeypatch.setattr(LLMRunnerFactory, "create_runner", lambda settings: nullcontext())
    for name in ("streaming", "chat", "looking"):
        monkeypatch.setattr(example, name, lambda runner: [])
    assert example.main() == 0
    assert "\\x1b[2Jcleared" in capsys.readouterr().out
