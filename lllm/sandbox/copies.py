"""Copies of what cells left in their working folder, beside the notebook.

Names and links were chosen by code that nobody trusts: nothing is written or removed through a link, no link leads out of the
copies, and a file that has become a folder, or the reverse, takes the other's place.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lllm.sandbox.contents import Change
from lllm.sandbox.snapshot import simple


def copy(folder: Path, change: Change) -> None:
    """Makes the changes of a cell, each file whole or not at all. A file whose content is not known is removed. Raises
    OSError."""
    unknown = (path for path, data in change.files.items() if data is None)
    for path in (*change.removed, *change.gone, *unknown):
        _remove(folder, path)
    for path in change.empty:
        _folder(folder, path)
    for path, data in change.files.items():
        if data is not None:
            mode = 0o777 if path in change.executable else 0o666
            _put(folder, path, lambda beside, data=data, mode=mode: _write(beside, data, mode))  # type: ignore[misc]
    for path, target in change.links.items():
        if simple(path, target):
            _put(folder, path, lambda beside, target=target: beside.symlink_to(target))  # type: ignore[misc]


def _remove(folder: Path, path: str) -> None:
    above = [folder / one for one in Path(path).parents if one != Path()]
    if any(one.is_symlink() for one in above):
        return
    for remove in (Path.unlink, Path.rmdir):
        with suppress(OSError):
            remove(folder / path)
    for one in above:
        try:
            one.rmdir()
        except OSError:
            break


def _folder(folder: Path, path: str) -> Path:
    """A folder, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    here = folder
    for part in path.split("/") if path else ():
        here = here / part
        if here.is_symlink() or (here.exists() and not here.is_dir()):
            here.unlink()
        here.mkdir(exist_ok=True)
    return here


def _put(folder: Path, path: str, make: Callable[[Path], None]) -> None:
    """Puts in place what `make` makes beside it."""
    above, _, name = path.rpartition("/")
    here = _folder(folder, above)
    target, beside = here / name, here / f".lllm-{secrets.token_hex(4)}.part"
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    try:
        make(beside)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write(file: Path, data: bytes, mode: int) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(data)
