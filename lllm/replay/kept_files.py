"""The files of kept sessions: the regression tests of a project, in `tests/sessions`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lllm.errors import ConfigError, LLMError, UnknownNameError
from lllm.log.copy import SUFFIX

FOLDER: Final = "tests/sessions"
"""The folder of kept sessions, relative to that of lllm.toml (or to the working folder)."""


def home() -> Path:
    """Returns the folder for kept sessions of the current project."""
    from lllm.config import load_project

    return load_project().root / FOLDER


def find(given: Sequence[str | os.PathLike[str]] = ()) -> list[Path]:
    """Returns the files of kept sessions, each once, in order.

    Args:
        given: files, folders (all files below them), or names in FOLDER; by default all of FOLDER.

    Raises:
        ConfigError: no session is kept there. UnknownNameError: no session of this name; names the nearest.
    """
    folder = home()
    found: list[Path] = []
    for one in given or (folder,):
        path = Path(one)
        inside = folder / f"{one}{SUFFIX}"
        if path.is_dir():
            found += sorted(path.rglob(f"*{SUFFIX}"))
        elif path.is_file():
            found.append(path)
        elif inside.is_file():
            found.append(inside)
        elif given:
            known = [name_of(file) for file in sorted(folder.rglob(f"*{SUFFIX}"))]
            raise UnknownNameError("kept session", str(one), known, hint="Keep one: lllm test keep ID")
    found = [path for path in dict.fromkeys(found) if path.is_file()]
    if not found:
        raise ConfigError(
            f"no session is kept in {', '.join(map(str, given)) or FOLDER}",
            hint="Keep one: lllm test keep ID",
        )
    return found


def name_of(file: Path) -> str:
    """Returns the name by which `find` finds a file: that in FOLDER, else its path."""
    try:
        inside = file.resolve().relative_to(home().resolve())
    except (ValueError, LLMError):
        return shown(file)
    return inside.with_suffix("").as_posix()


def shown(file: Path) -> str:
    """Returns a file's path for a message, relative to the working folder where it is in it."""
    try:
        return file.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(file)
