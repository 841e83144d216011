"""EndpointCache: answers of `pure` endpoints with `cache=SECONDS`, in a file of their own.

An entry is found by a keyed hash of the request, the cutoff date and the credentials that went with it; the key of the hash is
random and stays in the file. So the file tells nobody which credentials were used, and two systems with different ones never
see each other's answers. An answer that holds a secret known to this process is not kept.

Whatever is wrong with the file (locked, full, corrupt, not a cache at all): calls go on without it, with one warning. It is
never deleted or repaired: it may be somebody else's.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import threading
import time
import warnings
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lllm.config.environ import latest
from lllm.errors import ConfigError
from lllm.models.parts import File, Image
from lllm.proxies.request import HttpRequest

if TYPE_CHECKING:
    import sqlite3

    from lllm.proxies.credentials import Shown

T = TypeVar("T")
Note = Callable[..., None]

MARK: Final = 0x6C6C6C6D
"""`application_id` of the file, by which it is known again."""
LARGEST: Final = 5_000_000
"""Bytes of an answer from which on it is not kept."""
MOST: Final = 200_000_000
"""Bytes of all answers; beyond it the oldest are removed."""
_BUSY: Final = 5.0
"""Seconds to wait for another process, in a thread."""
_PAUSE: Final = 30.0
"""Seconds without the cache after another process has kept it locked for so long."""
_SWEEP: Final = 100
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS key (value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS answers (hash BLOB PRIMARY KEY, address TEXT NOT NULL, until REAL NOT NULL,"
    " answer BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS answers_until ON answers (until)",
)


class EndpointCache:
    """See above. Safe for several threads and processes.

    Arguments:
        path: the file, which is made on first use, readable for its owner alone (0600; its folder 0700).
        clock: seconds since 1970.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._open: tuple[int, sqlite3.Connection, bytes] | None = None
        self._off = self._warned = False
        self._puts = 0
        self._again = 0.0
        """When it is tried again, by the clock."""

    def __repr__(self) -> str:
        return f"EndpointCache({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return EndpointCache, (str(self.path),)

    async def key(
        self, address: str, request: HttpRequest, as_of: str, shown: Shown, note: Note
    ) -> bytes | None:
        """The hash of a request; None where the cache cannot be used."""
        parts = (
            *(address, as_of, request.method, request.url),
            *(f"{name}: {value}" for name, value in sorted(request.headers.items())),
            *("credentials", *shown.fingerprint),
        )
        text = json.dumps(parts).encode() + b"\0" + (request.body or b"")
        found = await self._do(lambda _, secret: hmac.new(secret, text, sha256).digest(), note)
        return found

    async def get(self, key: bytes | None, note: Note) -> tuple[Any] | None:
        """The answer that is kept, in a tuple; None where there is none, or it is too old."""
        if key is None:
            return None

        def look(connection: sqlite3.Connection, _: bytes) -> bytes | None:
            row = connection.execute("SELECT until, answer FROM answers WHERE hash = ?", (key,)).fetchone()
            return None if row is None or row[0] <= self._clock() else row[1]

        found = await self._do(look, note)
        if found is None:
            return None
        try:
            return (_read(found),)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError):
            return None  # not what was written

    async def put(
        self, key: bytes | None, address: str, value: Any, seconds: float, shown: Shown, note: Note
    ) -> None:
        """Keeps an answer, unless it is large or holds a secret."""
        if key is None:
            return
        data = _written(value)
        if (
            data is None
            or len(data) > LARGEST
            or shown.data(data) is not data
            or latest().blob(data) is not data
        ):
            return

        def write(connection: sqlite3.Connection, _: bytes) -> None:
            until = self._clock() + seconds
            connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (key, address, until, data)
            )
            self._puts += 1
            if self._puts % _SWEEP == 1:
                self._sweep(connection)

        await self._do(write, note)

    def clear(self) -> None:
        """Removes all answers."""
        self._guarded(lambda connection, _: connection.execute("DELETE FROM answers"), None)

    def close(self) -> None:
        """Closes the file. It is opened again when it is used again."""
        with self._lock:
            opened, self._open = self._open, None
            if opened is not None and opened[0] == os.getpid():
                opened[1].close()

    def _sweep(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM answers WHERE until <= ?", (self._clock(),))
        while connection.execute("SELECT coalesce(sum(length(answer)), 0) FROM answers").fetchone()[0] > MOST:
            connection.execute(
                "DELETE FROM answers WHERE hash IN (SELECT hash FROM answers ORDER BY until LIMIT 100)"
            )

    async def _do(self, work: Callable[[sqlite3.Connection, bytes], T], note: Note) -> T | None:
        if self._off or self._clock() < self._again:
            return None
        return await asyncio.to_thread(self._guarded, work, note)

    def _guarded(self, work: Callable[[sqlite3.Connection, bytes], T], note: Note | None) -> T | None:
        import sqlite3

        try:
            with self._lock:
                if self._off or self._clock() < self._again:
                    return None
                connection, secret = self._opened()
                return work(connection, secret)
        except (sqlite3.Error, OSError, _NotOurs) as error:
            # another process that writes for long is no reason to go without it for good, nor for every call to wait for it
            locked = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            if locked:
                self._again = self._clock() + _PAUSE
            self._warn(error, for_good=not locked)
            return None

    def _warn(self, error: BaseException, *, for_good: bool) -> None:
        if for_good:
            self._off = True
            self.close()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the cache of endpoints {self.path} is not used: {error}", RuntimeWarning, stacklevel=2
            )

    def _opened(self) -> tuple[sqlite3.Connection, bytes]:
        """The connection of this process, and the key of its hashes."""
        if self._open is not None and self._open[0] == os.getpid():
            return self._open[1], self._open[2]
        import sqlite3

        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if hasattr(os, "getuid"):
                state = os.fstat(file)
                if state.st_uid != os.getuid():
                    raise _NotOurs("it belongs to another user")
                if state.st_mode & 0o077:
                    os.fchmod(file, 0o600)
        finally:
            os.close(file)
        connection = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            secret = _prepared(connection)
        except BaseException:
            connection.close()
            raise
        self._open = (os.getpid(), connection, secret)
        return connection, secret


class _NotOurs(Exception):
    """The file is not a cache of ours."""


def _prepared(connection: sqlite3.Connection) -> bytes:
    """Makes the tables where there are none. Returns the key of the hashes."""
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark != MARK:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mark or tables:
                raise _NotOurs("it is a database of something else")
            connection.execute(f"PRAGMA application_id = {MARK}")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO key VALUES (?)", (os.urandom(32),))
        row = connection.execute("SELECT value FROM key").fetchone()
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA journal_mode = WAL")  # only now: the file is ours
    if row is None or len(row[0]) != 32:
        raise _NotOurs("its key is missing")
    found: bytes = row[0]
    return found


def _written(value: Any) -> bytes | None:
    """An answer as bytes; None where it cannot be kept."""
    if isinstance(value, Image | File):
        about = {"media_type": value.media_type, "data": b64encode(value.data).decode()}
        kept: dict[str, Any] = (
            {"file": {**about, "name": value.name}} if isinstance(value, File) else {"image": about}
        )
    else:
        kept = {"value": value}
    try:
        return json.dumps(kept, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _read(data: bytes) -> Any:
    kept = json.loads(data)
    if "value" in kept:
        return kept["value"]
    about = kept.get("file") or kept["image"]
    content = b64decode(about["data"])
    if "file" in kept:
        return File(content, about["name"], about["media_type"])
    return Image(content, about["media_type"])
