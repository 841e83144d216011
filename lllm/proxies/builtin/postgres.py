"""A Postgres database, as the proxy `sql` uses it.

A statement is sent over the extended protocol, which takes one statement and no more. What reads is declared as a cursor,
which takes nothing but a query, in a read-only transaction that is always rolled back. The server decides all of that; the
text of the statement is never looked at. What functions may do (read files, open connections) is decided by the rights of the
role.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format, TransactionStatus
from psycopg.types.string import TextLoader

from lllm.errors import (
    ConfigError,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
    EndpointUnreachable,
    LLMError,
)
from lllm.proxies.builtin.sqlite_worker import CHARACTERS, COUNTED, LONGEST, SAMPLE, TABLES, fitting, plain

CONNECT: Final = 10
_CHANGES: Final = ("INSERT", "UPDATE", "DELETE", "MERGE")
"""Names of the server for statements that were run."""
_LARGE: Final = 10 * CHARACTERS
"""Bytes of a value from which on it is not made into lists and objects."""
_BYTEA: Final = 17
_GRACE: Final = 5.0
_AS_TEXT: Final = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric")
"""Types that Python does not hold whole ('infinity', the year 10000), or that JSON has not: as the server writes them."""
_POWERFUL: Final = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
_ROLES: Final = """
SELECT session_user, array(
    SELECT CASE WHEN rolsuper THEN 'superuser' ELSE rolname::text END FROM pg_catalog.pg_roles
    WHERE (rolsuper OR rolname = ANY (%s)) AND pg_has_role(session_user, oid, 'MEMBER'))
"""
_STATES: Final[tuple[tuple[str, type[EndpointError]], ...]] = (
    ("42501", EndpointDenied),
    ("25006", EndpointDenied),
    ("28", EndpointDenied),
    ("57014", EndpointTimeout),
    ("55P03", EndpointTimeout),
    ("08P01", EndpointRejected),  # other parameters than the statement has
    ("08", EndpointUnreachable),
    ("57P", EndpointUnreachable),
    ("53", EndpointError),
    ("40", EndpointError),
    ("", EndpointRejected),
)
"""Errors by the beginning of their SQLSTATE; the first that fits."""

_TABLES: Final = """
SELECT c.oid, n.nspname, c.relname, pg_table_is_visible(c.oid),
       CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\\_%' AND NOT c.relispartition
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY 2, 3
"""
_COLUMNS: Final = """
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       coalesce((SELECT i.indisprimary FROM pg_catalog.pg_index i
                 WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)), false)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_ABOUT: Final = """
SELECT 'indexes', pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = $1
UNION ALL
SELECT 'constraints', conname || ': ' || pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE conrelid = $1
"""


