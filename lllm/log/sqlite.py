"""Session logs in one SQLite file: the default store.

An append is written by the event loop that asked for it, without another thread: that costs less than handing it over.
Alone, it is one statement; when several tasks of a loop append in the same turn, all of it is one transaction. A helper
thread does what may take long (opening, checkpoints, `synchronous="full"`, a locked file, large blobs), and what is
appended meanwhile queues up behind it without blocking its loop.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final, Literal, TypeVar

from lllm.errors import ConfigError, LogError, LogWriteError
from lllm.log import base
from lllm.log.base import (
    Deleted,
    ReplayableLogBase,
    check_records,
    closed,
    lines_of,
    no_blob,
    no_session,
    out_of_turn,
)
from lllm.log.blobs import check_blobs, check_content
from lllm.log.claims import COMPACTING, REMOVING, WAITING, Claims
from lllm.log.removing import Sweep, compact, hide
from lllm.log.schema import (
    REMOVED,
    Alone,
    connect,
    explain,
    is_busy,
    listing,
    locked,
    open_reader,
    open_writer,
)
from lllm.ports import Record, SessionInfo

CHECKPOINT_BYTES: Final = 16 << 20
"""About how far the write-ahead log grows before it is moved into the database."""

_INSERT: Final = "INSERT INTO appends VALUES (?, ?, ?, ?, ?)"
_COMMIT_BYTES: Final = 4 * 4120  # a transaction rewrites about four pages besides what it adds
_ROW_BYTES: Final = 2 * 4120  # and one of a single row two of them
_HEAVY: Final = 1 << 18  # bytes of blobs that take so long that the helper writes them
_STRAIGHT: Final = 50  # appends of a lone session between two certain turns of its loop
_PAUSE: Final = 0.005  # seconds between two tries while another process writes
_KNOWN: Final = 10_000  # sessions whose last event is remembered


_T = TypeVar("_T")
_Row = tuple[int, int, int, int, bytes]  # session key, first and last event, when, their lines


class _Append:
    """One call of `append` on its way to the disk."""

    __slots__ = ("blobs", "error", "future", "heavy", "records")

    def __init__(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None) -> None:
        self.records = records
        self.blobs = blobs
        self.heavy = sum(map(len, blobs.values())) > _HEAVY if blobs else False
        self.future: asyncio.Future[None] | None = None
        self.error: Exception | None = None


class _Lane:
    """What one event loop has to write. Only that loop's thread touches it.

    `idle`: nothing is queued or on its way. `alone`: the session that appended last without company; a session waits
    for each of its appends, so what it appends next is written at once, without another turn of the loop. So is what the
    only open session of the store appends. `straight`:
    how often that was done since the loop had a turn for certain; without a limit, a task that only appends would
    starve all others, and time limits and interrupts with them.
    """

    __slots__ = ("alone", "idle", "loop", "queue", "straight")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.queue: list[_Append] = []
        self.idle = True
        self.alone: str | None = None
        self.straight = 0


class _Session:
    """The row of a session, the last event that is stored of it, and whether its row says that it has ended."""

    __slots__ = ("ended", "key", "last")

    def __init__(self, key: int, last: int, ended: bool) -> None:
        self.key = key
        self.last = last
        self.ended = ended


class SQLiteLog(ReplayableLogBase):
    """All sessions in the file `path`, which is made on the first append.

    Arguments:
        path: the database. Its write-ahead log lies beside it while it is open.
        synchronous: "normal" keeps every acknowledged event when the process is killed; "full" also when the machine
            loses power, at the cost of waiting for the disk (several appends wait together).
        busy_timeout: seconds that an append waits for another process that is writing the file.
    """

    place: ClassVar[str | None] = "sessions.db"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["normal", "full"] = "normal",
        busy_timeout: float = 5.0,
    ) -> None:
        if os.fspath(path) == ":memory:":
            raise ConfigError(
                "SQLiteLog keeps sessions in a file", hint="Use MemoryLog() for a log in memory."
            )
        if synchronous not in ("normal", "full"):
            raise ConfigError(f"synchronous is 'normal' or 'full', not {synchronous!r}")
        self.path = Path(path).expanduser().absolute()
        self.busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._closed = False  # appends are refused
        self._gone = False  # and the file is not opened again
        self._claimed = Claims(self.path.with_name(f"{self.path.name}-writers"))
        self._begin()
        _STORES.add(self)

    def _begin(self) -> None:
        """The state of a store that has opened nothing: a new one, or one in a forked child."""
        self._lock = threading.Lock()  # guards the writing connection and what is known of its content
        self._read_lock = threading.Lock()  # guards the reading connection
        self._helper_lock = (
            threading.Lock()
        )  # guards the start and end of the helper; never taken inside the others
        self._claimed.begin()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._helper: _Helper | None = None
        self._offload = True  # appends go to the helper: not open yet, in a checkpoint, or synchronous="full"
        self._known: dict[str, _Session] = {}
        self._unmerged = 0  # bytes written since the last checkpoint was asked for, about
        self._merging = False  # and it is not done yet
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        check_records(records)
        if blobs:
            check_blobs(blobs)
        elif not records:
            return
        if self._closed:
            raise closed(str(self.path))
        append = _Append(records, blobs)
        lane = self._lane()
        if lane.idle:
            session = records[0].session if records else ""
            at_once = (
                (lane.alone == session or self._claimed.only(session))
                and lane.straight < _STRAIGHT
                and not self._offload
                and not append.heavy
            )
            lane.straight += 1
            if at_once and not self._commit([append]):
                if append.error is not None:
                    raise append.error
                return
            lane.idle = False
            lane.loop.call_soon(self._turn, lane)
        # The waiter may be cancelled; the events are written all the same.
        append.future = lane.loop.create_future()
        lane.queue.append(append)
        await append.future

    def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            for old in list(self._lanes):
                if old.is_closed():
                    self._write_left_over(self._lanes.pop(old))
            lane = self._lanes[loop] = _Lane(loop)
        return lane

    def _turn(self, lane: _Lane) -> None:
        """Runs in the loop after all tasks of the turn that appended first: writes what they left."""
        appends, lane.queue = lane.queue, []
        lane.straight = 0
        first = appends[0].records if len(appends) == 1 else None
        lane.alone = first[0].session if first else None
        if not appends:
            lane.idle = True
            return
        try:
            for_helper = self._offload or any(append.heavy for append in appends)
            left = appends if for_helper and not self._closed else self._commit(appends)
            if left:
                self._submit(lambda: self._commit_in_helper(lane, appends, left))
                return
        except BaseException as error:  # an interrupt, or no more threads: nobody is left waiting
            for append in appends:
                append.error = append.error or explain(error, self.path)
            self._landed(lane, appends)
            raise
        self._landed(lane, appends)

    def _landed(self, lane: _Lane, appends: list[_Append]) -> None:
        """Wakes who waited for these appends, in their loop."""
        for append in appends:
            future = append.future
            if future is None or future.done():
                continue
            if append.error is None:
                future.set_result(None)
            else:
                future.set_exception(append.error)
        if lane.queue:
            lane.loop.call_soon(self._turn, lane)
        else:
            lane.idle = True

    def _commit(self, appends: list[_Append], *, in_helper: bool = False) -> list[_Append]:
        """Writes appends, in one transaction where that is possible. Sets `error` on those that were refused, and
        gives those that were not tried because another process, or the helper, is at work."""
        with self._lock:
            if self._closed and not in_helper:
                for append in appends:
                    append.error = closed(str(self.path))
                return []
            if self._writer is None or (self._offload and not in_helper):
                return appends
            left = self._write(appends)
            due = self._unmerged > CHECKPOINT_BYTES
            if due:
                self._unmerged = 0
                if self._merging:
                    self._offload, due = (
                        True,
                        False,
                    )  # the disk does not keep up: appends wait for the checkpoint
                self._merging = True
        if in_helper and due:
            self._checkpoint()
        elif due:
            try:
                self._submit(self._checkpoint)
            except RuntimeError:  # no more threads: the data is written; the checkpoint can wait
                self._merging = False
        return left

    def _write(self, appends: list[_Append]) -> list[_Append]:
        try:
            self._transaction(appends)
            return []
        except Exception as error:  # whatever it is, the waiter gets it
            if is_busy(error):
                return appends
            if len(appends) == 1:
                appends[0].error = explain(error, self.path, appends[0].records)
                return []
        # Something in the group was refused. Each on its own, so that only the guilty one fails.
        for number, append in enumerate(appends):
            if self._write([append]):
                return appends[number:]
        return []

    def _transaction(self, appends: list[_Append]) -> None:
        writer = self._writer
        assert writer is not None
        size = _COMMIT_BYTES
        try:
            if len(appends) == 1 and (row := self._row(appends[0])) is not None:
                writer.execute(_INSERT, row)
                size = _ROW_BYTES + len(row[-1])
            else:
                rows: list[_Row] = []
                blobs: dict[str, bytes] = {}  # many sessions name the same ones
                writer.execute("BEGIN IMMEDIATE")
                for append in appends:
                    if append.blobs:
                        blobs.update(append.blobs)
                if blobs:
                    writer.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", blobs.items())
                    size += sum(map(len, blobs.values()))
                for append in appends:
                    size += self._add(writer, append, rows)
                writer.executemany(_INSERT, rows)
                writer.execute("COMMIT")
        except BaseException:
            for append in appends:
                if append.records:
                    self._known.pop(append.records[0].session, None)
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        for append in appends:  # nearly always, nothing comes after the end
            if append.records and append.records[-1].kind == base.ENDED:
                name = append.records[-1].session
                if (known := self._known.get(name)) is not None and known.ended:
                    del self._known[name]
        self._unmerged += size + (size >> 2)  # pages are not filled to the brim

    def _row(self, append: _Append) -> _Row | None:
        """The one row that is the whole append. None where more than an INSERT is to be done."""
        records = append.records
        known = None if append.blobs else self._known.get(records[0].session)
        if known is None or known.ended or records[0].seq != known.last + 1 or records[-1].kind == base.ENDED:
            return None
        known.last = records[-1].seq
        return (known.key, records[0].seq, known.last, records[-1].at, lines_of(records, b"\n"))

    def _add(self, writer: sqlite3.Connection, append: _Append, rows: list[_Row]) -> int:
        """Does an append within a transaction, but for its blobs and its row, which is added to `rows`. Gives its size."""
        size = 0
        if append.records:
            first, last = append.records[0], append.records[-1]
            known = self._session(writer, first)
            rows.append((known.key, first.seq, last.seq, last.at, lines_of(append.records, b"\n")))
            size += len(rows[-1][-1])
            if last.kind == base.ENDED:
                ended = (last.seq, base.status_of(last.kind, last.body), last.at, known.key)
                writer.execute("UPDATE sessions SET ended = ?, status = ?, ended_at = ? WHERE key = ?", ended)
            elif known.ended:  # it goes on after its end
                writer.execute("UPDATE sessions SET ended_at = NULL WHERE key = ?", (known.key,))
            known.last, known.ended = last.seq, last.kind == base.ENDED
        return size

    def _session(self, writer: sqlite3.Connection, first: Record) -> _Session:
        """The session that `first` goes on with or begins. LogWriteError when it does neither."""
        known = self._known.get(first.session)
        if known is not None and first.seq == known.last + 1:
            return known
        known = None if first.seq else self._new(writer, first)  # nearly always, event 0 begins a session
        if known is None:
            stored = writer.execute(
                "SELECT key, (SELECT last FROM appends WHERE session = key ORDER BY seq DESC LIMIT 1),"
                " ended_at IS NOT NULL FROM sessions WHERE id = ?",
                (first.session,),
            ).fetchone()
            known = _Session(*stored) if stored else None
            last = known.last if known else -1
            if known is None or first.seq != last + 1:
                raise out_of_turn(first.session, first.seq, last)
        if len(self._known) >= _KNOWN:
            del self._known[next(iter(self._known))]
        self._known[first.session] = known
        return known

    def _new(self, writer: sqlite3.Connection, first: Record) -> _Session | None:
        """The session that this event begins; None if there is one of that name."""
        row = (first.session, first.at, base.encoded_meta(first.kind, first.body))
        made = writer.execute("INSERT OR IGNORE INTO sessions (id, started, meta) VALUES (?, ?, ?)", row)
        if made.rowcount < 1:
            return None
        assert made.lastrowid is not None
        return _Session(made.lastrowid, -1, False)

    # --- the helper --------------------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], None]) -> None:
        with self._helper_lock:
            if self._helper is None and not self._closed:
                self._helper = _Helper()
            if self._helper is not None:
                self._helper.jobs.put(job)
                return
        job()  # closed: it says so to the waiters

    def _commit_in_helper(self, lane: _Lane, appends: list[_Append], left: list[_Append]) -> None:
        """Opens the file where needed and writes what is left of `appends`, waiting for other processes."""
        deadline = time.monotonic() + self.busy_timeout
        waits = False
        while left:
            fault: Exception | None = None
            try:
                self._open()
                left = self._commit(left, in_helper=True)
            except Exception as error:  # the file could not be opened; the waiters get to know why
                fault = None if is_busy(error) else error
            late = time.monotonic() > deadline and not self._claimed.held(COMPACTING)
            if left and (fault is not None or late):
                for append in left:
                    append.error = (
                        explain(fault, self.path) if fault else locked(self.path, self.busy_timeout)
                    )
                break
            if left:
                if not waits:
                    with suppress(LogWriteError):  # one visible lock is enough
                        self._claimed.claim(WAITING)
                        waits = True
                time.sleep(_PAUSE)
        if waits:
            self._claimed.release(WAITING)
        with suppress(RuntimeError):  # their loop is closed: nobody waits
            lane.loop.call_soon_threadsafe(self._landed, lane, appends)

    def _open(self) -> None:
        with self._lock:
            if self._gone:
                raise closed(str(self.path))
            if self._writer is None:
                self._writer = open_writer(self.path, self._synchronous)
                self._offload = self._synchronous == "full"

    def _checkpoint(self) -> None:
        """Moves the write-ahead log into the database. Appends go on meanwhile, except for the short end of it.

        Where it fails nothing is lost and the log stays longer; the next one tries again.
        """
        try:
            with suppress(sqlite3.Error), closing(connect(self.path)) as own:
                own.execute("PRAGMA wal_checkpoint(PASSIVE)")
                # Under steady writing the log would never be moved completely, and grow for ever. So appends are held
                # back for the last bit, and for the first write of the next round, which waits for the disk too.
                with self._lock:
                    self._offload = True
                own.execute("PRAGMA wal_checkpoint(PASSIVE)")
                own.execute("UPDATE meta SET value = value + 1 WHERE name = 'checkpoints'")
        finally:
            with self._lock:
                self._merging = False
                self._offload = self._writer is None or self._synchronous == "full"

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, session: str, after: int = -1) -> Iterator[bytes]:
        removed = session.startswith(REMOVED)
        rows = [] if removed else self._query("SELECT key FROM sessions WHERE id = ?", (session,))
        if not rows:
            known = self._query("SELECT id FROM sessions ORDER BY started DESC LIMIT 1000")
            raise no_session(session, (row[0] for row in known if not row[0].startswith(REMOVED)))
        return self._bodies(rows[0][0], after)

    def _bodies(self, key: int, after: int) -> Iterator[bytes]:
        # In portions, so that neither a lock nor a snapshot is held while the reader does something else.
        sql = "SELECT seq, last, body FROM appends WHERE session = ? AND seq >= ? ORDER BY seq LIMIT ?"
        # the first append wanted may begin before `after`
        found = self._query(
            "SELECT max(seq) FROM appends WHERE session = ? AND seq <= ?", (key, max(after + 1, 0))
        )
        start = found[0][0] if found else 0
        portion = 16
        while rows := self._query(sql, (key, start, portion)):
            for seq, last, lines in rows:
                if last > after:
                    yield from lines.split(b"\n")[max(after + 1 - seq, 0) :]
            if len(rows) < portion:
                return
            start = rows[-1][1] + 1
            if portion < 1024 and sum(len(lines) for _, _, lines in rows) < 1 << 20:
                portion *= 2

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> list[SessionInfo]:
        version = self._query("PRAGMA user_version")
        if not version:  # there is no file yet
            return []
        values = {"prefix": prefix, "limit": -1 if limit is None else max(limit, 0)}
        return self._query(listing(version[0][0], prefix=bool(prefix)), values, _infos)

    def blob(self, digest: str) -> bytes:
        rows = self._query("SELECT data FROM blobs WHERE digest = ?", (digest,))
        if not rows:
            raise no_blob(digest, str(self.path))
        return check_content(digest, rows[0][0], str(self.path))

    def _query(
        self,
        sql: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        rows_of: Callable[[sqlite3.Cursor], list[Any]] = sqlite3.Cursor.fetchall,
    ) -> list[Any]:
        with self._read_lock:
            if self._closed:
                raise closed(str(self.path), LogError)
            deadline = time.monotonic() + self.busy_timeout
            while True:
                try:
                    if self._reader is None:
                        self._reader = open_reader(self.path)
                    rows = rows_of(self._reader.execute(sql, values)) if self._reader else []
                    if isinstance(self._reader, Alone):
                        self._reader.close()
                        self._reader = None
                    return rows
                except sqlite3.Error as error:
                    if not is_busy(error):
                        raise explain(error, self.path, doing="read") from error
                    if time.monotonic() > deadline:
                        raise locked(self.path, self.busy_timeout) from error
                except PermissionError as error:  # the folder is not ours to look into
                    raise base.unreadable(error) from error
                time.sleep(_PAUSE)

    # --- removing ----------------------------------------------------------------------------------------------------

    def claim(self, session: str) -> None:
        super().claim(session)
        with self._lock:
            self._known.pop(
                session, None
            )  # since we last wrote it, it may have been deleted and copied here again

    def _delete(self, names: Sequence[str]) -> Deleted:
        if self._closed:
            raise closed(str(self.path))
        try:
            self._claimed.claim(REMOVING)
        except LogWriteError as error:
            raise LogWriteError(
                f"another process is removing sessions from {self.path}", hint="Wait until it is done."
            ) from error
        try:
            with closing(open_writer(self.path, self._synchronous)) as own:
                keys = self._in_turn(own, lambda: hide(own, names))
                with self._lock:
                    for name in names:
                        self._known.pop(name, None)
                # they are hidden from here on; their data is deleted now, or by the next removal
                done = Sweep(own, self.path, lambda act: self._in_turn(own, act)).run(keys)
                self._compact(own, names)
        except Exception as error:
            raise explain(error, self.path) from error
        finally:
            self._claimed.release(REMOVING)
        return done

    def _compact(self, own: sqlite3.Connection, names: Sequence[str]) -> None:
        besides = {REMOVING, COMPACTING, *names}
        try:
            self._claimed.claim(COMPACTING)
            compact(own, lambda: not self._claimed.any(besides))
        except LogWriteError:
            pass  # another process does it
        finally:
            self._claimed.release(COMPACTING)

    def _in_turn(self, own: sqlite3.Connection, act: Callable[[], _T]) -> _T:
        """Does a transaction, waiting for other processes."""
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                return act()
            except sqlite3.Error as error:
                if own.in_transaction:
                    own.execute("ROLLBACK")
                if not is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    raise locked(self.path, self.busy_timeout) from error
            time.sleep(_PAUSE)

    # --- the end, and forks ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Writes what is queued, then closes the file and merges its write-ahead log. Appends of other threads that
        come later are refused."""
        if self._closed:
            return
        self._closed = True
        self.keep_summaries()
        self._stop_helper()
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for lane in list(self._lanes.values()):
            if lane.queue and (lane.loop is here or not lane.loop.is_running()):
                self._write_left_over(lane)
        self._gone = True
        with self._lock, self._read_lock:
            self._disconnect()
        self._claimed.close()

    def _write_left_over(self, lane: _Lane) -> None:
        appends, lane.queue = lane.queue, []
        if appends:
            self._commit_in_helper(lane, appends, appends)

    def _stop_helper(self) -> None:
        with self._helper_lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            helper.stop()

    def _disconnect(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        self._offload = True
        self._known.clear()

    def _before_fork(self) -> None:
        # A connection must not be carried into a child: SQLite would believe in locks that the child does not hold.
        # So there is none during the fork, and parent and child open the file again when they need it.
        self._helper_lock.acquire()
        if self._helper is not None:
            self._helper.stop()
            self._helper = None
        self._lock.acquire()
        self._read_lock.acquire()
        self._disconnect()

    def _after_fork_in_parent(self) -> None:
        self._read_lock.release()
        self._lock.release()
        self._helper_lock.release()


def _infos(rows: sqlite3.Cursor) -> list[SessionInfo]:
    # A hundred thousand of them are listed at once: this takes a quarter of the time that SessionInfo(...) takes of rows
    # that were fetched before. None of them is garbage, and looking for some among them takes a fifth of the rest.
    new, kind, meta = tuple.__new__, SessionInfo, base.Meta
    collects = gc.isenabled()
    gc.disable()
    try:
        return [
            new(kind, (name, status, started, at, events, meta(stored)))
            for name, status, started, at, events, stored in rows
        ]
    finally:
        if collects:
            gc.enable()


class _Helper:
    """One daemon thread that does jobs in order."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lllm-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when all jobs are done."""
        self.jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()


_STORES: Final[weakref.WeakSet[SQLiteLog]] = weakref.WeakSet()


def _everywhere(act: Callable[[SQLiteLog], None]) -> Callable[[], None]:
    def run() -> None:
        for store in list(_STORES):
            act(store)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_everywhere(SQLiteLog._before_fork),
        after_in_parent=_everywhere(SQLiteLog._after_fork_in_parent),
        after_in_child=_everywhere(SQLiteLog._begin),
    )
atexit.register(_everywhere(SQLiteLog.close))
