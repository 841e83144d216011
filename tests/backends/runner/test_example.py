"""The module of examples: R40."""

import subprocess
import sys


def test_the_examples_run() -> None:
    """R40: in a process of their own, with exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "lllm.backends.runner.example"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    parts = done.stdout.split("# ")
    assert [part.partition("\n")[0] for part in parts[1:]] == ["basic", "streaming", "chat", "looking"]
    assert all(part.partition("\n")[2].strip() for part in parts[1:])
