"""The folder of a training: its name, its checkpoints, and a lock, so that one process at a time trains there."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lllm.atomic_files import write_text_atomic
from lllm.errors import ConfigError

FILE: Final = "training.json"
"""What a training in a folder is called. Its rollouts are named by that, so one that goes on finds its own, and a training that
starts from scratch finds none: its environment may have other tools by now."""
_LOCK: Final = "training.lock"


def name_of(folder: Path) -> str | None:
    """Returns the name of the training that was begun in a folder; None where there is none."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found.isalnum() else None


def new_name() -> str:
    """Returns a new name for a training."""
    return secrets.token_hex(4)


def write_name(folder: Path, name: str) -> None:
    """Writes the name of the training in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / FILE, json.dumps({"name": name}) + "\n")


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint in a folder; None where there is none."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, oldest first."""
    found = [
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and (path / "trainer_state.json").is_file()
    ]
    return [path for _, path in sorted(found)]


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Reads the state of the training from a checkpoint; empty where it cannot be read."""
    try:
        found = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Locks a folder within the block. Raises ConfigError where another living process trains in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        words = f"{folder} cannot be written to ({error.strerror or error})"
        raise ConfigError(words, hint="Give another folder: output_dir.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process trains in {folder}",
                hint="Wait for it, or train in another folder: output_dir.",
            ) from None
        yield
    finally:
        os.close(lock)