class Postgres:
    """See above.

    Arguments:
        url: the address, which is in no message. env: the variable that holds it. seconds: of one statement.
        allow_superuser: whether the role may be one that can read and write files of the server.
    """

    placeholder = "$1"

    def __init__(self, url: str, env: str, seconds: float, *, allow_superuser: bool = False) -> None:
        self._env, self._seconds, self._allow = env, seconds, allow_superuser
        try:
            self._given: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.Error:
            raise ConfigError(
                f"the address in the variable {env} cannot be read",
                hint="Write postgresql://USER@HOST:5432/DATABASE. Characters like @ and / in it are written %40 and %2F.",
            ) from None

    def query(self, statement: str, parameters: list[Any], limit: int) -> dict[str, Any]:
        """The rows of one query."""
        with self._transaction("READ ONLY") as connection:
            return self._rows(connection, statement, parameters, limit)

    def execute(self, statement: str, parameters: list[Any], limit: int) -> dict[str, Any]:
        """One statement in a transaction of its own, which is committed."""
        with self._transaction("READ WRITE") as connection:
            with psycopg.RawCursor(connection) as cursor:
                cursor.execute(statement.encode(), parameters or None, prepare=True)
                if connection.info.transaction_status != TransactionStatus.INTRANS:
                    raise EndpointRejected("the statement must not begin or end a transaction")
                _check_done(cursor)
                made: dict[str, Any] = {}
                if cursor.description is not None:
                    made = _table(cursor, cursor.fetchmany(limit))
                    if (more := cursor.rowcount - len(made["rows"])) > 0:
                        made["more_rows"] = more
                made["rows_changed"] = max(cursor.rowcount, 0)
            try:
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                raise EndpointUnreachable(
                    "the connection broke while the change was committed: look whether it took effect"
                ) from error
            return made

    def schema(self, table: str) -> dict[str, Any]:
        """The tables, or all about one."""
        with self._transaction("READ ONLY") as connection, psycopg.RawCursor(connection) as cursor:
            known = [
                (oid, space, name, name if visible else f"{space}.{name}", kind)
                for oid, space, name, visible, kind in cursor.execute(_TABLES).fetchall()
            ]
            if not table:
                columns = _columns(cursor, [one[0] for one in known[:TABLES]], LONGEST)
                tables = [
                    {"name": shown, "type": kind, "columns": columns.get(oid, [])}
                    for oid, _, _, shown, kind in known[:TABLES]
                ]
                more = len(known) - TABLES
                return {"tables": tables, **({"more_tables": more} if more > 0 else {})}
            found = next(
                (one for one in known if table in (one[3], f"{one[1]}.{one[2]}")),
                next((one for one in known if table.casefold() == one[3].casefold()), None),
            )
            if found is None:
                listed = ", ".join(one[3] for one in known[:40]) or "none"
                raise EndpointNotFound(f"there is no table {table[:100]!r}; known: {listed}")
            oid, space, name, shown, kind = found
            made: dict[str, Any] = {
                "name": shown,
                "type": kind,
                "columns": _columns(cursor, [oid]).get(oid, []),
            }
            for title, text in cursor.execute(_ABOUT, [oid]).fetchall():
                made.setdefault(title, []).append(text)
            made |= {title: fitting(made[title]) for title in ("indexes", "constraints") if title in made}
            sample = sql.SQL("SELECT * FROM {}.{}").format(sql.Identifier(space), sql.Identifier(name))
            with suppress(EndpointError, psycopg.Error):
                made["sample"] = self._rows(connection, sample.as_string(), [], SAMPLE, count=False)["rows"]
            return made

    # --- one connection

    @contextmanager
    def _transaction(self, mode: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection in a transaction that ends with it, and in time. Its errors are those that a model can read."""
        connection: psycopg.Connection[Any] | None = None
        late = threading.Event()
        try:
            connection = psycopg.connect(
                autocommit=True, **{"connect_timeout": CONNECT, "application_name": "lllm", **self._given}
            )
            with _stopped(connection, self._seconds, late):
                for name in _AS_TEXT:
                    connection.adapters.register_loader(name, TextLoader)
                connection.execute(f"BEGIN {mode}")
                limit = max(1, round(self._seconds * 1000))
                connection.execute(f"SET LOCAL statement_timeout = {limit}")
                connection.execute(f"SET LOCAL lock_timeout = {limit}")
                connection.execute("SET LOCAL datestyle = 'ISO'")
                self._check_role(
                    connection
                )  # after a first query the transaction cannot be made READ WRITE any more
                yield connection
        except LLMError:
            raise
        except (psycopg.Error, OSError, UnicodeError) as error:
            raise self._error(error, late.is_set()) from None
        finally:
            if connection is not None:
                connection.close()  # rolls back what is not committed

    def _check_role(self, connection: psycopg.Connection[Any]) -> None:
        """Raises EndpointDenied for a role that is not held by the limits of a read-only transaction."""
        row = connection.execute(_ROLES, [list(_POWERFUL)]).fetchone()
        if row is None or not row[1] or self._allow:
            return
        strongest = "superuser" if "superuser" in row[1] else min(row[1])
        raise EndpointDenied(
            f"the role '{row[0]}' in {self._env} may act as {strongest}, which reads and writes files of the server",
            hint="Use a role with no more rights than needed: CREATE ROLE reader LOGIN PASSWORD '...'; "
            "GRANT SELECT ON ... TO reader. Or set the option allow_superuser.",
        )

    def _rows(
        self,
        connection: psycopg.Connection[Any],
        statement: str,
        parameters: list[Any],
        limit: int,
        *,
        count: bool = True,
    ) -> dict[str, Any]:
        rows: list[Sequence[Any]] = []
        size = 0
        loaders = Transformer(connection)
        cursor = psycopg.RawServerCursor(connection, "rows_of_lllm")
        with cursor:
            cursor.execute(statement.encode(), parameters or None)
            while len(rows) < limit and (not rows or size < CHARACTERS):
                # row by row: how large the next ones are is not known before they are here
                row = _next_row(connection, loaders)
                if row is None:
                    return _table(cursor, rows)
                rows.append(row)
                size += sum(min(len(str(value)), LONGEST) + 3 for value in row)
            made = _table(cursor, rows)
            if count and (more := _count(connection)):
                made["more_rows"] = f"at least {more}" if more >= COUNTED else more
        return made

    def _error(self, error: BaseException, late: bool) -> EndpointError:
        state = getattr(error, "sqlstate", None) or ""
        diagnosis = getattr(error, "diag", None)
        text = (getattr(diagnosis, "message_primary", None) or str(error)).strip()
        if password := str(self._given.get("password") or ""):
            text = text.replace(password, "[redacted]")
        if late or state == "57014":
            return EndpointTimeout(f"the statement took longer than {self._seconds:g} s and was stopped")
        if not state and isinstance(error, psycopg.OperationalError):
            return EndpointUnreachable(
                f"the database of {self._env} cannot be reached: {' '.join(text.split())}"
            )
        kind = next(kind for start, kind in _STATES if state.startswith(start))
        hint = getattr(diagnosis, "message_hint", None)
        return kind(" ".join(text.split()), hint=hint)


@contextmanager
def _stopped(connection: psycopg.Connection[Any], seconds: float, late: threading.Event) -> Iterator[None]:
    """Cancels what runs longer, whatever it has made of its own timeout; and hangs up where that does not help."""

    def cancel() -> None:
        late.set()
        with suppress(Exception):
            connection.cancel_safe(timeout=_GRACE)

    def hang_up() -> None:
        with suppress(Exception), socket.socket(fileno=connection.fileno()) as line:
            try:
                line.shutdown(socket.SHUT_RDWR)
            finally:
                line.detach()  # the descriptor is the connection's

    timers = [threading.Timer(seconds, cancel), threading.Timer(seconds + _GRACE, hang_up)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _count(connection: psycopg.Connection[Any]) -> int:
    """The rows behind those that were fetched, as far as they are counted."""
    with suppress(psycopg.Error):
        moved = connection.execute(f"MOVE FORWARD {COUNTED} FROM rows_of_lllm")
        return max(int(moved.rowcount), 0)
    return 1


def _next_row(connection: psycopg.Connection[Any], loaders: Transformer) -> Sequence[Any] | None:
    """The next row of the cursor. Values that are too large to be shown whole stay text: to make lists and objects of a JSON
    value of many megabytes, or of an array, takes longer than any limit, and nobody else runs meanwhile."""
    result = connection.execute("FETCH FORWARD 1 FROM rows_of_lllm").pgresult
    if result is None or not result.ntuples:
        return None
    values: list[Any] = []
    for n in range(result.nfields):
        data, kind = result.get_value(0, n), result.ftype(n)
        if data is not None and len(data) > _LARGE and kind != _BYTEA:
            values.append(str(data, "utf-8", "replace"))
        else:
            values.append(None if data is None else loaders.get_loader(kind, Format.TEXT).load(data))
    return values


def _check_done(cursor: psycopg.RawCursor[Any]) -> None:
    """Raises EndpointRejected where a statement was not one that changes rows, by what the server says that it did. That is
    before it is committed."""
    done = (cursor.statusmessage or "nothing").rstrip("0123456789 ")
    if done in _CHANGES or (done == "SELECT" and cursor.description is not None):
        return
    raise EndpointRejected(
        f"{'SELECT INTO' if done == 'SELECT' else done} is not possible here, and was undone",
        hint="Write one INSERT, UPDATE, DELETE or MERGE. Tables and rights are changed by hand.",
    )


def _table(cursor: Any, rows: list[Any]) -> dict[str, Any]:
    names = [column.name for column in cursor.description or ()]
    longest = max(20, min(LONGEST, CHARACTERS // max(1, len(names))))
    return {"columns": names, "rows": [[_plain(value, longest) for value in row] for row in rows]}


def _plain(value: Any, longest: int) -> Any:
    """A value as JSON; what JSON has not, as text."""
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    if value is None or isinstance(value, bool | int | str | bytes):
        return plain(value, longest)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict | list):
        found = _nested(value)
        text = str(found)
        return found if len(text) <= longest else plain(text, longest)
    return plain(str(value), longest)


def _nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _nested(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(one) for one in value]
    return _plain(value, LONGEST)


def _columns(cursor: Any, oids: list[int], most: int = CHARACTERS) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for oid, name, kind, needed, key in cursor.execute(_COLUMNS, [oids]).fetchall():
        parts = (name, kind, "not null" if needed else "", "primary key" if key else "")
        found.setdefault(oid, []).append(" ".join(filter(None, parts)))
    return {oid: fitting(lines, most) for oid, lines in found.items()}


def secrets_of(url: str) -> list[str]:
    """The address and the password in it."""
    with suppress(psycopg.Error):
        return [url, str(conninfo_to_dict(url).get("password") or url)]
    return [url]
