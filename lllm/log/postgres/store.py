"""The store: what is written goes to the writer's thread, what is read is read here."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar, Final, Literal

import psycopg

from lllm.core import canonical
from lllm.errors import ConfigError, LogError, LogWriteError
from lllm.log.base import Deleted, ReplayableLogBase, check_records, closed, lines_of, no_blob, no_session
from lllm.log.blobs import check_blobs, check_content, named_in, unnamed
from lllm.log.postgres import schema as tables
from lllm.log.postgres.address import Address, lost
from lllm.log.postgres.leases import Leases
from lllm.log.postgres.writer import Append, Writer
from lllm.ports import Record, SessionInfo

LEASE: Final = 30.0
"""Seconds after which a session whose writer is not heard of may have another one."""
RETRY_FOR: Final = 10.0
"""Seconds that an append waits for a server that is away."""
_LISTEN: Final = 5.0  # seconds after which a follower looks without having been told
_BODIES: Final = "SELECT seq, last, body FROM @appends WHERE session = %s AND seq >= %s ORDER BY seq LIMIT %s"
_START: Final = "SELECT max(seq) FROM @appends WHERE session = %s AND seq <= %s"
_SESSIONS: Final = (
    "SELECT s.id, coalesce(a.status, 'running'), s.started, a.at, a.last + 1, s.meta FROM @sessions s"
    " CROSS JOIN LATERAL (SELECT * FROM @appends WHERE session = s.key ORDER BY seq DESC LIMIT 1) a"
    " WHERE starts_with(s.id, %s) ORDER BY s.started DESC, s.key DESC LIMIT %s"
)
_MARKS: Final = "SELECT session, max(last) FROM @appends GROUP BY session"
_OTHERS: Final = "SELECT body FROM @appends WHERE NOT session = ANY(%s)"
_SINCE: Final = (
    "SELECT body FROM @appends a LEFT JOIN unnest(%s::bigint[], %s::bigint[]) AS mark (key, last)"
    " ON mark.key = a.session WHERE mark.key IS NULL OR a.seq > mark.last"
)
_ROOM: Final = "SELECT coalesce(sum(length(body) - (last - seq)), 0) FROM @appends WHERE session = ANY(%s)"


class PostgresLog(ReplayableLogBase):
    """All sessions in a schema of a Postgres database; its tables are made by the first append or claim.

    Arguments:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, or anything else that libpq takes. What is left out comes
            from libpq's own variables (PGHOST, PGUSER, PGPASSWORD, ~/.pgpass, ...).
        schema: small letters, digits and _.
        synchronous: "normal" commits as the server is set up; "full" sees to it that a commit is on its disk.
        lease: seconds after which a session whose writer is not heard of may have another one.
        retry_for: seconds that an append waits for a server that is away. After that it is refused, and the session
            that wanted it does not go on.

    Raises:
        ConfigError: the url, the schema's name or `synchronous` cannot be read.
    """

    addressed: ClassVar[bool] = True
    place: ClassVar[str | None] = None

    def __init__(
        self,
        url: str,
        *,
        schema: str = "lllm",
        synchronous: Literal["normal", "full"] = "normal",
        lease: float = LEASE,
        retry_for: float = RETRY_FOR,
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigError(f"synchronous is 'normal' or 'full', not {synchronous!r}")
        self._address = Address(url, tables.check_name(schema))
        self._synchronous = synchronous
        self._lease = lease
        self._retry_for = retry_for
        self._closed = False
        self._begin()
        _STORES.add(self)

    @property
    def where(self) -> str:
        """The server and the database, for people; never the password."""
        return self._address.where

    def _begin(self) -> None:
        """The state of a store that has connected to nothing: a new one, or one in a forked child."""
        self._lock = threading.Lock()  # guards the reading connection
        self._writer_lock = threading.Lock()  # guards the start and end of the writer
        self._reader: psycopg.Connection[Any] | None = None
        self._writer: Writer | None = None
        self._made = False  # the tables are there
        self._leases = Leases(self._change, self._lease)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        check_records(records)
        check_blobs(blobs)
        if records:
            _check_name(records[0].session)
        elif not blobs:
            return
        lines = lines_of(records, b"\n") if records else b""
        waiter = asyncio.get_running_loop().create_future()
        # The waiter may be cancelled; the events are written all the same.
        self._write(Append(records, lines, blobs or {}, waiter))
        await waiter

    def _write(self, append: Append | None) -> None:
        """Hands an append to the writer, which is made where there is none; None only makes it."""
        with self._writer_lock:
            if self._closed:
                raise closed(self._address.where)
            if self._writer is None:
                self._writer = Writer(self._address, self._leases, self._retry_for, self._synchronous)
            if append is not None:
                self._writer.put(append)

    # --- who writes --------------------------------------------------------------------------------------------------

    def claim(self, session: str) -> None:
        """Makes this store the session's one writer, until `release`, or until nothing is heard of it for `lease`
        seconds. LogWriteError when somebody else is, on whatever machine."""
        _check_name(session)
        if self._closed:
            raise closed(self._address.where)
        self._leases.claim(session)
        self._write(None)  # it keeps the lease alive

    def release(self, session: str) -> None:
        with suppress(LogError):  # it runs out by itself
            self._leases.release(session)

    def held(self, session: str) -> bool:
        return self._ready() and self._leases.held(session)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, session: str, after: int = -1) -> Iterator[bytes]:
        rows = self._query("SELECT key FROM @sessions WHERE id = %s", (_plain(session),))
        if not rows:
            known = self._query("SELECT id FROM @sessions ORDER BY started DESC LIMIT 1000")
            raise no_session(session, [row[0] for row in known])
        return self._bodies(rows[0][0], after)

    def _bodies(self, key: int, after: int) -> Iterator[bytes]:
        # in portions, so that the connection is free while the reader does something else
        found = self._query(_START, (key, max(after + 1, 0)))  # the first one wanted may begin before `after`
        start = found[0][0] if found and found[0][0] is not None else 0
        portion = 16
        while rows := self._query(_BODIES, (key, start, portion)):
            for seq, last, lines in rows:
                if last > after:
                    yield from lines.split(b"\n")[max(after + 1 - seq, 0) :]
            if len(rows) < portion:
                return
            start = rows[-1][1] + 1
            if portion < 1024 and sum(len(lines) for _, _, lines in rows) < 1 << 20:
                portion *= 2

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> list[SessionInfo]:
        count = None if limit is None else max(limit, 0)
        return [
            SessionInfo(row[0], row[1], row[2], row[3], row[4], canonical.decode(row[5]))
            for row in self._query(_SESSIONS, (_plain(prefix), count))
        ]

    def blob(self, digest: str) -> bytes:
        rows = self._query("SELECT data FROM @blobs WHERE digest = %s", (_plain(digest),))
        if not rows:
            raise no_blob(digest, self._address.where)
        return check_content(digest, rows[0][0], self._address.where)

    def _bell(self, session: str) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        return self._listening(session)

    @asynccontextmanager
    async def _listening(self, session: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        channel = tables.channel(self._address.schema, session)
        connection = await self._listen(channel)

        async def ring() -> None:
            nonlocal connection
            try:
                async for _ in connection.notifies(timeout=_LISTEN, stop_after=1):
                    return
            except psycopg.Error:
                await connection.close()
                connection = await self._listen(channel)

        try:
            yield ring
        finally:
            await connection.close()

    async def _listen(self, channel: str) -> psycopg.AsyncConnection[Any]:
        deadline = asyncio.get_running_loop().time() + self._retry_for
        while True:
            try:
                connection = await self._address.connect_async()
                try:
                    await connection.execute(f"LISTEN {channel}")  # type: ignore[call-overload,unused-ignore]
                except BaseException:  # also where the follower leaves right here: nobody else closes it
                    await connection.close()
                    raise
                return connection
            except psycopg.Error as error:
                if not lost(error) or asyncio.get_running_loop().time() > deadline:
                    raise self._address.explain(error, doing="read") from error
            await asyncio.sleep(min(1.0, self._retry_for / 10))

    # --- removing ----------------------------------------------------------------------------------------------------

    def _delete(self, names: Sequence[str]) -> Deleted:
        named = {digest for name in names for body in self.read(name) for digest in named_in(body)}
        try:
            # a separate connection, so that readers and claims here do not wait for it
            with self._address.connect() as connection:
                return self._remove(connection, list(names), named)
        except psycopg.Error as error:
            raise self._address.explain(error) from error

    def _remove(self, connection: psycopg.Connection[Any], names: list[str], named: set[str]) -> Deleted:
        def do(sql: str, *values: Any) -> list[Any]:
            return list(connection.execute(self._sql(sql), values).fetchall())

        keys = [row[0] for row in do("SELECT key FROM @sessions WHERE id = ANY(%s)", names)]
        # Reading a large log takes long, so it is read before writers are blocked, and then only newer events.
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            marks = do(_MARKS)
            unused = self._unnamed(connection, named, _OTHERS, keys)
        with connection.transaction():
            size = int(do(_ROOM, keys)[0][0])
            do("DELETE FROM @appends WHERE session = ANY(%s) RETURNING 1", keys)
            do("DELETE FROM @sessions WHERE key = ANY(%s) RETURNING 1", keys)
            sizes = []
            if unused:
                # appends with blobs wait until this is done, so their blobs do not count as unused
                do("SELECT pg_advisory_xact_lock(%s, %s)", tables.LOCK, tables.BLOBS)
                known = [row[0] for row in marks], [row[1] for row in marks]
                unused = self._unnamed(connection, unused, _SINCE, *known)
                sizes = do("DELETE FROM @blobs WHERE digest = ANY(%s) RETURNING length(data)", unused)
        return Deleted(len(keys), len(sizes), size + sum(row[0] for row in sizes))

    def _unnamed(
        self, connection: psycopg.Connection[Any], digests: Collection[str], sql: str, *values: Any
    ) -> list[str]:
        """The given digests that no event of a query names."""
        with connection.cursor(f"lllm_{secrets.token_hex(4)}") as rows:
            rows.execute(self._sql(sql), values)
            return list(unnamed(digests, (row[0] for row in rows)))

    # --- the connection ----------------------------------------------------------------------------------------------

    def _sql(self, statement: str) -> str:
        return tables.within(self._address.schema, statement)

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a statement that reads; none where the tables were never made."""
        return self._rows(statement, values) if self._ready() else []

    def _change(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a statement that writes. Makes the tables first, where there are none."""
        return self._rows(statement, values, doing="written")

    def _ready(self) -> bool:
        """Whether there are tables. LogError when a later lllm made them."""
        if not self._made:
            self._rows("", ())
        if self._closed:
            raise closed(self._address.where, LogError)
        return self._made

    def _rows(self, statement: str, values: Sequence[Any], *, doing: str = "read") -> list[Any]:
        with self._lock:
            for last_try in (False, True):
                if self._closed and doing == "read":
                    raise closed(self._address.where, LogError)
                try:
                    connection = self._connected()
                    if not self._made:
                        if doing == "written":
                            tables.migrate(connection, self._address)
                        self._made = tables.version(connection, self._address) > 0
                    if not statement:
                        return []
                    return list(connection.execute(self._sql(statement), values).fetchall())
                except (psycopg.Error, OSError) as error:
                    fresh = self._disconnect()
                    # a connection that was idle may have been cut; anything else is said at once
                    if last_try or fresh or not lost(error):
                        raise self._address.explain(error, doing=doing) from error
        raise AssertionError

    def _connected(self) -> psycopg.Connection[Any]:
        if self._reader is None or self._reader.closed:
            self._reader = None
            self._reader = self._address.connect()
        return self._reader

    def _disconnect(self) -> bool:
        """Drops the reading connection. Whether there was none."""
        connection, self._reader = self._reader, None
        if connection is None:
            return True
        with suppress(psycopg.Error, OSError):
            connection.close()
        return False

    # --- the end, and forks ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Writes what is queued, gives the leases back, and disconnects."""
        self.keep_summaries()
        with self._writer_lock:
            if self._closed:
                return
            self._closed = True
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for session in self._leases.mine():
            self.release(session)
        with self._lock:
            self._disconnect()

    def _after_fork(self) -> None:
        """In a child: connections, thread and leases are the parent's. They are kept, so that nobody hangs up."""
        _PARENTS.append((self._reader, self._writer, self._leases))
        self._begin()

    def __repr__(self) -> str:
        return f"PostgresLog({self._address.where!r}, schema={self._address.schema!r})"


_STORES: Final[weakref.WeakSet[PostgresLog]] = weakref.WeakSet()
_PARENTS: Final[list[Any]] = []


def _after_fork() -> None:
    for store in list(_STORES):
        store._after_fork()


def _close_all() -> None:
    for store in list(_STORES):
        store.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close_all)


def _plain(text: str) -> str:
    """Text that the server takes. No session and no blob is named by anything else."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _check_name(session: str) -> None:
    if _plain(session) != session or not session:
        raise LogWriteError(f"a session cannot be named {session!r}: it must be text without NUL")
