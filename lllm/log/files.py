"""Session logs as plain files: a folder per session, a line per event.

    <dir>/<session>/events.jsonl    JSON Lines, only ever added to
    <dir>/blobs/ab/cdef…            blobs of all sessions, by digest

An append is one write. Where it holds several events, each line but the last ends in a space: so an append that a crash
cut short is seen, also where the cut is between two lines, and none of it counts. The next append removes what is left
of it and notes that in `recovered`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Literal, NamedTuple

from lllm.core import canonical
from lllm.errors import ConfigError, LogCorrupt, LogError, LogWriteError
from lllm.log import base
from lllm.log.base import Deleted, ReplayableLogBase, check_records, closed, lines_of, no_session, out_of_turn
from lllm.log.blobs import NAMED, BlobFolder, check_blobs, named_in
from lllm.log.claims import Claims
from lllm.ports import Record, SessionInfo
from lllm.terminals import warn

EVENTS: Final = "events.jsonl"
_OPEN_FILES: Final = max(16, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
"""So many sessions are kept open for writing; what is allowed beyond that is for the rest of the program."""
_BLOCK: Final = 1 << 16


class Recovered(NamedTuple):
    """What a crash left of an append that was never acknowledged, and that has been removed.

    `seq` is that of the first event that did not make it; `data` what there was of it."""

    session: str
    seq: int
    data: bytes


class _File:
    """A session that is being written: its file, locked, and the last event in it."""

    __slots__ = ("fd", "last", "size")

    def __init__(self, fd: int, size: int, last: int) -> None:
        self.fd = fd
        self.size = size
        self.last = last


class LocalFileLog(ReplayableLogBase):
    """All sessions in the folder `dir`, which is made on the first append.

    Arguments:
        dir: the folder.
        synchronous: "normal" keeps every acknowledged event when the process is killed; "full" also when the machine
            loses power, at the cost of waiting for the disk on every append.

    `recovered` lists what crashes had left behind in the sessions that this store has gone on with.
    """

    place: ClassVar[str | None] = "sessions"

    def __init__(
        self, dir: str | os.PathLike[str], *, synchronous: Literal["normal", "full"] = "normal"
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigError(f"synchronous is 'normal' or 'full', not {synchronous!r}")
        self.dir = Path(dir).expanduser().absolute()
        self.recovered: list[Recovered] = []
        self._full = synchronous == "full"
        self._blobs = BlobFolder(self.dir / "blobs", synchronous=self._full)
        self._worker: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}  # least recently used first
        self._firsts: dict[str, tuple[int, dict[str, Any]]] = {}  # of each session what never changes
        self._closed = False
        self._claimed = Claims(self.dir / "writers.lock")
        _STORES.add(self)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        check_records(records)
        check_blobs(blobs)
        if self._full:
            # one thread, in order; what a cancelled waiter gave it is written all the same
            await asyncio.shield(asyncio.wrap_future(self._submit(records, blobs)))
        else:
            self._append(records, blobs)

    def _submit(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None) -> Future[None]:
        with self._lock:
            if self._closed:
                raise closed(str(self.dir))
            if self._worker is None:
                worker = ThreadPoolExecutor(1, "lllm-log")
                worker.submit(int)  # starts the thread first: if that fails, no append is left in the queue
                self._worker = worker
            return self._worker.submit(self._append, records, blobs, accepted=True)

    def _append(
        self, records: Sequence[Record], blobs: Mapping[str, bytes] | None, *, accepted: bool = False
    ) -> None:
        with self._lock:
            if self._closed and not accepted:
                raise closed(str(self.dir))
            try:
                with self._blobs.shared() if blobs else nullcontext():
                    for digest, data in (blobs or {}).items():
                        self._blobs.put(digest, data)
                    if records:
                        self._write(self._file(records[0]), records)
            except OSError as error:
                raise self._explain(error) from error

    def _write(self, file: _File, records: Sequence[Record]) -> None:
        first = records[0]
        if first.seq != file.last + 1:
            raise out_of_turn(first.session, first.seq, file.last)
        lines = lines_of(records, b" \n") + b"\n"
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(file.fd, rest) :]
            if self._full:
                os.fdatasync(file.fd)
        except BaseException:
            self._forget(first.session)
            raise
        file.last = records[-1].seq
        file.size += len(lines)
        if records[-1].kind == base.ENDED:
            self._release(first.session)  # whoever resumes it may be another process

    def _file(self, first: Record) -> _File:
        """The session's file, opened and locked."""
        file = self._files.pop(first.session, None)
        if file is None:
            if len(self._files) >= _OPEN_FILES:
                self._release(next(iter(self._files)))
            file = self._open(first)
        self._files[first.session] = file
        return file

    def _open(self, first: Record) -> _File:
        session = first.session
        if trouble := _unsafe(session):
            raise LogWriteError(f"a session cannot be named {session!r}: {trouble}")
        folder = self.dir / session
        if first.seq and not folder.exists():
            raise out_of_turn(session, first.seq, -1)
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _locked(session) from None
            with open(fd, "rb", closefd=False) as reader:
                tail = _tail(reader)
            last = -1 if tail.line is None else _seq(tail.line, session)
            if tail.torn:
                self._cut(fd, Recovered(session, last + 1, tail.torn), tail.end)
            return _File(fd, tail.end, last)
        except BaseException:
            os.close(fd)
            raise

    def _cut(self, fd: int, note: Recovered, end: int) -> None:
        os.ftruncate(fd, end)
        self.recovered.append(note)
        warn(
            logging.getLogger("lllm.log"),
            "session '%s': removed %d bytes of an append that a crash cut short, from event %d on",
            note.session, len(note.data), note.seq,
        )  # fmt: skip

    def _forget(self, session: str) -> None:
        """After a failed write: takes away what there is of it, so that nothing torn is left, and closes the file."""
        file = self._files[session]
        try:
            os.ftruncate(file.fd, file.size)
        finally:
            self._release(session)

    def _release(self, session: str) -> None:
        os.close(self._files.pop(session).fd)  # and with it goes the lock

    def _explain(self, error: OSError) -> LogWriteError:
        return LogWriteError(
            f"{error.filename or self.dir} could not be written ({error.strerror or error})",
            hint="Check that there is room, and that you may write there, or point log_dir elsewhere.",
        )

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, session: str, after: int = -1) -> Iterator[bytes]:
        self._check_open()
        path = self.dir / session / EVENTS
        try:
            if _unsafe(session) or not path.exists() or not self._first(session):
                raise no_session(session, self._names())
        except PermissionError as error:
            raise base.unreadable(error) from error
        return _bodies(path, after)

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> list[SessionInfo]:
        self._check_open()
        try:
            firsts = [
                (first[0], name)
                for name in self._names()
                if name.startswith(prefix) and (first := self._first(name))
            ]
            firsts.sort(reverse=True)
            return [self._info(name) for _, name in firsts[: None if limit is None else max(limit, 0)]]
        except PermissionError as error:
            raise base.unreadable(error) from error

    def blob(self, digest: str) -> bytes:
        self._check_open()
        return self._blobs.get(digest)

    # --- removing ----------------------------------------------------------------------------------------------------

    def _delete(self, names: Sequence[str]) -> Deleted:
        """Removes the sessions first, then the blobs: a crash in between leaves only unused blobs. The slow part runs
        while others write; they wait only while their new appends are read."""
        size = 0
        left: set[bytes] = set()
        for name in names:
            for body in self.read(name):
                size += len(body)
                left |= {digest.encode() for digest in named_in(body)}
        try:
            with self._lock:
                for name in names:
                    if name in self._files:
                        self._release(name)
                    _free(self.dir / name / EVENTS, name)
            for name in names:
                with self._lock:
                    shutil.rmtree(self.dir / name)
                    self._firsts.pop(name, None)
            read: dict[str, int] = {}
            self._named(left, read)
            sizes: list[int] = []
            if left:
                with self._blobs.alone():
                    self._named(left, read)
                    removed = [self._blobs.remove(digest.decode()) for digest in left]
                    sizes = [found for found in removed if found is not None]
        except OSError as error:
            raise self._explain(error) from error
        return Deleted(len(names), len(sizes), size + sum(sizes))

    def _named(self, left: set[bytes], read: dict[str, int]) -> None:
        """Removes from `left` the digests that any session names; each session is read from where it has been `read` up
        to."""
        for name in self._names():
            if not left:
                return
            with suppress(FileNotFoundError), open(self.dir / name / EVENTS, "rb") as file:
                file.seek(read.get(name, 0))
                for line in file:
                    left.difference_update(NAMED.findall(line))
                    if line.endswith(b"\n"):  # an unfinished last line is read again later
                        read[name] = read.get(name, 0) + len(line)

    def close(self) -> None:
        self.keep_summaries()
        with self._lock:
            self._closed = True
        if self._worker is not None:
            self._worker.shutdown()  # when what was given to it is written
        with self._lock:
            for session in list(self._files):
                self._release(session)
        self._claimed.close()

    def _check_open(self) -> None:
        if self._closed:
            raise closed(str(self.dir), LogError)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.dir) as entries:
                # of texts: a Path for each of many sessions costs more than to look
                return [entry.name for entry in entries if os.path.isfile(f"{entry.path}{os.sep}{EVENTS}")]
        except FileNotFoundError:
            return []

    def _first(self, session: str) -> tuple[int, dict[str, Any]] | None:
        """When the session began, and its meta. None when not even its first append is complete."""
        if session not in self._firsts:
            path = self.dir / session / EVENTS
            body = next(_bodies(path, -1), None)
            if body is None:
                return None
            try:
                event = canonical.decode(body)
                self._firsts[session] = (event["at"], base.meta_of(event["kind"], body))
            except (ValueError, LookupError, TypeError):
                self._firsts[session] = (path.stat().st_mtime_ns // 1000, {})
        return self._firsts[session]

    def _info(self, session: str) -> SessionInfo:
        started, meta = self._firsts[session]
        with open(f"{self.dir}{os.sep}{session}{os.sep}{EVENTS}", "rb") as file:
            tail = _tail(file)
        try:
            event = canonical.decode(tail.line or b"")
            status = base.status_of(event["kind"], tail.line or b"")
            return SessionInfo(session, status, started, event["at"], event["seq"] + 1, meta)
        except (ValueError, LookupError, TypeError):
            # `lllm sessions` shows what can be shown; reading the session says what is wrong with it
            return SessionInfo(session, "corrupt", started, started, 0, meta)

    def _after_fork(self) -> None:
        """In a child: the files, and their locks, are the parent's."""
        self._lock = threading.Lock()
        self._worker = None
        self._claimed.begin()
        for session in list(self._files):
            self._release(session)


_STORES: Final[weakref.WeakSet[LocalFileLog]] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_STORES):
        store._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _locked(session: str) -> LogWriteError:
    return LogWriteError(
        f"session '{session}' is being written by another process",
        hint="Only one may: fork the session, or wait for the other to end.",
    )


