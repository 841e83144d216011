"""Runs one statement on a SQLite file, in a process of its own: see worker. Imports the standard library alone.

What a statement may do is decided by SQLite itself, action by action, while it compiles it (`sqlite3_set_authorizer`); its text
is never looked at. It reads one request from its input, `{"do": ..., "path": ..., ...}`, and answers `{"found": ...}` or
`{"error": ..., "kind": ...}`.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

FUNCTIONS = frozenset(
    """
    abs avg bm25 ceil ceiling changes char coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime degrees dense_rank exp first_value floor format glob group_concat hex highlight if
    ifnull iif instr julianday lag last_insert_rowid last_value lead length like likelihood likely ln log log10 log2 lower
    ltrim match matchinfo max median min mod nth_value ntile nullif octet_length offsets percent_rank percentile
    percentile_cont percentile_disc pi pow power printf quote radians random randomblob rank regexp replace round
    row_number rtrim sign snippet soundex sqlite_version sqrt strftime string_agg substr substring sum time timediff total
    total_changes trim trunc typeof unhex unicode unistr unixepoch unlikely upper zeroblob acos acosh asin asinh atan
    atan2 atanh cos cosh sin sinh tan tanh -> ->> json json_array json_array_length json_error_position json_extract
    json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote json_remove json_replace
    json_set json_type json_valid jsonb jsonb_array jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert
    jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set
    """.split()
)
"""SQL functions that may be called. Not among them: load_extension, fts3_tokenizer, and whatever is not known here."""
PRAGMAS = frozenset(
    "table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list".split()
)
"""Pragmas that only say what there is."""

READ, SELECT, FUNCTION, RECURSIVE, PRAGMA = 20, 21, 31, 33, 19
INSERT, UPDATE, DELETE = 18, 23, 9
ACTIONS = {
    1: "CREATE INDEX", 2: "CREATE TABLE", 3: "CREATE TEMP INDEX", 4: "CREATE TEMP TABLE", 5: "CREATE TEMP TRIGGER",
    6: "CREATE TEMP VIEW", 7: "CREATE TRIGGER", 8: "CREATE VIEW", 9: "DELETE", 10: "DROP INDEX", 11: "DROP TABLE",
    12: "DROP TEMP INDEX", 13: "DROP TEMP TABLE", 14: "DROP TEMP TRIGGER", 15: "DROP TEMP VIEW", 16: "DROP TRIGGER",
    17: "DROP VIEW", 18: "INSERT", 19: "PRAGMA", 22: "BEGIN, COMMIT or ROLLBACK", 23: "UPDATE", 24: "ATTACH", 25: "DETACH",
    26: "ALTER TABLE", 27: "REINDEX", 28: "ANALYZE", 29: "CREATE VIRTUAL TABLE", 30: "DROP VIRTUAL TABLE", 31: "the function",
    32: "SAVEPOINT",
}  # fmt: skip

LIMITS = {
    "LENGTH": 16 * 2**20,
    "SQL_LENGTH": 200_000,
    "ATTACHED": 0,
    "WORKER_THREADS": 0,
    "LIKE_PATTERN_LENGTH": 200,
    "VDBE_OP": 250_000,
    "TRIGGER_DEPTH": 20,
}
CHARACTERS = 40_000
"""Of all values of a result."""
NAME = 300
"""Characters of a name, or a line about a column."""
LONGEST = 4000
"""Characters of one value."""
COUNTED = 100_000
"""Rows behind the last one shown, up to which they are counted."""
TABLES = 200
SAMPLE = 3
_TABLES = """
SELECT m.name, m.type, m.sql
FROM sqlite_master m LEFT JOIN pragma_table_list l ON l.name = m.name AND l.schema = 'main'
WHERE m.type IN ('table', 'view') AND substr(m.name, 1, 7) <> 'sqlite_' AND coalesce(l.type, '') <> 'shadow'
ORDER BY m.name
"""
_ALL_TABLES = """
SELECT name, type, sql FROM sqlite_master
WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name
"""
_INDEXES = """
SELECT l.name, l."unique", group_concat(i.name, ', ')
FROM pragma_index_list(?) l, pragma_index_info(l.name) i GROUP BY l.seq
"""
_KEYS = 'SELECT "from", "table", "to" FROM pragma_foreign_key_list(?)'


class Refused(Exception):
    """Returns the answer in place of a result."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Authorizer:
    """Says which actions a statement may consist of, and keeps the first one that it may not."""

    def __init__(self, writable: bool) -> None:
        self._writable = writable
        self.denied = ""

    def __call__(self, action: int, one: str | None, two: str | None, *_: str | None) -> int:
        if action in (SELECT, READ, RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == FUNCTION and str(two).lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == PRAGMA and (one in PRAGMAS or (one == "data_version" and two is None)):
            return sqlite3.SQLITE_OK  # full-text search asks for data_version itself
        if action == UPDATE and one == "sqlite_master":
            # asked for when a virtual table is opened, which changes nothing; whoever means it is refused by SQLite, as
            # `PRAGMA writable_schema` is not allowed
            return sqlite3.SQLITE_OK
        if (
            self._writable
            and action in (INSERT, UPDATE, DELETE)
            and not str(one).lower().startswith("sqlite_")
        ):
            return sqlite3.SQLITE_OK
        detail = {PRAGMA: one, FUNCTION: two}.get(action, "")
        self.denied = self.denied or f"{ACTIONS.get(action, 'that')} {detail or ''}".strip()
        return sqlite3.SQLITE_DENY


def main() -> None:
    """Answers one request."""
    import resource
    import signal

    signal.alarm(int(sys.argv[2]))  # ends this process where nobody else does: its parent may be gone
    request = json.loads(sys.stdin.buffer.readline())
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
        if request["do"] != "execute":  # of temporary files; a database that is written may be larger
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    try:
        answer = {"found": run(request)}
    except Refused as error:
        answer = {"error": str(error), "kind": error.kind}
    except MemoryError:
        answer = {"error": "the statement needed too much memory", "kind": "large"}
    sys.stdout.buffer.write(json.dumps(answer).encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def run(request: dict[str, Any]) -> Any:
    """Does what is asked for, within its time."""
    writes = request["do"] in ("execute", "recover")
    deadline = time.monotonic() + request["seconds"]
    authorizer = Authorizer(writes)
    try:
        connection = opened(request["path"], writes, request["seconds"])
    except sqlite3.Error as error:
        raise Refused("missing", f"the database cannot be opened: {error}") from None
    try:
        if request["do"] == "recover":
            connection.execute("BEGIN IMMEDIATE")
            return connection.rollback()
        if writes:
            connection.execute("BEGIN IMMEDIATE")
        connection.set_authorizer(authorizer)
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
        if request["do"] == "schema":
            return schema(connection, request["table"])
        cursor = connection.execute(request["sql"], request["parameters"])
        if cursor.description is None and not writes:
            raise Refused("rejected", "there is no statement, or one that returns nothing: write a SELECT")
        found = rows_of(cursor, request["limit"]) if cursor.description is not None else {}
        if writes:
            found["rows_changed"] = max(connection.total_changes, 0)
            connection.set_progress_handler(None, 0)
            connection.set_authorizer(None)
            connection.execute("COMMIT")
        return found
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        raise refusal(error, authorizer.denied) from None
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.rollback()
        connection.close()


def opened(path: str, writes: bool, seconds: float) -> sqlite3.Connection:
    """A connection that can do no more than the request needs."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={'rw' if writes else 'ro'}",
        uri=True,
        isolation_level=None,
        timeout=min(seconds, 5.0),
    )
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    if not writes:
        connection.execute("PRAGMA query_only=ON")
    for name, value in LIMITS.items():
        connection.setlimit(getattr(sqlite3, f"SQLITE_LIMIT_{name}"), value)
    connection.execute("SELECT count(*) FROM sqlite_master")  # a file that is no database says so here
    return connection


def refusal(error: Exception, denied: str) -> Refused:
    """Returns the meaning of an error of SQLite, or of Python's module."""
    text = str(error)
    if denied:
        return Refused("denied", f"{denied} is not allowed here")
    if text == "interrupted":
        return Refused("timeout", "the statement took too long and was stopped")
    if "too big" in text or isinstance(error, MemoryError):
        return Refused("large", f"a value is larger than {LIMITS['LENGTH']:,} bytes ({text})")
    if "one statement" in text:
        return Refused("rejected", "one statement at a time, please: there are several")
    if "locked" in text or "busy" in text:
        return Refused("busy", f"the database is in use by somebody else ({text})")
    if "readonly" in text or "read-only" in text:
        return Refused("denied", f"the database is opened for reading only ({text})")
    return Refused("rejected", text)


def rows_of(cursor: sqlite3.Cursor, limit: int) -> dict[str, Any]:
    """Columns, rows up to a limit of rows and characters, and how many more there are."""
    columns = [plain(one[0], NAME) for one in cursor.description]
    longest = max(20, min(LONGEST, CHARACTERS // len(columns)))
    rows: list[list[Any]] = []
    size = more = 0
    unknown = False
    try:
        for row in cursor:
            if not more and len(rows) < limit and (not rows or size < CHARACTERS):
                rows.append([plain(value, longest) for value in row])
                size += sum(len(str(value)) + 3 for value in rows[-1])
            elif (more := more + 1) >= COUNTED:
                unknown = True
                break
    except sqlite3.OperationalError as error:
        if not more or str(error) != "interrupted":
            raise
        unknown = True
    made: dict[str, Any] = {"columns": columns, "rows": rows}
    if more:
        made["more_rows"] = f"at least {more}" if unknown else more
    return made


def plain(value: Any, longest: int = LONGEST) -> Any:
    """A value as JSON. Long text is cut; of a blob, its size and beginning."""
    if isinstance(value, bytes):
        shown = value[:32].hex()
        return f"<blob, {len(value)} bytes: {shown}{'...' if len(value) > 32 else ''}>"
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]}... ({len(value) - longest} more characters)"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def fitting(texts: Iterable[str], most: int = CHARACTERS) -> list[str]:
    """Texts about one table, up to so many characters, and how many more there are."""
    found, size, left = [], 0, 0
    for text in texts:
        text = str(plain(text, NAME))
        size += len(text)
        if size > most:
            left += 1
        else:
            found.append(text)
    return [*found, f"... and {left} more"] if left else found


def schema(connection: sqlite3.Connection, wanted: str) -> dict[str, Any]:
    """The tables with their columns; or all about one, with a few rows."""
    try:
        known = connection.execute(_TABLES).fetchall()
    except sqlite3.OperationalError:  # before SQLite 3.37 it does not say which tables are those of an index
        known = connection.execute(_ALL_TABLES).fetchall()
    if not wanted:
        tables = [
            {"name": plain(name, NAME), "type": kind, "columns": columns(connection, name, LONGEST)}
            for name, kind, _ in known[:TABLES]
        ]
        return {"tables": tables, **({"more_tables": len(known) - TABLES} if len(known) > TABLES else {})}
    names = {name.casefold(): (name, kind, text) for name, kind, text in known}
    if wanted.casefold() not in names:
        listed = ", ".join(str(plain(name, NAME)) for name, *_ in known[:40]) or "none"
        raise Refused("missing", f"there is no table {wanted[:100]!r}; known: {listed}")
    name, kind, text = names[wanted.casefold()]
    made = {"name": plain(name, NAME), "type": kind, "columns": columns(connection, name), "sql": plain(text)}
    indexes = [
        f"{index} ({names})" + (" unique" if unique else "")
        for index, unique, names in connection.execute(_INDEXES, (name,))
    ]
    keys = [f"{column} -> {table}.{other}" for column, table, other in connection.execute(_KEYS, (name,))]
    made |= {"indexes": fitting(indexes)} if indexes else {}
    made |= {"foreign_keys": fitting(keys)} if keys else {}
    quoted = '"' + name.replace('"', '""') + '"'
    with suppress(sqlite3.DatabaseError):  # a view may lead to what is gone
        sample = connection.execute(f"SELECT * FROM {quoted} LIMIT {SAMPLE}")  # noqa: S608  quoted
        made["sample"] = rows_of(sample, SAMPLE)["rows"]
    return made


def columns(connection: sqlite3.Connection, table: str, most: int = CHARACTERS) -> list[str]:
    """Each column in a line: `id INTEGER primary key`. `most`: see fitting."""
    try:
        found = connection.execute(
            'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)
        ).fetchall()
    except sqlite3.DatabaseError as error:
        return [f"({error})"]
    return fitting(
        (
            " ".join(filter(None, (name, kind, "not null" if needed else "", "primary key" if key else "")))
            for name, kind, needed, key in found
        ),
        most,
    )


if __name__ == "__main__":
    main()
