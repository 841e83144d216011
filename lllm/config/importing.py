"""The folders of the code that uses lllm: where a project is looked for that is imported from elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

_LLLM: Final = Path(__file__).parents[1]
_PACKAGES: Final = ("site-packages", "dist-packages")
"""Folders of installed packages: what is above them is not theirs."""


def files_around(frame: FrameType | None) -> Iterator[str]:
    """The files of the modules whose code is running, the innermost first."""
    last = None
    while frame is not None:
        file = frame.f_globals.get("__file__")
        if isinstance(file, str) and file != last:
            last = file
            yield file
        frame = frame.f_back


def folders() -> Iterator[Path]:
    """The folders to look into, each once: of the code that is running, the innermost first, then of the code that first
    imported lllm; of each file its folder and those above it. Files of lllm, of Python and of its programs are passed over."""
    seen: set[Path] = set()
    skipped = _folders_of_python()
    for name in (*files_around(sys._getframe(1)), *sys.modules["lllm"]._imported_by):
        file = Path(name).absolute()
        if any(file.is_relative_to(folder) for folder in skipped) and not set(_PACKAGES) & set(file.parts):
            continue
        for folder in file.parents:
            if folder.name in _PACKAGES or folder in seen or folder == _LLLM:
                break
            seen.add(folder)
            yield folder


def _folders_of_python() -> list[Path]:
    """Python's own modules, and the programs of an environment."""
    return [Path(os.__file__).parent, *(Path(prefix) / "bin" for prefix in (sys.prefix, sys.base_prefix))]
