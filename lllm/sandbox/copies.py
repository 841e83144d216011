"""Copies of the files that cells wrote, beside the notebook.

Their names were chosen by code that nobody trusts: nothing is written through a link, and a file that has become a folder, or
the reverse, takes the other's place.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path


def copy(folder: Path, files: Mapping[str, bytes | None], removed: Iterable[str]) -> None:
    """Writes files, each whole or not at all, and removes those that are gone. None: a file whose content is not known is
    removed too. Raises OSError."""
    for path in (*removed, *(path for path, data in files.items() if data is None)):
        _remove(folder, path)
    for path, data in files.items():
        if data is not None:
            _write(folder, path, data)


def _remove(folder: Path, path: str) -> None:
    file = folder / path
    with suppress(OSError):
        file.unlink()
    for above in file.relative_to(folder).parents:
        if above == Path():
            break
        try:
            (folder / above).rmdir()
        except OSError:
            break


def _write(folder: Path, path: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    here = folder
    *above, name = path.split("/")
    for part in above:
        here = here / part
        if here.is_symlink() or (here.exists() and not here.is_dir()):
            here.unlink()
        here.mkdir(exist_ok=True)
    target, beside = here / name, here / f".lllm-{secrets.token_hex(4)}.part"
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    try:
        with open(beside, "xb") as file:
            file.write(data)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
