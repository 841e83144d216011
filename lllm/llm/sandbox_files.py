"""The files that are copied into each sandbox of a configuration: `sandbox: {files: [data]}`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.config import Config

MOST_FILES: Final = 1_000
"""Files that are copied into a sandbox at most."""


def copied_files(config: Config) -> dict[str, Path]:
    """What is copied into each sandbox of a configuration: files by their paths in there. Those within the project keep
    their paths. Of a folder, what is hidden, links that lead out of it, and the notebooks of sandboxes are left out.
    ConfigError for what is not there or too large."""
    from lllm.sandbox.workspace import KEPT

    found: dict[str, Path] = {}
    for place in config.sandbox.files:
        inside = place.is_relative_to(config.root)
        above = config.root if inside else place.parent
        if place.is_dir():
            files = [file for file in sorted(place.rglob("*")) if _is_taken(file, place, config.sandbox.dir)]
        elif place.is_file():
            files = [place]
        else:
            raise ConfigError(f"sandbox.files: no such file: '{place}'", hint="Name files or folders.")
        found.update((file.relative_to(above).as_posix(), file) for file in files)
        if large := [file for file in files if file.stat().st_size > KEPT]:
            raise ConfigError(
                f"sandbox.files: '{large[0]}' has more than {KEPT:,} bytes, which is the most that is copied into a sandbox"
            )
        if len(found) > MOST_FILES:
            raise ConfigError(f"sandbox.files names more than {MOST_FILES:,} files, with '{place}'")
    return found


def _is_taken(file: Path, folder: Path, notebooks: Path) -> bool:
    if not file.is_file() or file.is_relative_to(notebooks):
        return False
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.resolve().is_relative_to(folder.resolve())