def _free(path: Path, session: str) -> None:
    """LogWriteError when another process has the file open for writing."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(session) from None


class _Tail(NamedTuple):
    line: bytes | None  # the last complete event
    end: int  # where the last complete append ends
    torn: bytes  # what stands behind it


def _tail(file: BinaryIO) -> _Tail:
    """The end of a log, without reading the rest of it."""
    size = file.seek(0, os.SEEK_END)
    start, data = size, b""
    while True:
        # `data` is the file from `start` on. The last line that ends an append, and the newline before it, are wanted.
        block = min(start, max(_BLOCK, len(data)))
        start -= block
        file.seek(start)
        data = file.read(block) + data
        end = _complete(data)
        before = data.rfind(b"\n", 0, end - 1) if end else -1
        if start == 0 or before >= 0:
            line = data[before + 1 : end].rstrip() if end else None
            return _Tail(line, start + end if end else 0, data[end:])


def _complete(data: bytes) -> int:
    """Where the last complete append in `data` ends; 0 when none does."""
    end = len(data)
    while (newline := data.rfind(b"\n", 0, end)) >= 0:
        before = data.rfind(b"\n", 0, newline) + 1
        # after a loss of power, a part of a file that was never written may read as zeros
        if not data.endswith(b" ", before, newline) and b"\0" not in data[before:newline]:
            return newline + 1
        end = newline
    return 0


def _bodies(path: Path, after: int) -> Iterator[bytes]:
    """Complete appends only; an event stands in the line of its number."""
    held: list[bytes] = []
    with open(path, "rb") as file:
        for seq, line in enumerate(iter(file.readline, b"")):
            if line.endswith(b" \n"):
                held.append(line)
                continue
            if not line.endswith(b"\n"):
                return
            if b"\0" in line:
                here = file.tell()
                if not any(map(_whole, iter(file.readline, b""))):
                    return  # part of the last append, lost in a power failure
                file.seek(here)  # in the middle it is damage: opening the event reports it
            held.append(line)
            for offset, whole in enumerate(held, seq - len(held) + 1):
                if offset > after:
                    yield whole.rstrip(b" \n")
            held.clear()


def _whole(line: bytes) -> bool:
    """True if a line ends an append that was written completely. Only lines after the last such line may be torn."""
    return line.endswith(b"\n") and not line.endswith(b" \n") and b"\0" not in line and not line.isspace()


def _seq(line: bytes, session: str) -> int:
    try:
        return int(canonical.decode(line)["seq"])
    except (ValueError, LookupError, TypeError) as error:
        raise LogCorrupt(
            f"the last event of session '{session}' is not readable", hint="Type: lllm show"
        ) from error


def _unsafe(session: str) -> str:
    """Why a session cannot be a folder of that name; "" when it can."""
    if not session or session in (".", ".."):
        return "it must be the name of a folder"
    if "/" in session or "\0" in session:
        return "it must not hold '/' or NUL"
    try:
        return "it must not be longer than 200 bytes" if len(session.encode()) > 200 else ""
    except UnicodeEncodeError:
        return "it is not valid Unicode"
