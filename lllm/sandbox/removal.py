"""Removes folders that code in a sandbox has made: however deep, whatever their modes, and nothing beyond a link."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def open_folder(name: str, above: int | None = None) -> int:
    """Opens a folder, by its name in another; gives its owner the right to read it where that is missing. Raises OSError."""
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        allow(name, above, 0o700)
        return os.open(name, _FOLDER, dir_fd=above)


def allow(name: str, above: int | None, mode: int) -> None:
    """Adds rights to a file or folder, and not to what a link points at."""
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=above)
    try:
        now = os.fstat(fd).st_mode
        if not stat.S_ISLNK(now):
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(now) | mode)
    finally:
        os.close(fd)


def remove(name: str, above: int | None = None) -> None:
    """Removes a file, or a folder with all that is in it, as far as that is allowed.

    Folders within the folder are moved up into it, one after the other, so that no path grows long and nothing is nested.
    """
    try:
        os.unlink(name, dir_fd=above)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass
    with suppress(OSError):
        fd = open_folder(name, above)
        try:
            _empty(fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=above)


def _empty(fd: int) -> None:
    with suppress(OSError):
        os.fchmod(fd, 0o700)
    count = 0
    failed: set[str] = set()
    while names := [name for name in os.listdir(fd) if name not in failed]:
        for name in names:
            try:
                try:
                    os.unlink(name, dir_fd=fd)
                except (IsADirectoryError, PermissionError):
                    count = _move_up(name, fd, count)
                    os.rmdir(name, dir_fd=fd)
            except OSError:
                failed.add(name)


def _move_up(name: str, above: int, count: int) -> int:
    """Empties a folder: files are removed, folders are moved beside it. Returns how many names were made."""
    fd = open_folder(name, above)
    try:
        with suppress(OSError):
            os.fchmod(fd, 0o700)
        for inner in os.listdir(fd):
            try:
                os.unlink(inner, dir_fd=fd)
            except (IsADirectoryError, PermissionError):
                with suppress(OSError):
                    allow(inner, fd, 0o700)  # a folder is moved by those who may write it
                while True:
                    count += 1
                    try:
                        os.rename(inner, f".removed-{count}", src_dir_fd=fd, dst_dir_fd=above)
                        break
                    except (FileExistsError, NotADirectoryError):
                        continue
                    except OSError as error:
                        if error.errno not in (17, 39):
                            raise
    finally:
        os.close(fd)
    return count
