"""Environments of the libraries that a benchmark compares with: each in a folder `.venv-NAME` of the checkout, kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NoEnvironment(Exception):
    """Raised where the packages of a library could not be installed; the message is the last line of the reason."""


def python_of(name: str, requirements: Sequence[str]) -> str:
    """The Python of the environment `name`, made where it is not there or holds other requirements."""
    folder = ROOT / f".venv-{name}"
    python, holds = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not (python.exists() and holds.exists() and holds.read_text() == wanted):
        print(f"{name}: installs {', '.join(requirements)} in {folder.name}", file=sys.stderr, flush=True)
        holds.unlink(missing_ok=True)
        _run(str(ROOT / "scripts" / "venv.sh"), sys.executable, str(folder))
        _run(
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
            *requirements,
        )  # fmt: skip
        holds.write_text(wanted)
    return str(python)


def _run(*command: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PIP_TARGET", "PIP_PREFIX")
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "PIP_USER": "0"}, check=False
    )
    if done.returncode:
        raise NoEnvironment(
            (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        )
