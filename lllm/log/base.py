"""What the stores of this package share. A stranger's store needs only `lllm.ports.LogStore`."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from lllm.core import canonical
from lllm.core.envelope import verify_chain
from lllm.errors import LogError, LogWriteError, UnknownNameError
from lllm.log.claims import Claims
from lllm.ports import Record, SessionInfo

STARTED: Final = "SessionStarted"
ENDED: Final = "SessionEnded"
POLL: Final = 0.1
"""Seconds between two looks of a follower at a store that does not say when there is something new."""


class Deleted(NamedTuple):
    """What was removed: sessions, blobs that nobody named any more, and the bytes of both."""

    sessions: int
    blobs: int
    bytes: int


class Meta(Mapping[str, Any]):
    """`SessionInfo.meta` as it is stored, in canonical JSON: decoded when it is first looked at. It equals the dict, and
    `dict(meta)` gives it."""

    __slots__ = ("_stored",)

    def __init__(self, stored: bytes) -> None:
        self._stored: bytes | dict[str, Any] = stored

    def _read(self) -> dict[str, Any]:
        if isinstance(self._stored, bytes):
            self._stored = canonical.decode(self._stored)
        return self._stored  # type: ignore[return-value]

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


class ReplayableLogBase(ABC):
    """A `lllm.ports.LogStore`, which is where its contract stands. Usable as a context manager."""

    folder: Path | None = None
    """The project's data folder, for a store that has no place on this machine."""

    @abstractmethod
    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None: ...

    @abstractmethod
    def read(self, session: str, after: int = -1) -> Iterable[bytes]: ...

    @abstractmethod
    def sessions(self, limit: int | None = None, *, prefix: str = "") -> Sequence[SessionInfo]: ...

    @abstractmethod
    def blob(self, digest: str) -> bytes: ...

    @abstractmethod
    def close(self) -> None: ...

    def claim(self, session: str) -> None:
        """Makes this process the session's one writer, until `release` or until it dies. LogWriteError when somebody
        else is."""
        self._claims().claim(session)

    def release(self, session: str) -> None:
        """Lets another process write the session."""
        self._claims().release(session)

    def held(self, session: str) -> bool:
        """Whether somebody writes the session now. A session that is "running" and held by nobody was interrupted."""
        return self._claims().held(session)

    def delete(self, sessions: Iterable[str]) -> Deleted:
        """Removes sessions permanently, with the blobs that only they named; `lllm.log.prune` selects them. Concurrent
        appends do not fail.


        Raises:
            UnknownNameError: there is no such session; nothing is removed.
            LogWriteError: one is being written, another process is removing some, or the store could not be changed;
            nothing
                is removed.
        """
        names = list(dict.fromkeys(sessions))
        claimed: list[str] = []
        try:
            for name in names:
                self.read(name)
                self.claim(name)
                claimed.append(name)
            return self._delete(names) if names else Deleted(0, 0, 0)
        finally:
            for name in claimed:
                self.release(name)

    def _delete(self, names: Sequence[str]) -> Deleted:
        """Removes sessions that exist and are claimed."""
        raise LogWriteError(f"{type(self).__name__} does not delete sessions")

    def keep_summary(
        self, session: str, like: tuple[int, int, int, str], summary: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Queues the summary of a session that has just ended (see `lllm.log.summaries`); it may be lost. `like`: when
        the session began, the time of its last event, its number of events, and its status. `summary` computes the
        figures."""
        if (ended := self.__dict__.get("_ended")) is None:
            from lllm.log.summaries import Ended

            ended = self.__dict__["_ended"] = Ended(self)
        ended.add(session, like, summary)

    def keep_summaries(self) -> None:
        """Writes all queued summaries now."""
        if (ended := self.__dict__.get("_ended")) is not None:
            ended.flush()

    async def follow(self, session: str, after: int = -1) -> AsyncIterator[bytes]:
        """Bodies with seq > after, those to come too, as soon as they are durable; until the session has ended.

        A session whose writer died never ends: see `held`. Raises UnknownNameError when there is no such session."""
        after = max(after, -1)
        async with self._bell(session) as ring:
            while True:
                for body in self.read(session, after):
                    yield body
                    after += 1
                found = next((info for info in self.sessions(prefix=session) if info.id == session), None)
                if found is None or (found.status != "running" and found.events <= after + 1):
                    return
                if found.events <= after + 1:
                    await ring()

    def _bell(self, session: str) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Something to await until there may be news of a session."""
        return _clock()

    def _claims(self) -> Claims:
        """Where claims are kept. A store that other processes can reach says where they see them."""
        found: Claims | None = self.__dict__.get("_claimed")
        if found is None:
            found = self.__dict__["_claimed"] = Claims(None)
        return found

    def html(self, session: str) -> str:
        """A session as HTML for a notebook. Raises like `lllm.log.views.load`."""
        from lllm.log.notebook_view import html
        from lllm.log.views import load

        return html(load(self, session), self.blob)

    def verify(self, session: str) -> str:
        """Proves the session's log and gives the hash of its last event. LogCorrupt where it is not as written."""
        return verify_chain(self.read(session), session=session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@asynccontextmanager
async def _clock() -> AsyncIterator[Callable[[], Awaitable[None]]]:
    async def ring() -> None:
        await asyncio.sleep(POLL)

    yield ring


def check_records(records: Sequence[Record]) -> None:
    """LogWriteError unless the records are of one session and consecutive."""
    if len(records) > 1:
        session, seq = records[0].session, records[0].seq
        for offset, record in enumerate(records):
            if record.session != session or record.seq != seq + offset:
                raise LogWriteError(
                    f"one append takes consecutive events of one session; after event {seq + offset - 1} "
                    f"of '{session}' came event {record.seq} of '{record.session}'"
                )


def lines_of(records: Sequence[Record], separator: bytes) -> bytes:
    """The bodies as lines (the last without a newline). LogWriteError when a body is more than one line."""
    lines = separator.join([record.body for record in records])
    if lines.count(b"\n") != len(records) - 1:
        raise LogWriteError("the body of an event is one line, as lllm.core.envelope.seal writes it")
    return lines


def out_of_turn(session: str, seq: int, last: int) -> LogWriteError:
    """The error for an event that does not follow the last stored one (-1: none is stored)."""
    if seq <= last:
        return LogWriteError(
            f"event {seq} of session '{session}' is already stored (the last one is {last})",
            hint="Another process or task writes this session. Only one may: fork it, or wait for the other to end.",
        )
    stored = f"the last stored one is {last}" if last >= 0 else "nothing of it is stored"
    return LogWriteError(f"event {seq} of session '{session}' does not follow: {stored}")


def closed(where: str, kind: type[LogError] = LogWriteError) -> LogError:
    return kind(f"the log in {where} is closed")


def unreadable(error: OSError) -> LogError:
    """A file or folder of the log that belongs to somebody else."""
    return LogError(
        f"{error.filename} could not be read ({error.strerror})",
        hint="Check whose it is, or point log_dir elsewhere.",
    )


def no_session(session: str, known: Iterable[str]) -> UnknownNameError:
    return UnknownNameError("session", session, known, hint="Type: lllm sessions")


def no_blob(digest: str, where: str) -> UnknownNameError:
    return UnknownNameError("blob", digest, (), hint=f"Looked in {where}.")


def data_of(body: bytes) -> Any:
    """The data of an event that was just sealed, or that nobody needs to trust: its hash is not checked."""
    return canonical.decode(body)["data"]


def meta_of(kind: str, body: bytes) -> dict[str, Any]:
    """What SessionInfo.meta says about a session that begins with this event."""
    data = data_of(body) if kind == STARTED else None
    return data if isinstance(data, dict) else {}


def encoded_meta(kind: str, body: bytes) -> bytes:
    """`meta_of` in canonical JSON. As `lllm.core.envelope` seals an event, it stands there already."""
    if kind != STARTED:
        return b"{}"
    # before and behind `data` there are numbers and texts, in which no quotation mark stands alone
    start = body.find(b',"data":{') + 8
    end = body.rfind(b'},"dialog":', 0, body.rfind(b',"hash":"sha256:')) + 1
    return body[start:end] if 8 <= start < end else canonical.encode(meta_of(kind, body))


_DONE: Final = re.compile(rb'\{"at":\d+,"call":null,"data":\{"status":"done"\},')
"""The end of most sessions, as `lllm.core.envelope.seal` writes it."""


def status_of(kind: str, body: bytes) -> str:
    """The status of a session whose last event this is."""
    if kind != ENDED:
        return "running"
    if _DONE.match(body) is not None:
        return "done"
    data = data_of(body)
    return str(data.get("status", "done")) if isinstance(data, dict) else "done"
