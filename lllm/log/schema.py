"""The tables of an SQLite log, how they are made and brought up to date, and what its errors mean to a user.

A row of `appends` holds the events of one append, a line each, found by (session, seq of the first). The rows lie in
the file in the order in which they were written, because then many sessions that write at once share pages. Both are
measured: with 256 sessions at once, a row per event costs twice the time, and a table clustered by session three times.
For queries by hand, `SELECT * FROM events` shows an event per row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lllm.errors import LogCorrupt, LogError, LogWriteError
from lllm.hints import update_hint
from lllm.log.base import out_of_turn
from lllm.ports import Record

APPLICATION: Final = 0x6C6C6C6D  # 'lllm': what `file` and SQLite see in the header
REMOVED: Final = "~removed-"
"""Prefix of the id of a removed session whose events are not deleted yet: such sessions are hidden everywhere."""


def _first(database: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE sessions (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, started INTEGER NOT NULL,"
        " meta BLOB NOT NULL, ended INTEGER, status TEXT)",
        "CREATE INDEX sessions_started ON sessions (started)",
        # seq and last: the first and last event of the append; at: when the last one happened
        "CREATE TABLE appends (session INTEGER NOT NULL, seq INTEGER NOT NULL, last INTEGER NOT NULL,"
        " at INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (session, seq))",
        "CREATE TABLE blobs (digest TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('checkpoints', 0)",
        "CREATE VIEW events AS SELECT s.id AS session, e.value ->> 'seq' AS seq, e.value ->> 'at' AS at,"
        " e.value ->> 'kind' AS kind, e.value ->> 'call' AS call, e.value ->> 'dialog' AS dialog,"
        " e.value -> 'data' AS data, e.value ->> 'hash' AS hash FROM appends a JOIN sessions s ON s.key = a.session,"
        " json_each('[' || replace(CAST(a.body AS TEXT), char(10), ',') || ']') e ORDER BY s.key, a.seq, e.key",
        f"PRAGMA application_id = {APPLICATION}",
    ):
        database.execute(statement)


def _ended_at(database: sqlite3.Connection) -> None:
    """When an ended session's last event happened, in its row: to list it takes no look at `appends`. NULL while it runs."""
    database.execute("ALTER TABLE sessions ADD ended_at INTEGER")
    database.execute(
        "UPDATE sessions SET ended_at = (SELECT at FROM appends WHERE session = key AND last = ended AND seq ="
        " (SELECT max(seq) FROM appends WHERE session = key)) WHERE ended IS NOT NULL"
    )


MIGRATIONS: Final[list[Callable[[sqlite3.Connection], None]]] = [_first, _ended_at]
"""MIGRATIONS[n] brings a database from `user_version` n to n + 1. Only ever added to."""

# A CASE takes the look at `appends` for the sessions alone that need it; a join would take it for all.
_LAST: Final = "(SELECT last FROM appends WHERE session = s.key ORDER BY seq DESC LIMIT 1)"
_LISTING: Final = (
    (
        "SELECT s.id, CASE WHEN s.ended = CASE WHEN s.ended_at IS NULL THEN @last ELSE s.ended END THEN s.status"
        " ELSE 'running' END, s.started, CASE WHEN s.ended IS NULL OR s.ended_at IS NULL THEN @at ELSE s.ended_at END,"
        " CASE WHEN s.ended IS NULL OR s.ended_at IS NULL THEN @last ELSE s.ended END + 1, s.meta FROM sessions s"
        " WHERE substr(s.id, 1, 9) <> '~removed-' ORDER BY s.started DESC, s.key DESC LIMIT :limit"
    )
    .replace("@last", _LAST)
    .replace("@at", _LAST.replace("last", "at"))
)


def listing(version: int, *, prefix: bool) -> str:
    """The query that gives the fields of SessionInfo, the latest session first: `:limit` rows (-1: all) of ids that begin
    with `:prefix`. `version` is the file's: one that is only read is not brought up to date."""
    sql = _LISTING if version > 1 else _LISTING.replace("s.ended_at", "NULL")
    found = " AND substr(s.id, 1, length(:prefix)) = :prefix ORDER BY s.started"
    return sql.replace(" ORDER BY s.started", found) if prefix else sql


def connect(
    path: Path, kind: type[sqlite3.Connection] = sqlite3.Connection, *, immutable: bool = False
) -> sqlite3.Connection:
    """A connection to an existing file. It never waits for a lock: the caller decides what waiting means."""
    address = f"file:{quote(str(path))}?{'immutable=1' if immutable else 'mode=rw'}"
    # sqlite3 is compiled thread-safe; the store's locks see to it that one thread uses a connection at a time
    return sqlite3.connect(
        address, uri=True, timeout=0, isolation_level=None, check_same_thread=False, factory=kind
    )


