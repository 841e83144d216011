"""The thread that writes: what was appended while it wrote is its next transaction.

So the loop of an agent never waits for the network, and a hundred sessions that append at once cost one commit. An
append of the same session as another one in the queue shares its row.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

import psycopg

from lllm.errors import LLMError
from lllm.log import base
from lllm.log.base import out_of_turn
from lllm.log.claims import taken
from lllm.log.postgres import schema
from lllm.log.postgres.address import Address, lost, passing
from lllm.log.postgres.leases import Leases
from lllm.ports import Record

_BATCH: Final = 1000  # appends of one transaction
_KNOWN: Final = 10_000  # sessions whose last event is remembered
_PAUSE: Final = 0.05  # seconds before the first new try; each later one waits twice as long, up to a second

_APPEND: Final = (
    "WITH given AS (SELECT * FROM unnest(%(id)s::text[], %(seq)b::bigint[], %(last)b::bigint[], %(at)b::bigint[],"
    " %(body)b::bytea[], %(status)s::text[], %(token)b::bigint[], %(meta)b::bytea[],"
    " %(started)b::bigint[], %(channel)s::text[])"
    " AS given (id, seq, last, at, body, status, token, meta, started, channel)),"
    # the lock keeps the lease from changing hands before this transaction has ended
    " lease AS (SELECT session, token, until FROM @leases WHERE session = ANY(%(id)s::text[]) FOR SHARE),"
    " allowed AS (SELECT given.* FROM given LEFT JOIN lease ON lease.session = given.id"
    " WHERE lease.token IS NOT DISTINCT FROM given.token OR (given.token IS NULL AND lease.until < now())),"
    " made AS (INSERT INTO @sessions (id, started, meta) SELECT id, started, meta FROM allowed WHERE seq = 0"
    " ON CONFLICT (id) DO NOTHING RETURNING key, id),"
    " known AS (SELECT key, id FROM made"
    " UNION ALL SELECT key, id FROM @sessions WHERE id = ANY(%(id)s::text[])),"
    " stored AS (INSERT INTO @appends SELECT known.key, seq, last, at, body, status FROM allowed JOIN known USING (id)"
    " ON CONFLICT DO NOTHING RETURNING session, last)"
    " SELECT id, pg_notify(channel, stored.last::text) FROM stored JOIN known ON known.key = stored.session"
    " JOIN given USING (id)"
)
"""Stores a row per session, and gives the ids of those that were stored. What is refused is left out: it has not the
lease, or its number is taken."""

_BLOBS: Final = (
    "INSERT INTO @blobs SELECT * FROM unnest(%s::text[], %b::bytea[]) ON CONFLICT (digest) DO NOTHING"
)
_LAST: Final = (
    "SELECT id, (SELECT last FROM @appends WHERE session = key ORDER BY seq DESC LIMIT 1) FROM @sessions"
    " WHERE id = ANY(%s)"
)
_STORED: Final = (
    "SELECT seq, body FROM @appends JOIN @sessions ON key = session WHERE id = %s AND seq >= %s ORDER BY seq"
)
_OTHERS: Final = "SELECT session FROM @leases WHERE session = ANY(%s) AND until >= now()"


class Append:
    """One call of `append` on its way to the server."""

    __slots__ = ("blobs", "error", "future", "lines", "records")

    def __init__(
        self,
        records: Sequence[Record],
        lines: bytes,
        blobs: Mapping[str, bytes],
        future: asyncio.Future[None],
    ) -> None:
        self.records = records
        self.lines = lines
        self.blobs = blobs
        self.future = future
        self.error: Exception | None = None


class _Row:
    """What a transaction stores of one session: appends that follow each other, as one."""

    __slots__ = ("appends", "id", "token")

    def __init__(self, append: Append, token: int | None) -> None:
        self.id = append.records[0].session
        self.token = token
        self.appends = [append]

    @property
    def first(self) -> Record:
        return self.appends[0].records[0]

    @property
    def last(self) -> Record:
        return self.appends[-1].records[-1]

    @property
    def body(self) -> bytes:
        return b"\n".join([append.lines for append in self.appends])

    @property
    def status(self) -> str | None:
        last = self.last
        return base.status_of(last.kind, last.body) if last.kind == base.ENDED else None

    @property
    def meta(self) -> bytes | None:
        first = self.first
        return base.encoded_meta(first.kind, first.body) if first.seq == 0 else None


class Writer:
    """One daemon thread, made by the first append or claim; it also keeps the leases alive."""

    def __init__(self, address: Address, leases: Leases, retry_for: float, synchronous: str) -> None:
        self._address = address
        self._leases = leases
        self._retry_for = retry_for
        self._synchronous = synchronous
        self._queue: SimpleQueue[Append | None] = SimpleQueue()
        self._last: dict[str, int] = {}
        self._connection: psycopg.Connection[Any] | None = None
        self._renewed = time.monotonic()
        self._sql = {
            name: schema.within(address.schema, text)
            for name, text in {
                "append": _APPEND,
                "blobs": _BLOBS,
                "last": _LAST,
                "stored": _STORED,
                "others": _OTHERS,
            }.items()
        }
        self._thread = threading.Thread(target=self._run, name="lllm-log", daemon=True)
        self._thread.start()

    def put(self, append: Append) -> None:
        self._queue.put(append)

    def close(self) -> None:
        """Returns when everything that was put is written, or was refused."""
        self._queue.put(None)
        self._thread.join()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        every = self._leases.seconds / 3
        going = True
        while going:
            batch: list[Append | None] = []
            with suppress(Empty):
                batch.append(self._queue.get(timeout=every))
                while len(batch) < _BATCH:
                    batch.append(self._queue.get_nowait())
            going = None not in batch
            if appends := [append for append in batch if append is not None]:
                self._write(appends)
            if time.monotonic() - self._renewed >= every:
                self._renew()
        self._disconnect()

    def _write(self, appends: list[Append]) -> None:
        try:
            self._persist(appends)
        except BaseException as error:  # whatever it is, nobody is left waiting
            for append in appends:
                append.error = append.error or self._explain(error)
        _wake(appends)

    def _persist(self, appends: list[Append]) -> None:
        """Writes appends, over lost connections too. Sets `error` on those that were refused."""
        deadline, pause, tried = time.monotonic() + self._retry_for, _PAUSE, False
        while True:
            try:
                self._transaction([append for append in appends if append.error is None], again=tried)
                return
            except Exception as error:
                if lost(error) or self._connection is None or self._connection.closed:
                    self._disconnect()
                if passing(error) and time.monotonic() < deadline:
                    tried = True
                    time.sleep(pause)
                    pause = min(2 * pause, 1.0)
                    continue
                if len(appends) == 1 or lost(error):
                    raise
                break
        # Something in the group was refused. Each on its own, so that only the guilty one fails.
        for append in appends:
            try:
                if append.error is None:
                    self._transaction([append], again=tried)
            except Exception as error:
                append.error = self._explain(error)

    def _transaction(self, appends: list[Append], *, again: bool) -> None:
        connection = self._open()
        if again:
            appends = self._unstored(connection, appends)
        rows = self._rows(connection, [append for append in appends if append.records])
        blobs = {
            digest: data
            for append in appends
            if append.error is None
            for digest, data in append.blobs.items()
        }
        if blobs:
            with connection.transaction():
                # who deletes blobs waits for us, and we for them: what is stored now is not taken for unused
                connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (schema.LOCK, schema.BLOBS))
                connection.execute(self._sql["blobs"], (list(blobs), list(blobs.values())))
                stored = self._store(connection, rows)
        else:
            stored = self._store(connection, rows)
        for row in rows:
            if row.id in stored:
                self._last[row.id] = row.last.seq
            else:
                self._last.pop(row.id, None)
        if refused := [row for row in rows if row.id not in stored]:
            self._refuse(connection, refused)
        while len(self._last) > _KNOWN:
            del self._last[next(iter(self._last))]

    def _rows(self, connection: psycopg.Connection[Any], appends: list[Append]) -> list[_Row]:
        """The appends as rows. Sets `error` on those that do not follow, or whose lease is lost."""
        begun: set[str] = set()
        unsure = set()
        for append in appends:
            first = append.records[0]
            if first.session not in begun and first.seq and self._last.get(first.session) != first.seq - 1:
                unsure.add(first.session)
            begun.add(first.session)
        if unsure:
            self._last.update(connection.execute(self._sql["last"], (list(unsure),)).fetchall())
        rows: dict[str, _Row] = {}
        for append in appends:
            first = append.records[0]
            row = rows.get(first.session)
            # of a first event the server says whether it is one
            last = row.last.seq if row else self._last.get(first.session, -1) if first.seq else -1
            if first.seq != last + 1:
                append.error = out_of_turn(first.session, first.seq, last)
            elif row:
                row.appends.append(append)
            else:
                try:
                    rows[first.session] = _Row(append, self._leases.token(first.session))
                except LLMError as error:
                    append.error = error
        return list(rows.values())

    def _store(self, connection: psycopg.Connection[Any], rows: list[_Row]) -> set[str]:
        if not rows:
            return set()
        values = {
            "id": [row.id for row in rows],
            "seq": [row.first.seq for row in rows],
            "last": [row.last.seq for row in rows],
            "at": [row.last.at for row in rows],
            "body": [row.body for row in rows],
            "status": [row.status for row in rows],
            "token": [row.token for row in rows],
            "meta": [row.meta for row in rows],
            "started": [row.first.at for row in rows],
            "channel": [schema.channel(self._address.schema, row.id) for row in rows],
        }
        return {row[0] for row in connection.execute(self._sql["append"], values).fetchall()}

    def _unstored(self, connection: psycopg.Connection[Any], appends: list[Append]) -> list[Append]:
        """The appends without those that the server had stored before the connection was lost."""
        firsts: dict[str, int] = {}
        for append in appends:
            if append.records:
                firsts.setdefault(append.records[0].session, append.records[0].seq)
        lines: dict[tuple[str, int], bytes] = {}
        for id, first in firsts.items():
            for seq, body in connection.execute(self._sql["stored"], (id, first)).fetchall():
                lines.update({(id, seq + number): line for number, line in enumerate(body.split(b"\n"))})
        return [
            append
            for append in appends
            if not append.records
            or any(lines.get((record.session, record.seq)) != record.body for record in append.records)
        ]

    def _refuse(self, connection: psycopg.Connection[Any], rows: list[_Row]) -> None:
        """Says why rows were not stored."""
        ids = [row.id for row in rows]
        last = dict(connection.execute(self._sql["last"], (ids,)).fetchall())
        others = {row[0] for row in connection.execute(self._sql["others"], (ids,)).fetchall()}
        for row in rows:
            for append in row.appends:
                first = append.records[0]
                stored = last.get(row.id, -1)
                if stored >= row.first.seq:
                    append.error = out_of_turn(row.id, first.seq, stored)
                elif row.token is not None:
                    append.error = self._leases.lose(row.id)
                elif row.id in others:
                    append.error = taken(row.id)
                else:
                    append.error = out_of_turn(row.id, first.seq, stored)

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        if not self._leases.any:
            return
        try:
            connection = self._open()
            self._leases.renew(
                lambda sql, values: connection.execute(
                    schema.within(self._address.schema, sql), values
                ).fetchall()
            )
        except (psycopg.Error, OSError, LLMError):
            self._disconnect()  # the next append, or the next turn, tries again

    # --- the connection ----------------------------------------------------------------------------------------------

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._address.connect()
            try:
                schema.migrate(connection, self._address)
                if self._synchronous == "full":
                    connection.execute("SET synchronous_commit = on")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        self._last.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def _explain(self, error: BaseException) -> Exception:
        if isinstance(error, LLMError):
            return error
        made = self._address.explain(error)
        made.__cause__ = error
        return made


def _wake(appends: Sequence[Append]) -> None:
    """Lets go on who waited for these appends, in their loops."""
    loops: dict[asyncio.AbstractEventLoop, list[Append]] = {}
    for append in appends:
        loops.setdefault(append.future.get_loop(), []).append(append)
    for loop, theirs in loops.items():
        with suppress(RuntimeError):  # their loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(appends: Sequence[Append]) -> None:
    for append in appends:
        if append.future.done():
            continue
        if append.error is None:
            append.future.set_result(None)
        else:
            append.future.set_exception(append.error)
