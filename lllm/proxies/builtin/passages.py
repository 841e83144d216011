"""The index of a knowledge base: one SQLite file with the passages of a folder of documents, found by their words (FTS5, bm25)
and, where there is a model for that, by their meaning.

The file may be deleted at any time: it is made again. Several processes may use it at once: a document is replaced in one
transaction, and replacing it twice does no harm.
"""

from __future__ import annotations

import operator
import os
import re
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from math import isfinite, sqrt
from pathlib import Path
from typing import Final, NamedTuple

from lllm.errors import ConfigError, EndpointError, EndpointRejected
from lllm.proxies.builtin.documents import Passage

MARK: Final = 0x6C6C6C6B
"""`application_id` of the file, by which it is known again."""
VERSION: Final = 1
_BUSY: Final = 15.0
"""Seconds to wait for another process."""
_WORDS: Final = 40
"""Words of a query that are looked for."""
_SIGNS: Final = re.compile(
    "[\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
"""Scripts that are written without spaces between words: two signs each are looked for."""
_CANDIDATES: Final = 100
"""Passages that each way of searching puts forward."""
_FUSED: Final = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""
_TABLES: Final = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE documents (path TEXT PRIMARY KEY, changed INTEGER NOT NULL, size INTEGER NOT NULL, read INTEGER NOT NULL,"
    " hash TEXT NOT NULL, lines INTEGER NOT NULL, problem TEXT NOT NULL)",
    "CREATE TABLE passages (id INTEGER PRIMARY KEY, path TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,"
    " hash BLOB NOT NULL)",
    "CREATE INDEX passages_path ON passages (path)",
    "CREATE INDEX passages_hash ON passages (hash)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, heading, path, signs, tokenize = 'porter unicode61 remove_diacritics 2')",
    "CREATE TABLE vectors (hash BLOB NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (hash, model))"
    " WITHOUT ROWID",
)


class Document(NamedTuple):
    """The entry of a document. `changed`: when it was, in nanoseconds; `read`: when it was read. `problem`: why it has
    no passages, or ""."""

    path: str
    changed: int
    size: int
    read: int
    hash: str
    lines: int
    problem: str


class Hit(NamedTuple):
    """A passage that was found."""

    id: int
    path: str
    first: int
    last: int
    heading: str
    snippet: str


class Passages:
    """See above.

    Arguments:
        path: the file, which is made on first use, readable for its owner alone (0600; its folder 0700).
        root: the folder of the documents.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self._root = path, str(root)

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection to the file.

        Raises:
            ConfigError: the file is that of something else, or of another folder. EndpointError: it cannot be used.
        """
        try:
            connection = self._connected()
        except OSError as error:
            raise EndpointError(f"the index {self.path} cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise self._failed(error) from None
        try:
            yield connection
        except sqlite3.Error as error:
            raise self._failed(error) from None
        finally:
            connection.close()

    def _failed(self, error: sqlite3.Error) -> EndpointError | ConfigError:
        if "not a database" in str(error):
            return self._not_ours("it is not a database")
        hint = None if isinstance(error, sqlite3.OperationalError) else "Delete the file: it is made again."
        return EndpointError(f"the index {self.path} cannot be used: {error}", hint=hint)

    def _not_ours(self, why: str) -> ConfigError:
        return ConfigError(
            f"the file {self.path} is not the index of {self._root}: {why}",
            hint="Name another one by the option 'index', or delete it.",
        )

    def _connected(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            state = os.fstat(file)
            if state.st_uid != os.getuid():
                raise self._not_ours("it belongs to another user")
            if state.st_mode & 0o077 and not state.st_size:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)
        connection = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (mark, version) != (MARK, VERSION):
            with transaction(connection):
                self._make(connection)
            connection.execute("PRAGMA journal_mode = WAL")  # only now: the file is ours
        connection.execute("PRAGMA synchronous = NORMAL")
        row = connection.execute("SELECT value FROM about WHERE key = 'root'").fetchone()
        if row is None or row[0] != self._root:
            raise self._not_ours(f"it is that of {row[0] if row else 'no folder'}")
        with suppress(OSError):
            os.chmod(self.path, 0o600)

    def _make(self, connection: sqlite3.Connection) -> None:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (mark, version) == (MARK, VERSION):  # another process was faster
            return
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        if mark != MARK and (mark or tables):
            raise self._not_ours("it is a database of something else")
        for name in ("about", "documents", "passages", "words", "vectors"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES ('root', ?)", (self._root,))
        connection.execute(f"PRAGMA application_id = {MARK}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def known(connection: sqlite3.Connection) -> dict[str, Document]:
    """All documents of the index."""
    return {row[0]: Document(*row) for row in connection.execute("SELECT * FROM documents ORDER BY path")}


def put(connection: sqlite3.Connection, document: Document, found: Iterable[Passage] | None) -> None:
    """Puts a document in place of what was known of it. `found`: its passages; None where they are still the same."""
    with transaction(connection):
        if found is not None:
            _drop(connection, document.path)
            for one in found:
                digest = sha256(f"{one.heading}\n{one.text}".encode()).digest()[:16]
                cursor = connection.execute(
                    "INSERT INTO passages (path, first, last, hash) VALUES (?, ?, ?, ?)",
                    (document.path, one.first, one.last, digest),
                )
                connection.execute(
                    "INSERT INTO words (rowid, text, heading, path, signs) VALUES (?, ?, ?, ?, ?)",
                    (cursor.lastrowid, one.text, one.heading, document.path, _signs(one.text, one.heading)),
                )
        connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", document)


def remove(connection: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Forgets documents that are gone. Vectors stay as long as there are not too many: a file may only have been renamed."""
    with transaction(connection):
        for path in paths:
            _drop(connection, path)
            connection.execute("DELETE FROM documents WHERE path = ?", (path,))
        (vectors,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM passages").fetchone()
        if vectors > 2 * count + 1000:
            connection.execute("DELETE FROM vectors WHERE hash NOT IN (SELECT hash FROM passages)")


def _drop(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE path = ?)", (path,))
    connection.execute("DELETE FROM passages WHERE path = ?", (path,))


# --- searching


def match_of(query: str) -> str:
    """A query of FTS5 that finds any of the words, and what stands in quotation marks as it is. No character of it has a
    meaning of its own.

    Raises:
        EndpointRejected: there are no words in it.
    """
    terms: list[str] = []
    query = query[:10_000]
    for run in _SIGNS.findall(query):
        terms += [f'signs : "{" ".join(run[at : at + 2])}"' for at in range(max(1, len(run) - 1))]
    for quoted, word in re.findall(r'"([^"]{1,300})"|([^\W_]+)', query):
        words = re.findall(r"[^\W_]+", quoted) if quoted else [word]
        if words and not _SIGNS.fullmatch(words[0]):
            terms.append('"' + " ".join(one[:100] for one in words[:20]) + '"')
    if not terms:
        raise EndpointRejected("the query must have a word in it", hint="Words are letters and digits.")
    return " OR ".join(dict.fromkeys(terms[:_WORDS]))


def by_words(connection: sqlite3.Connection, query: str, under: str) -> list[int]:
    """The ids of passages by their words, the best first: words in headings and paths count more."""
    rows = connection.execute(
        "SELECT words.rowid FROM words JOIN passages ON passages.id = words.rowid WHERE words MATCH ?"
        " AND (?2 = '' OR passages.path = ?2 OR substr(passages.path, 1, length(?2) + 1) = ?2 || '/')"
        " ORDER BY bm25(words, 1.0, 3.0, 1.5, 1.0), words.rowid LIMIT ?3",
        (match_of(query), under, _CANDIDATES),
    )
    return [number for (number,) in rows]


def _signs(*texts: str) -> str:
    """The signs of texts as words of their own."""
    return " ".join(sign for text in texts for run in _SIGNS.findall(text) for sign in run)


def without_vector(connection: sqlite3.Connection, model: str, most: int) -> list[tuple[bytes, str]]:
    """Hashes and texts of passages that have no vector yet."""
    rows = connection.execute(
        "SELECT passages.hash, words.heading, words.text FROM passages JOIN words ON words.rowid = passages.id"
        " WHERE passages.hash NOT IN (SELECT hash FROM vectors WHERE model = ?) GROUP BY passages.hash LIMIT ?",
        (model, most),
    )
    return [(digest, f"{heading}\n{text}" if heading else text) for digest, heading, text in rows]


def keep_vectors(
    connection: sqlite3.Connection, model: str, vectors: Sequence[tuple[bytes, array[float]]]
) -> None:
    """Keeps vectors, see `unit`."""
    with transaction(connection):
        connection.executemany(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
            [(digest, model, vector.tobytes()) for digest, vector in vectors],
        )


def unit(vector: Sequence[float]) -> array[float]:
    """A vector of length 1 in the same direction."""
    length = sqrt(sum(one * one for one in vector)) or 1.0
    if not isfinite(length):
        raise ValueError("a vector has numbers that are none")
    return array("f", [one / length for one in vector])


def forget_others(connection: sqlite3.Connection, model: str, size: int) -> None:
    """Removes vectors of other sizes: the model has changed under its name."""
    which = "FROM vectors WHERE model = ? AND length(vector) <> ?"
    if connection.execute(f"SELECT 1 {which} LIMIT 1", (model, size)).fetchone() is not None:
        connection.execute(f"DELETE {which}", (model, size))


def by_meaning(connection: sqlite3.Connection, model: str, query: array[float], under: str) -> list[int]:
    """The ids of passages by the direction of their vectors, the nearest first."""
    size = len(query) * query.itemsize
    scores: list[tuple[float, int]] = []
    rows = connection.execute(
        "SELECT passages.id, vectors.vector FROM passages JOIN vectors ON vectors.hash = passages.hash AND vectors.model = ?1"
        " WHERE ?2 = '' OR passages.path = ?2 OR substr(passages.path, 1, length(?2) + 1) = ?2 || '/'",
        (model, under),
    )
    for number, data in rows:
        if len(data) == size:
            vector = array("f")
            vector.frombytes(data)
            scores.append((-sum(map(operator.mul, query, vector)), number))
    return [number for _, number in sorted(scores)[:_CANDIDATES]]


def fused(*rankings: Sequence[int]) -> list[int]:
    """One ranking of several: reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, number in enumerate(ranking):
            scores[number] = scores.get(number, 0.0) + 1.0 / (_FUSED + place + 1)
    return sorted(scores, key=lambda number: (-scores[number], number))


def hits(connection: sqlite3.Connection, ids: Sequence[int], query: str, most: int) -> list[Hit]:
    """The passages with these ids, with what surrounds the words of the query. Those that overlap with a better one are left
    out."""
    made: list[Hit] = []
    match = match_of(query)
    for number in ids:
        row = connection.execute(
            "SELECT passages.path, first, last, words.heading, words.text FROM passages JOIN words ON words.rowid = passages.id"
            " WHERE passages.id = ?",
            (number,),
        ).fetchone()
        if row is None:
            continue
        path, first, last, heading, text = row
        if any(one.path == path and one.first <= last and first <= one.last for one in made):
            continue
        part = connection.execute(
            "SELECT snippet(words, 0, '', '', '...', 48) FROM words WHERE words MATCH ? AND rowid = ?",
            (match, number),
        ).fetchone()
        made.append(Hit(number, path, first, last, heading, part[0] if part else text[:400]))
        if len(made) == most:
            break
    return made


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()