def open_writer(path: Path, synchronous: str) -> sqlite3.Connection:
    """The connection that appends use: the file is made, and brought to the present schema, where that is needed.

    Raises sqlite3.Error, OSError or LogError; `explain` tells the user what they mean."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that exists is not opened here: closing it would drop the locks that SQLite holds on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    database = connect(path)
    try:
        version = check(database, path)
        if database.execute("PRAGMA journal_mode = wal").fetchone() != ("wal",):
            raise LogWriteError(
                f"the file system of {path} cannot share memory between processes, which SQLite's log needs",
                hint="Point log_dir at a local disk, or set log_type to localfile.",
            )
        database.execute(f"PRAGMA synchronous = {synchronous}")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        if version < len(MIGRATIONS):
            migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection | None:
    """A connection to read with, or None when there is nothing to read yet."""
    if not path.exists():
        return None
    try:
        return _reader(connect(path), path)
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR):
            raise
        wal = Path(f"{path}-wal")
        if wal.exists() and wal.stat().st_size:
            if _code(error) != sqlite3.SQLITE_IOERR:
                raise
            return _reader(_alone(path), path)
    # A folder that we may not write to (or a full disk), and no write-ahead log: nobody is writing, so the file alone is
    # all there is.
    return _reader(connect(path, immutable=True), path)


class Alone(sqlite3.Connection):
    """A connection that shares nothing: the index of the write-ahead log, for which a full disk has no room, is kept in
    its own memory. It locks everybody else out, so it is not kept open."""


def _alone(path: Path) -> sqlite3.Connection:
    database = connect(path, Alone)
    database.execute("PRAGMA locking_mode = exclusive")
    return database


def _reader(database: sqlite3.Connection, path: Path) -> sqlite3.Connection | None:
    try:
        if check(database, path):
            database.execute("PRAGMA query_only = on")
            return database
    except BaseException:
        database.close()
        raise
    database.close()  # somebody is just making it
    return None


def check(database: sqlite3.Connection, path: Path) -> int:
    """The schema's version, 0 for an empty file. LogCorrupt for somebody else's file, LogError for a later lllm's."""
    own = not database.in_transaction
    if own:
        database.execute("BEGIN")  # one look at all three: another process may be making the file just now
    try:
        version: int = database.execute("PRAGMA user_version").fetchone()[0]
        owner = database.execute("PRAGMA application_id").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if own and database.in_transaction:
            database.execute("COMMIT")
    if owner != APPLICATION and (version or tables):
        raise LogCorrupt(
            f"{path} is an SQLite database, but not a log of lllm", hint="Point log_dir elsewhere."
        )
    if version > len(MIGRATIONS):
        raise LogError(
            f"{path} is written in schema {version}; this lllm knows schemas up to {len(MIGRATIONS)}",
            hint=update_hint(),
        )
    return version


def migrate(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        version = check(database, path)  # again: another process may have been quicker
        for migration in MIGRATIONS[version:]:
            migration(database)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def is_busy(error: BaseException) -> bool:
    """Whether another process, or another connection, was in the way: trying again may help."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def locked(path: Path, waited: float) -> LogWriteError:
    return LogWriteError(
        f"{path} was locked by another process for {waited:.3g} seconds",
        hint="Close the program that keeps it open for writing (a database browser?), or raise busy_timeout.",
    )


def explain(
    error: BaseException, path: Path, records: Sequence[Record] = (), *, doing: str = "written"
) -> LogError:
    """What an error of the database means to the user, with the error as its cause."""
    if isinstance(error, LogError):
        return error
    code = _code(error)
    made: LogError
    if code == sqlite3.SQLITE_CONSTRAINT and records:
        made = out_of_turn(records[0].session, records[0].seq, records[0].seq)
    elif code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        made = LogCorrupt(
            f"{path} is not a readable SQLite database ({error})",
            hint="Move it away, or point log_dir elsewhere. `sqlite3 FILE .recover` saves what can be read.",
        )
    elif code == sqlite3.SQLITE_FULL:
        made = LogWriteError(
            f"there is no room left for {path} ({error})",
            hint="Free some space, or point log_dir at another disk. Nothing that was written before is lost.",
        )
    else:
        kind = LogWriteError if doing == "written" else LogError
        made = kind(
            f"{path} could not be {doing} ({error or type(error).__name__})",
            hint="Check that its folder exists, that there is room, and that you may write there; or point log_dir elsewhere.",
        )
    made.__cause__ = error
    return made


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
