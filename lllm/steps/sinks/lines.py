"""Files of lines that are rows: JSON Lines, and the rows that wait for a Parquet file."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lllm.errors import SinkError
from lllm.steps.sinks.rows import KEY, Row, json_text

_OURS: Final = b'{"' + KEY.encode() + b'":'
_PART: Final = 1 << 20


class Lines:
    """A file with a JSON object in each line, that several processes may append to.

    A row is appended by one write and is on the disk before `write` returns. A file whose last line is half a row, because a
    process was killed or its disk was full, loses that half with the next row.
    """

    kind = "jsonl"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: set[str] = set()
        self._file = 0  # the inode that was read
        self._end = 0  # as far as it was read

    def write(self, key: str, row: Row) -> None:
        """Appends a row, unless the file has one with its key. SinkError where it cannot be."""
        with errors_of(self.path), self.opened() as fd:
            self._read(fd)
            if key in self._keys:
                return
            self._append(fd, json_text({KEY: key, **row}).encode() + b"\n")
            self._keys.add(key)

    def finish(self) -> None:
        """All rows are there already."""

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The file, for this process and thread alone."""
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            fd = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666
            )
            try:
                about = os.fstat(fd)
                if not stat.S_ISREG(about.st_mode):
                    raise SinkError(f"'{self.path}' is no file", hint="Give the path of a file.")
                fcntl.flock(fd, fcntl.LOCK_EX)
                with suppress(FileNotFoundError):
                    if os.stat(self.path).st_ino == about.st_ino:  # else somebody has put another one there
                        if is_new:
                            sync_folder(self.path.parent)
                        yield fd
                        return
            finally:
                os.close(fd)

    def _read(self, fd: int) -> None:
        """Takes up the keys of rows that were appended since, and cuts off half a row at the end."""
        about = os.fstat(fd)
        if about.st_ino != self._file or about.st_size < self._end:
            self._keys, self._end, self._file = set(), 0, about.st_ino
        if about.st_size == self._end:
            return
        if self._end == 0 and os.pread(fd, 1, 0) != b"{":
            raise SinkError(
                f"'{self.path}' has other content than rows in JSON Lines",
                hint="Give the sink a file of its own.",
            )
        left = b""
        while part := os.pread(fd, _PART, self._end + len(left)):
            *lines, left = (left + part).split(b"\n")
            for line in lines:
                self._take(line)
                self._end += len(line) + 1
        if left:
            self._mend(fd, left)

    def _take(self, line: bytes) -> None:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(key := found.get(KEY), str):
                self._keys.add(key)

    def _mend(self, fd: int, last: bytes) -> None:
        """The last line has no end."""
        try:
            json.loads(last)
        except ValueError:
            if not (last.startswith(_OURS) or _OURS.startswith(last)):
                raise SinkError(
                    f"'{self.path}' ends within a line that no sink has written",
                    hint="Mend its last line, or give the sink a file of its own.",
                ) from None
            os.ftruncate(fd, self._end)
            return
        self._append(fd, b"\n")
        self._take(last)
        self._end = os.fstat(fd).st_size

    def _append(self, fd: int, data: bytes) -> None:
        before = os.fstat(fd).st_size
        try:
            done = os.write(fd, data)
            while done < len(data):
                done += os.write(fd, data[done:])
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, before)
            raise
        self._end = before + len(data)


def rows_in(fd: int) -> Iterator[dict[str, Any]]:
    """The rows of a file, without half a row at its end."""
    size = os.fstat(fd).st_size
    data = b""
    while len(data) < size and (part := os.pread(fd, _PART, len(data))):
        data += part
    for line in data.split(b"\n"):
        with suppress(ValueError):
            if isinstance(found := json.loads(line), dict):
                yield found


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Errors of the system as SinkErrors."""
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"no row could be written to '{path}': {error.strerror or error}",
            hint="The rows before it are there. See that the folder can be written, and the disk has room.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
