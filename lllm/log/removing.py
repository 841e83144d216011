"""Removes sessions from an SQLite log and gives their space back to the disk, while others write.

1. The sessions are renamed to hidden names (`REMOVED`) in one short transaction, all or none. Their keys stay taken.
2. The blobs that only they name, and then their events, are removed in many short transactions with pauses between them.
A process that dies meanwhile leaves hidden rows; the next removal deletes them.
3. The file is rewritten (VACUUM) if that is worth it and no session is being written. A new session interrupts it; one
that starts too late for that waits (`COMPACTING`).

An append waits for at most a fraction of `busy_timeout`, and never fails.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from lllm.errors import LogWriteError
from lllm.log.base import Deleted
from lllm.log.blobs import NAMED, named_in
from lllm.log.schema import REMOVED

SLICE: Final = 0.03
"""Target duration of a transaction, in seconds."""
_ROWS: Final = 512  # maximum number of rows per read
_PORTION: Final = 1 << 20  # approximate bytes of events per read
_WORTH: Final = 8  # a file is rewritten if at least an eighth of it is free
_STEPS: Final = 20_000  # database instructions between checks for writers
_WAL_BYTES: Final = 16 << 20

Turn = Callable[[Callable[[], None]], None]
"""Runs a function that needs the write lock, waiting for others; the function may be called several times."""


def hide(database: sqlite3.Connection, names: Sequence[str]) -> list[int]:
    """Hides sessions and returns their keys. If it raises sqlite3.Error, nothing was removed; a transaction may be
    open."""
    keys: list[int] = []
    database.execute("BEGIN IMMEDIATE")
    for name in names:
        for (key,) in database.execute("SELECT key FROM sessions WHERE id = ?", (name,)).fetchall():
            database.execute("UPDATE sessions SET id = ? WHERE key = ?", (f"{REMOVED}{key}", key))
            keys.append(key)
    database.execute("COMMIT")
    return keys


class Sweep:
    """Deletes hidden sessions, and the blobs that only they named.

    Args:
        turn: runs a transaction; raises if others hold the lock for long.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, turn: Turn) -> None:
        self._database = database
        self._wal = Path(f"{path}-wal")
        self._turn = turn
        self._keys: set[int] = set()
        self._rows = 16
        self._bytes = self._blobs = 0

    def run(self, keys: Sequence[int]) -> Deleted:
        """Deletes all hidden sessions and returns what was deleted for these keys. If others hold the lock, the rest is
        left for the next removal."""
        of_all = "SELECT key FROM sessions WHERE substr(id, 1, ?) = ?"
        self._keys = {key for (key,) in self._database.execute(of_all, (len(REMOVED), REMOVED))}
        left: set[bytes] = set()
        for key in self._keys:
            for seq, last, body in self._bodies(key):
                for line in body.split(b"\n"):
                    left |= {digest.encode() for digest in named_in(line)}
                self._bytes += len(body) - (last - seq) if key in keys else 0
        with suppress(LogWriteError):
            self._unused(left)
            rest = sorted(self._keys)
            while rest:
                self._in_turn(partial(self._events, rest))
        return Deleted(len(keys), self._blobs, self._bytes)

    def _bodies(self, key: int) -> Iterator[tuple[int, int, bytes]]:
        sql = "SELECT seq, last, body FROM appends WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?"
        after = -1
        while found := self._database.execute(sql, (key, after, _ROWS)).fetchall():
            yield from found
            after = found[-1][0]

    def _in_turn(self, act: Callable[[], None]) -> None:
        """Runs a transaction, then pauses for as long to let others run theirs."""
        database = self._database

        def transaction() -> None:
            database.execute("BEGIN IMMEDIATE")
            act()
            database.execute("COMMIT")

        begun = time.monotonic()
        self._turn(transaction)
        with suppress(OSError):
            if self._wal.stat().st_size > _WAL_BYTES:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        time.sleep(max(SLICE / 2, time.monotonic() - begun))

    def _events(self, keys: list[int]) -> None:
        """Deletes events for the duration of one transaction; a session without further events is removed from `keys`."""
        begun = time.monotonic()
        gone = 0
        for key in keys:
            while not (done := self._some(key)) and time.monotonic() - begun < SLICE:
                pass
            if done:
                self._database.execute("DELETE FROM sessions WHERE key = ?", (key,))
                gone += 1
            if time.monotonic() - begun > SLICE:
                break
        del keys[:gone]

    def _some(self, key: int) -> bool:
        """Deletes some of a session's events. True if they were the last."""
        begun = time.monotonic()
        found = self._database.execute(
            "SELECT seq FROM appends WHERE session = ? ORDER BY seq LIMIT 1 OFFSET ?", (key, self._rows)
        ).fetchone()
        if found is None:
            self._database.execute("DELETE FROM appends WHERE session = ?", (key,))
            return True
        self._database.execute("DELETE FROM appends WHERE session = ? AND seq < ?", (key, found[0]))
        took = time.monotonic() - begun
        if took < SLICE / 8:
            self._rows = min(_ROWS, 2 * self._rows)
        elif took > SLICE / 2:
            self._rows = max(1, self._rows // 2)
        return False

    def _unused(self, left: set[bytes]) -> None:
        """Deletes those of the blobs that are no longer named."""
        top = self._look(left, 0)

        def some() -> None:
            # events appended since the last look may name them again
            nonlocal top
            top = self._look(left, top)
            self._take(left)

        while left:
            while (now := self._look(left, top)) > top + _ROWS:  # a long search must not hold the lock
                top = now
            self._in_turn(some)

    def _look(self, left: set[bytes], after: int) -> int:
        """Removes from `left` the digests named by events after row `after` of remaining sessions. Returns the last
        row."""
        (last,) = self._database.execute("SELECT coalesce(max(rowid), 0) FROM appends").fetchone()
        if last < after:
            after = 0  # another version of this package has removed rows, so row numbers were reassigned
        rows = _ROWS
        while left and after < last:
            found = self._database.execute(
                "SELECT rowid, session, body FROM appends WHERE rowid > ? ORDER BY rowid LIMIT ?",
                (after, rows),
            ).fetchall()
            if not found:
                break
            for _, session, body in found:
                if session not in self._keys:
                    left.difference_update(NAMED.findall(body))
            after = found[-1][0]
            size = sum(len(body) for _, _, body in found)
            rows = max(1, rows // 2) if size > 2 * _PORTION else min(_ROWS, 2 * rows)
        return int(last)

    def _take(self, left: set[bytes]) -> None:
        """Deletes blobs for the duration of one transaction."""
        begun = time.monotonic()
        sized = "SELECT length(data) FROM blobs WHERE digest = ?"
        while left:
            digest = left.pop().decode()
            for (size,) in self._database.execute(sized, (digest,)).fetchall():
                self._bytes += size
                self._blobs += 1
                self._database.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            if time.monotonic() - begun > SLICE:
                break


def compact(database: sqlite3.Connection, idle: Callable[[], bool]) -> None:
    """Gives free pages back to the disk by rewriting the file, if enough of it is free and as long as `idle` reports no
    writers. Otherwise they stay, and later sessions use them."""
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    if free * _WORTH >= pages and idle():
        database.set_progress_handler(lambda: not idle(), _STEPS)
        try:
            with suppress(sqlite3.OperationalError):
                database.execute("VACUUM")
        finally:
            database.set_progress_handler(None, 0)
    with suppress(sqlite3.OperationalError):
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the other modes hold the write lock throughout
        if idle():
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
