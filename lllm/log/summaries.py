"""Figures of each session: counted while it is written, or read once from its events, and cached.

A summary is derived data: it is discarded and recomputed whenever it does not match the log, and deleting the cache file
loses nothing. It has no text of the session but names and the last error.
"""

from __future__ import annotations

import atexit
import json
import sqlite3
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import orjson

from lllm.core.canonical import encode
from lllm.core.envelope import open_event
from lllm.core.figures import Counting
from lllm.errors import LogCorrupt, LogError
from lllm.handles import file_of, folder_of
from lllm.ports import LogStore, SessionInfo

VERSION: Final = 2
"""Of what a summary holds. Others are thrown away."""

UNPROVEN: Final = "unproven"
"""Marks a summary that was counted while its session was written."""

Summary = dict[str, Any]


def summarise(bodies: Iterable[bytes], session: str) -> Summary:
    """The figures of a session's events, each and their chain checked.

    `parts` has them per agent, prompt, model and tool: what the tools of a part cost are the replies that asked for them.
    A log that is not as it was written is summed up to where it is, and `problem` says what is wrong.
    """
    counting = Counting()
    head, seq = "", 0
    problem = None
    try:
        for body in bodies:
            event = open_event(body)
            if event["session"] != session or event["seq"] != seq or event["prev"] != head:
                raise LogCorrupt(f"event {seq} of session '{session}' is missing or out of order", seq=seq)
            counting.take(event["kind"], event["call"], event["data"], event["at"])
            head, seq = event["hash"], seq + 1
    except LogError as error:
        problem = error.message
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
    ) as error:  # sealed, but not by lllm
        problem = f"event {seq} is not as lllm writes it ({type(error).__name__}: {error})"
    return counting.summary(seq, head, problem)


# --- kept ------------------------------------------------------------------------------------------------------------


class Summaries:
    """The summaries of one store.

    Arguments:
        path: the file that keeps them. None: beside the log, where that is a file or folder, else in this process.

    A file that cannot be read or written is done without.
    """

    def __init__(self, store: LogStore, path: Path | None = None) -> None:
        self._store = store
        self._path = place_of(store) if path is None else path
        self._known: dict[str, tuple[str, Any]] = {}  # session -> what its log was like, and the summary
        self._fresh: dict[str, tuple[str, Summary]] = {}

    def open(self) -> None:
        """Reads what is kept."""
        if self._path is None:
            with suppress(TypeError):  # a stranger's store that cannot be referred to is read every time
                self._known = _here.setdefault(self._store, {})
        elif self._path.exists():
            with suppress(sqlite3.Error), closing(_connect(self._path)) as database:
                self._known = {
                    session: (like, body)
                    for session, like, body in database.execute("SELECT session, like, body FROM summaries")
                }

    def of(self, info: SessionInfo, *, prove: bool = False) -> Summary:
        """The summary of a session; the cached one if its log is unchanged. `prove`: do not use one that was counted
        during writing, without reading the log."""
        like = _like(info)
        kept = self._kept(info)
        if kept is not None and not (prove and UNPROVEN in kept):
            return {key: value for key, value in kept.items() if key != UNPROVEN}
        try:
            made = summarise(self._store.read(info.id), info.id)
        except LogError as error:
            made = {**summarise((), info.id), "problem": error.message}
        self._known[info.id] = self._fresh[info.id] = (like, made)
        return made

    def proven(self, info: SessionInfo) -> bool:
        """True if the cached summary was computed by reading the log."""
        return UNPROVEN not in (self._kept(info) or {})

    def _kept(self, info: SessionInfo) -> Summary | None:
        like, known = _like(info), self._known.get(info.id)
        if known is None or known[0] != like:
            return None
        kept: Any = known[1]
        if isinstance(kept, bytes):
            kept = json.loads(kept)
            self._known[info.id] = (like, kept)
        found: Summary = kept
        return found

    def close(self, present: Iterable[str] | None = None) -> None:
        """Keeps what is new, and forgets sessions that are not `present` any more."""
        gone = [] if present is None else [*self._known.keys() - set(present)]
        for session in gone:
            del self._known[session]
        if self._path is None or not (self._fresh or gone):
            return
        try:
            self._write(self._path, gone)
        except sqlite3.OperationalError:
            pass  # locked, full, or a folder that nobody may write to: it is read again next time
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.Error):
                self._path.unlink()
                self._write(self._path, gone)

    def _write(self, path: Path, gone: Iterable[str]) -> None:
        rows = [(session, like, encode(made)) for session, (like, made) in self._fresh.items()]
        _store(path, rows, gone)
        self._fresh.clear()


