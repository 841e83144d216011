"""A log in memory, for tests and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from lllm.errors import LogError
from lllm.log.base import (
    Deleted,
    ReplayableLogBase,
    check_records,
    closed,
    lines_of,
    meta_of,
    no_blob,
    no_session,
    out_of_turn,
    status_of,
)
from lllm.log.blobs import check_blobs, named_in, unnamed
from lllm.ports import Record, SessionInfo


class MemoryLog(ReplayableLogBase):
    """Keeps sessions as long as the object lives. What is replayed and resumed from it behaves as from any store."""

    place: ClassVar[str | None] = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, list[Record]] = {}
        self._blobs: dict[str, bytes] = {}
        self._closed = False

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        check_records(records)
        check_blobs(blobs)
        with self._lock:
            if self._closed:
                raise closed("memory")
            if records:
                first = records[0]
                stored = self._sessions.get(first.session, [])
                if first.seq != len(stored):
                    raise out_of_turn(first.session, first.seq, len(stored) - 1)
                lines_of(records, b"\n")
                self._sessions.setdefault(first.session, stored).extend(records)
            for digest, data in (blobs or {}).items():
                self._blobs.setdefault(digest, bytes(data))

    def read(self, session: str, after: int = -1) -> Iterable[bytes]:
        with self._lock:
            self._check_open()
            if session not in self._sessions:
                raise no_session(session, self._sessions)
            return [record.body for record in self._sessions[session][max(after + 1, 0) :]]

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> Sequence[SessionInfo]:
        with self._lock:
            self._check_open()
            found = [
                (name, log[0], log[-1]) for name, log in self._sessions.items() if name.startswith(prefix)
            ]
        found.reverse()  # of those begun in the same microsecond, the one stored last comes first
        found.sort(key=lambda item: item[1].at, reverse=True)
        return [
            SessionInfo(
                name,
                status_of(last.kind, last.body),
                first.at,
                last.at,
                last.seq + 1,
                meta_of(first.kind, first.body),
            )
            for name, first, last in found[:limit]
        ]

    def blob(self, digest: str) -> bytes:
        with self._lock:
            self._check_open()
            if digest not in self._blobs:
                raise no_blob(digest, "this MemoryLog")
            return self._blobs[digest]

    def _delete(self, names: Sequence[str]) -> Deleted:
        with self._lock:
            self._check_open()
            gone = [record.body for name in names for record in self._sessions.pop(name)]
            named = {digest for body in gone for digest in named_in(body)} & self._blobs.keys()
            rest = (record.body for log in self._sessions.values() for record in log)
            data = [self._blobs.pop(digest) for digest in unnamed(named, rest)]
        return Deleted(len(names), len(data), sum(map(len, gone)) + sum(map(len, data)))

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise closed("memory", LogError)
