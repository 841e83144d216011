"""The tables of a Postgres log, and how they are made and brought up to date.

A row of `appends` holds the events of one append, a line each, found by (session, seq of the first). Nothing is ever
updated in it, so it does not bloat. For queries by hand, `SELECT * FROM lllm.events` shows an event per row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from lllm.errors import ConfigError, LogError
from lllm.hints import update_hint
from lllm.log.postgres.address import Address

LOCK: Final = 0x6C6C6C6D  # 'lllm': the advisory locks of this package are (LOCK, ...)
MIGRATING: Final = 1
BLOBS: Final = 2

_THERE: Final = (
    "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = 'meta'"
)
_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,40}")

_FIRST: Final = (
    "CREATE TABLE @sessions (key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE \"C\" NOT NULL UNIQUE,"
    " started bigint NOT NULL, meta bytea NOT NULL)",
    "CREATE INDEX sessions_started ON @sessions (started DESC, key DESC)",
    # seq and last: the first and last event of the append; at: when the last one happened; status: where it is the end
    "CREATE TABLE @appends (session bigint NOT NULL, seq bigint NOT NULL, last bigint NOT NULL, at bigint NOT NULL,"
    " body bytea NOT NULL, status text, PRIMARY KEY (session, seq))",
    "CREATE TABLE @blobs (digest text COLLATE \"C\" PRIMARY KEY, data bytea NOT NULL)",
    # who writes a session, until when; a token is never given twice, so an old one opens nothing
    "CREATE SEQUENCE @tokens",
    "CREATE TABLE @leases (session text COLLATE \"C\" PRIMARY KEY, token bigint NOT NULL, until timestamptz NOT NULL)",
    # a NUL within a text, which the server cannot show, is shown as U+FFFD
    "CREATE VIEW @events AS SELECT s.id AS session, (e ->> 'seq')::bigint AS seq, (e ->> 'at')::bigint AS at,"
    " e ->> 'kind' AS kind, e ->> 'call' AS call, e ->> 'dialog' AS dialog, e -> 'data' AS data, e ->> 'hash' AS hash"
    " FROM @appends a JOIN @sessions s ON s.key = a.session"
    " CROSS JOIN LATERAL (SELECT replace(line, '\\u0000', '\\ufffd')::json AS e FROM"
    " unnest(string_to_array(convert_from(a.body, 'UTF8'), E'\\n')) AS line) lines",
)  # fmt: skip

MIGRATIONS: Final[list[Sequence[str]]] = [_FIRST]
"""MIGRATIONS[n] brings the tables from version n to n + 1. Only ever added to."""


def within(schema: str, statement: str) -> str:
    """A statement whose `@table` are tables of the schema."""
    return statement.replace("@", f"{schema}.")


def channel(schema: str, session: str) -> str:
    """The channel on which followers of a session are told of its events: a plain name of bounded length."""
    return "lllm_" + hashlib.sha256(f"{schema}/{session}".encode()).hexdigest()[:40]


def check_name(schema: str) -> str:
    """The schema's name, which is written into statements. ConfigError where it is not a plain name."""
    if not _NAME.fullmatch(schema):
        raise ConfigError(
            f"a schema is named by small letters, digits and _ (pg_ is the server's own), not {schema!r}"
        )
    return schema


def version(connection: psycopg.Connection[Any], address: Address) -> int:
    """The version of the tables, 0 where there are none. LogError when a later lllm made them."""
    # not to_regclass, which may remember that there was no such table while another process has made it
    if not connection.execute(_THERE, (address.schema,)).fetchall():
        return 0
    row = connection.execute(
        within(address.schema, "SELECT value FROM @meta WHERE name = 'version'")
    ).fetchone()
    found = int(row[0]) if row else 0
    if found > len(MIGRATIONS):
        raise LogError(
            f"the log in {address.where} is written in schema {found}; this lllm knows schemas up to {len(MIGRATIONS)}",
            hint=update_hint(),
        )
    return found


def migrate(connection: psycopg.Connection[Any], address: Address) -> None:
    """Makes the tables, or brings them to the present version: all of it or nothing, one process at a time."""
    if version(connection, address) == len(MIGRATIONS):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, MIGRATING))
        at = version(connection, address)  # again: another process may have been quicker
        if at == 0:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {address.schema}")
            connection.execute(
                within(address.schema, "CREATE TABLE @meta (name text PRIMARY KEY, value text NOT NULL)")
            )
        for statements in MIGRATIONS[at:]:
            for statement in statements:
                connection.execute(within(address.schema, statement))
        connection.execute(
            within(
                address.schema,
                "INSERT INTO @meta VALUES ('version', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            ),
            (str(len(MIGRATIONS)),),
        )
