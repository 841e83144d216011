"""Notices that the files of a project have changed while a program runs: YAML and prompts can be taken over, modules not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from lllm.discovery import files_of

if TYPE_CHECKING:
    from lllm.config import Config

_ELSEWHERE: Final = ("site-packages", ".venv", "venv", "node_modules")


class Changes(NamedTuple):
    """What has changed since the last look: files that can be read again, and Python modules."""

    files: tuple[Path, ...] = ()
    modules: tuple[Path, ...] = ()


class Watch:
    """The files that a configuration was read from, its prompts, and the project's loaded modules."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known = dict(self._look())

    def changes(self) -> Changes:
        """What has changed since the last call. A file that is new counts unless it is a module that nobody has loaded; a file
        that is gone counts too."""
        now = dict(self._look())
        before, self._known = self._known, now
        found = [
            path
            for path in {**before, **now}
            if before.get(path) != now.get(path) and (path.suffix != ".py" or path in before)
        ]
        return Changes(
            tuple(path for path in found if path.suffix != ".py"),
            tuple(path for path in found if path.suffix == ".py"),
        )

    def take(self, config: Config) -> None:
        """Watches what another configuration was read from."""
        self._config = config
        self._known = {**dict(self._look()), **{p: d for p, d in self._known.items() if p.suffix == ".py"}}

    def _look(self) -> Iterator[tuple[Path, bytes]]:
        root = f"{self._config.root}{os.sep}"
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        own = (
            Path(file)
            for file in loaded
            if isinstance(file, str) and file.startswith(root) and file.endswith(".py")
            if not any(f"{os.sep}{name}{os.sep}" in file for name in _ELSEWHERE)
        )
        for path in {*self._config.files, *files_of(self._config), *own}:
            try:
                yield path, sha256(path.read_bytes()).digest()
            except OSError:
                continue
