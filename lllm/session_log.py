"""The log of a session: events and blobs on their way to the store. One writer at a time."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from lllm import inputs
from lllm.core import events as ev
from lllm.core.canonical import digest
from lllm.core.envelope import seal
from lllm.core.figures import COUNTED, Counting
from lllm.core.jsonable import unicode_only
from lllm.core.redact import Redactor
from lllm.errors import LLMError, LogWriteError, text_of
from lllm.loops import is_blocked
from lllm.models.parts import BlobRef
from lllm.ports import LogStore, Record
from lllm.stream_inputs import noted

if TYPE_CHECKING:
    from collections.abc import Callable

    from lllm.core.events import Event

_generation = 0  # of this process: one more than its parent's


def _forked() -> None:
    # two processes cannot write one session: the child's calls get sessions of their own
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Writing(NamedTuple):
    """An append that is under way, and the loop of the flush that makes it."""

    loop: asyncio.AbstractEventLoop
    records: list[Record]
    blobs: dict[str, bytes]


_new = tuple.__new__  # quicker than the class
_LOOK: Final = 0.2
"""Seconds after which a flush that waits for one in another loop looks whether that one still comes on."""


class SessionLog:
    """Writes the events of a session. A part of Session."""

    # of Session
    id: str
    store: LogStore
    redactor: Redactor
    logs: bool
    ended: bool
    inputs: inputs.Inputs
    watchers: list[Callable[[Event], None]]
    _figures: Counting | None
    _began: int

    def _open_log(self) -> None:
        """Before the first event."""
        self._generation = _generation
        self._seq = 0
        self._durable = 0
        self._doubtful = 0  # so many of the first records may be stored already
        self._prev = ""
        self._records: list[Record] = []
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._writing: _Writing | None = None
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        self._broken: LLMError | None = None

    if TYPE_CHECKING:

        def watched(self, event: Event) -> None: ...

    @property
    def last_event(self) -> int:
        """The number of the last event; -1 before the first, and without a log."""
        return self._seq - 1

    def write(self, event: Event) -> None:
        """Appends an event. Durable after the next `flush`. Raises LogWriteError once the store has failed: a session
        that cannot be written does not go on."""
        if not self.logs:
            if self.watchers:
                self.watched(event)
            return
        if self._broken is not None or self._generation != _generation:
            self._check()
        if self.ended:
            raise LogWriteError(
                f"session '{self.id}' has ended",
                hint="Open another: lllm.record(). Or a tool that had timed out still runs, and is stopped here.",
            )
        kind, data, at, call, dialog, _, encoded = event
        with self._lock:
            if self.inputs.came:
                self._write_inputs(at, kind, call)
            seq = self._seq
            if not seq:
                self._began = at
            record = seal(self.id, seq, at, call, dialog, kind, data, self._prev, encoded)
            self._records.append(record)
            self._seq = seq + 1
            self._prev = record.hash
            if kind in COUNTED and self._figures is not None:
                try:
                    self._figures.take(kind, call, data, at)
                except Exception:  # figures are derived: whoever wants them reads the log
                    self._figures = None
        if self.watchers:
            self.watched(event)

    def _write_inputs(self, at: int, kind: str, call: str | None) -> None:
        """Writes which inputs came to the program since the last event. Under the lock."""
        came, self.inputs.came = self.inputs.came, []
        if (data := noted(came, kind, call)) is None:
            return
        try:
            record = seal(self.id, self._seq, at, None, None, ev.NOTE, data, self._prev)
        except UnicodeEncodeError:
            record = seal(self.id, self._seq, at, None, None, ev.NOTE, unicode_only(data), self._prev)
        self._records.append(record)
        self._seq += 1
        self._prev = record.hash

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._generation != _generation:
            raise LogWriteError(
                f"session '{self.id}' belongs to the process that this one was forked from",
                hint="In a forked process, leave session= away, or open a session there: lllm.record().",
            )

    @property
    def unwritten(self) -> int:
        """Events that no flush has taken yet."""
        return len(self._records)

    async def flush(self) -> None:
        """Returns when everything emitted so far is durable. Raises LogWriteError.

        One writer at a time: agent calls that run side by side, in one loop or in several threads, wait for whoever
        writes and then find their events written too."""
        wanted = self._seq
        if self._durable >= wanted and self._broken is None:
            return
        here = asyncio.get_running_loop()
        while self._durable < wanted:
            with self._lock:
                self._check()
                waiter: asyncio.Future[None] | None = None
                other = self._writing
                if other is not None and not is_blocked(other.loop):
                    waiter = here.create_future()
                    self._waiting = (*self._waiting, waiter)
                elif self._durable >= wanted:
                    return
                else:
                    if other is not None:  # its loop stands still, perhaps until this very call has ended
                        self._take_back(other)
                    mine = self._writing = _new(_Writing, (here, self._records, self._blobs))
                    records, blobs = mine.records, mine.blobs
                    self._records, self._blobs = [], {}
                    if self._doubtful:  # they alone: refused as a whole, they are stored
                        self._records = records[self._doubtful :]
                        del records[self._doubtful :]
            if waiter is not None:
                assert other is not None
                await self._wait(waiter, None if other.loop is here else _LOOK)
                continue
            stored = False
            token = inputs.enter(True)
            try:
                await self.store.append(records, blobs)
                stored = True
            except LLMError as error:
                if self._writing is not mine:
                    continue  # another one has taken it over meanwhile, and says what came of it
                if not (self._doubtful and self._stored(records)):
                    self._broken = error
                    raise
                stored = True
                with self._lock:
                    self._blobs = {**blobs, **self._blobs}  # some may have been kept since
            except Exception as error:  # a store that breaks its contract has failed all the same
                if self._writing is not mine:
                    continue
                self._broken = LogWriteError(f"the log store raised {type(error).__name__}: {text_of(error)}")
                raise self._broken from error
            finally:
                inputs.leave(token)
                self._wrote(mine, stored)
        if self._broken is not None:
            raise self._broken  # whoever wrote for us failed

    @property
    def notes_all(self) -> bool:
        """Whether the log has the place of every call and effect that is handed back, also of one that had not to wait."""
        return False

    async def hand_back(self, name: str) -> None:
        """Flushes, and waits for its turn among the inputs of the program: a call (`c2`) or an effect (`f3`) is about to
        return."""
        if not self.notes_all and (self._durable >= self._seq or not self.logs):
            return await self.flush()
        crowded = self.inputs.crowded
        waited: list[None] = []
        if crowded:
            asyncio.get_running_loop().call_soon(waited.append, None, context=contextvars.Context())
        try:
            await self.flush()
            if self.inputs.crowded and (
                self.notes_all or waited or not crowded
            ):  # others may have come meanwhile
                await self.inputs.turn()
                self.inputs.came.append(name)
        except asyncio.CancelledError:
            self.inputs.stopped(name)
            await self._backed_out(name)
            raise
        return None

    async def back_out(self, name: str) -> None:
        """As `hand_back`, on the way out of what was cancelled."""
        if not self.notes_all and (self._durable >= self._seq or not self.logs):
            return await self.flush()
        if not self.inputs.crowded:
            try:
                return await asyncio.shield(self.flush())
            finally:
                self.inputs.hears_of_stop(name, waited=False)
        flushing = asyncio.ensure_future(self.flush())
        await inputs.through(flushing)
        flushing.result()
        return await self._backed_out(name)

    async def _backed_out(self, name: str) -> None:
        """The caller of a call or an effect learns when its turn has come that this was cancelled."""
        coming = self.inputs
        if coming.crowded and coming.on and not coming.follows:
            await coming.turn(leaving=True)
            coming.hears_of_stop(name)

    async def _wait(self, waiter: asyncio.Future[None], seconds: float | None) -> None:
        """Waits for whoever writes; no longer than `seconds` where that is in another loop, which may be made to wait for
        something else before it is done."""
        if seconds is None:
            await waiter
        else:
            with inputs.effect():
                done, _ = await asyncio.wait((waiter,), timeout=seconds)
            if done:
                return
            with self._lock:
                self._waiting = tuple(one for one in self._waiting if one is not waiter)

    def _wrote(self, mine: _Writing, stored: bool) -> None:
        """After an append, unless another flush has taken it over."""
        with self._lock:
            if self._writing is not mine:
                return
            if stored:
                self._durable, self._doubtful = mine.records[-1].seq + 1, 0
            elif self._broken is None:
                self._take_back(mine)
            self._writing = None
            waiting, self._waiting = self._waiting, ()
        if waiting:
            _wake(waiting)

    def _take_back(self, given: _Writing) -> None:
        """After an append that was cancelled, or is not coming on: the store may write it still, or not. Whoever flushes next
        finds out, by writing it again. Under the lock."""
        self._records = [*given.records, *self._records]
        self._blobs = {**given.blobs, **self._blobs}
        self._doubtful = len(given.records)

    def _stored(self, records: Sequence[Record]) -> bool:
        """Whether the store holds these very records."""
        try:
            found = self.store.read(self.id, records[0].seq - 1)
            return [bytes(body) for body in found] == [record.body for record in records]
        except LLMError:
            return False

    @property
    def durable(self) -> int:
        """How many events are stored."""
        return self._durable

    def keep(self, data: bytes) -> str:
        """Keeps bytes as a blob of the session, without secrets, and gives their digest."""
        data = self.cleaned(data)
        name = digest(data)
        if self.logs:
            with self._lock:
                self._blobs[name] = data
        return name

    def keep_bytes(self, data: bytes) -> BlobRef:
        """`keep`, for a part of a dialog: the digest with the bytes that were kept."""
        data = self.cleaned(data)
        return BlobRef(self.keep(data), data)

    def blob(self, digest: str) -> bytes:
        """The bytes of a blob of the session. Raises UnknownNameError where they are not there."""
        with self._lock:
            writing = self._writing
            for kept in (self._blobs, {} if writing is None else writing.blobs):
                if (data := kept.get(digest)) is not None:
                    return data
        return self.store.blob(digest)

    def cleaned(self, data: bytes) -> bytes:
        """A blob as the session keeps it: without secrets."""
        return self.redactor.blob(data)

    def is_forked(self) -> bool:
        """Whether this process was forked from the session's."""
        return self._generation != _generation


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    here = asyncio.get_running_loop()
    for waiter in waiting:
        loop = waiter.get_loop()
        if loop is here:
            _settle(waiter)
        else:
            with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle, waiter)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