class Ended:
    """Summaries of ended sessions, queued and written to the cache file in batches. Lost ones are recomputed from the log
    on demand."""

    def __init__(self, store: LogStore) -> None:
        self._store = weakref.ref(store)  # the store holds this object: no cycle
        self._rows: deque[tuple[str, str, bytes]] = deque()
        self._since = 0.0
        _ENDED.add(self)

    def add(
        self, session: str, like: tuple[int, int, int, str], summary: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Queues a summary. Safe for use from several threads."""
        # encoded here: what has been counted is many small objects, which the garbage collector would have to look at
        made = {**summary(), UNPROVEN: True}
        try:
            body = bytes(memoryview(orjson.dumps(made)))  # a copy: the original holds some kilobytes more
        except TypeError:  # an integer beyond 64 bits
            body = encode(made)
        now = time.monotonic()
        if not self._rows:
            self._since = now
        self._rows.append((session, " ".join(map(str, like)), body))
        if len(self._rows) >= PORTION or now - self._since > AGE:
            self.flush()

    def flush(self) -> None:
        """Writes the queue. Does not wait: if the file is in use or cannot be written, nothing is stored."""
        rows = []
        with suppress(IndexError):
            while True:
                rows.append(self._rows.popleft())
        store = self._store()
        path = None if store is None else place_of(store)
        if rows and path is not None:
            with suppress(sqlite3.Error, OSError):
                _store(path, rows, timeout=0)


def _store(
    path: Path,
    rows: Iterable[tuple[str, str, bytes]],
    gone: Iterable[str] = (),
    *,
    timeout: float = 1,
) -> None:
    """Writes summaries (session, state of its log, figures as JSON), and deletes those of removed sessions."""
    with closing(_connect(path, timeout)) as database, database:
        database.executemany("DELETE FROM summaries WHERE session = ?", [(session,) for session in gone])
        database.executemany("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", rows)


def _connect(path: Path, timeout: float = 1) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=timeout)
    try:
        # data lost or damaged by a power failure is recomputed from the log
        database.execute("PRAGMA synchronous = off")
        if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            path.chmod(0o600)
            with database:
                database.execute("DROP TABLE IF EXISTS summaries")
                database.execute(
                    "CREATE TABLE summaries (session TEXT PRIMARY KEY, like TEXT NOT NULL, body BLOB NOT NULL)"
                )
                database.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


PORTION: Final = 1000
"""Summaries per batch."""
AGE: Final = 10.0
"""Seconds after which queued summaries are written with the next one."""
_ENDED: Final[weakref.WeakSet[Ended]] = weakref.WeakSet()


def _keep_all() -> None:
    for ended in list(_ENDED):
        ended.flush()


atexit.register(_keep_all)

_here: Final[weakref.WeakKeyDictionary[Any, dict[str, tuple[str, Any]]]] = weakref.WeakKeyDictionary()


def place_of(store: LogStore) -> Path | None:
    """The cache file of a log: next to it if the log is a local file or folder, else in its project's `folder`. None if
    it has neither."""
    with suppress(PermissionError):  # the store says it better
        if (file := file_of(store)) is not None:
            return file.with_name(f"{file.stem}.summaries.db") if file.exists() else None
        if (folder := folder_of(store)) is not None:
            return folder / "summaries.db" if folder.is_dir() else None
    return None


def _like(info: SessionInfo) -> str:
    """What tells a log from what it was before: it is only ever added to."""
    return f"{info.started} {info.updated} {info.events} {info.status}"
