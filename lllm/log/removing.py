"""Sessions out of an SQLite log, and the room that they took back to the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from lllm.log.base import Deleted
from lllm.log.blobs import unnamed


def remove(database: sqlite3.Connection, names: Sequence[str], named: Collection[str]) -> Deleted:
    """Removes sessions in one transaction, and of the blobs that they named those that nobody else does.

    Raises sqlite3.Error, and then nothing was removed; a transaction may be open."""
    keys = [
        row[0]
        for name in names
        for row in database.execute("SELECT key FROM sessions WHERE id = ?", (name,)).fetchall()
    ]
    # Reading a large log takes long, so it is read before the lock, and within it only what has come since.
    (top,) = database.execute("SELECT coalesce(max(rowid), 0) FROM appends").fetchone()
    unused = unnamed(named, _others(database, keys, 0))
    database.execute("BEGIN IMMEDIATE")
    (now,) = database.execute("SELECT coalesce(max(rowid), 0) FROM appends").fetchone()
    # where somebody else has removed sessions meanwhile, numbers may have been given anew
    unused = unnamed(unused, _others(database, keys, top if now >= top else 0))
    size = 0
    for key in keys:
        (bytes_,) = database.execute(
            "SELECT coalesce(sum(length(body) - (last - seq)), 0) FROM appends WHERE session = ?", (key,)
        ).fetchone()
        size += bytes_
        database.execute("DELETE FROM appends WHERE session = ?", (key,))
        database.execute("DELETE FROM sessions WHERE key = ?", (key,))
    sizes = [
        row[0]
        for digest in unused
        for row in database.execute("SELECT length(data) FROM blobs WHERE digest = ?", (digest,)).fetchall()
    ]
    database.executemany("DELETE FROM blobs WHERE digest = ?", [(digest,) for digest in unused])
    database.execute("COMMIT")
    return Deleted(len(keys), len(sizes), size + sum(sizes))


def shrink(database: sqlite3.Connection) -> None:
    """Gives free pages back to the disk. That writes the file anew; where somebody is at work in it, or the disk has no
    room for a second copy, the pages stay and are used by the sessions to come."""
    with suppress(sqlite3.OperationalError):
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _others(database: sqlite3.Connection, keys: Sequence[int], after: int) -> Iterator[bytes]:
    gone = set(keys)
    rows = database.execute("SELECT session, body FROM appends WHERE rowid > ?", (after,))
    return (body for session, body in rows if session not in gone)
