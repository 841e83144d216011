"""A session: the one writer of its log.

`emit` gives an event its time, number and place in the hash chain; `flush` returns when everything emitted is durable.
Whoever acts on the world flushes first, so nothing happens that is not in the log. A replayed session has the same face
(`lllm.replay.Replayed`) and compares where this one writes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from lllm import inputs
from lllm.bounds import enclosing
from lllm.config.environ import latest, remember
from lllm.core import events as ev
from lllm.core.canonical import digest, encode
from lllm.core.dialog import Node
from lllm.core.envelope import seal
from lllm.core.events import Event
from lllm.core.figures import COUNTED, Counting
from lllm.core.jsonable import jsonable, unicode_only
from lllm.core.redact import Redactor, scrub
from lllm.errors import LLMError, LogWriteError, text_of
from lllm.handles import claiming, html_of, keeps_nothing, summing
from lllm.loops import is_blocked, kept_here
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import BlobRef
from lllm.plug_ins import PLUG_IN, guarded
from lllm.ports import Completed, Delta, LogStore, Record
from lllm.redacted_deltas import RedactedDeltas
from lllm.session_effects import Effects, Place
from lllm.session_hooks import Hooks
from lllm.session_resources import ResourceOwner
from lllm.terminals import warn

Follower = Callable[[str, Delta], None]
Watcher = Callable[[Event], None]

_new = tuple.__new__

WAITING = "Waiting"
"""The kind of what watchers see when a back-off wait begins (`seconds`). It is no event: the log has the wait's end."""


class Scope(NamedTuple):
    """Where code is running: in which session, and within which tool call of which agent call."""

    session: Session
    call: str | None = None
    tool_call: str | None = None


current: contextvars.ContextVar[Scope | None] = inputs.scope
"""The scope of the running code. A tool's code and everything that it calls sees the tool's own."""

_own_code: contextvars.ContextVar[tuple[Scope | None, Session, Place] | None]
_own_code = contextvars.ContextVar("lllm_own_code", default=None)
"""The place of the parser, handler or approval that is running, with the scope that this was entered in."""


@contextmanager
def own_code(session: Session, place: Place) -> Iterator[None]:
    """Around a parser, a handler or an approval of an agent call: the place of the effects of its code."""
    token = _own_code.set((current.get(), session, place))
    looked = session.look(True)
    try:
        yield
    finally:
        session.look(looked)
        _own_code.reset(token)


unscoped: Final[list[Callable[[], None]]] = []
"""Called before code without a scope opens a session, or does what would be recorded; may raise. Replays refuse that in
threads that do not know the session."""


def acting() -> Session | None:
    """The session whose code is running, unless it has ended, or a replay has still to open it."""
    scope, own = current.get(), _own_code.get()
    session = own[1] if own is not None and own[0] is scope else scope.session if scope is not None else None
    return None if session is None or session.ended or session.unopened else session


def recording() -> Session | None:
    """The session in which an effect of the running code is recorded, see `acting`. ConfigError in a thread of a replayed
    program that does not know the session: the effect would be done once more."""
    session = acting()
    if session is None and unscoped and current.get() is None:
        for look in unscoped:
            look()
    return session


_generation = 0  # of this process: one more than its parent's


def _forked() -> None:
    # two processes cannot write one session: the child's calls get sessions of their own
    global _clocks, _generation
    _clocks = threading.Lock()
    _generation += 1
    current.set(None)
    _own_code.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def new_id(name: str = "") -> str:
    """A session id: time, a name made safe for files and shells, and randomness. At most 80 characters."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{stamp}{_word(name[:60])}-{os.urandom(4).hex()}"


@lru_cache(maxsize=64)
def _word(name: str) -> str:
    """The part of a session id that is made of a name, with a dash before it; empty where nothing of the name is safe."""
    word = "".join(char if char.isascii() and char.isalnum() else "-" for char in name).strip("-").lower()
    while "--" in word:
        word = word.replace("--", "-")
    word = word[:40].strip("-")
    return f"-{word}" if word else ""


_clocks = threading.Lock()  # of all clocks: each is held for an assignment


class Clock:
    """Microseconds since the epoch, for the times in a log.

    The wall clock, which may be set at any time. While an agent call is running it is that of the call's beginning plus
    what has passed since, by the monotonic clock: a deadline is neither missed nor met too early because somebody, or NTP,
    has set the clock. A machine that was suspended in a call has not worked in that time, and it is not counted.
    """

    __slots__ = ("_calls", "_offset")

    def __init__(self) -> None:
        self._calls = 0
        self._offset: int | None = None  # from the monotonic clock to the wall clock, in nanoseconds

    def __call__(self) -> int:
        offset = self._offset
        return (time.time_ns() if offset is None else offset + time.monotonic_ns()) // 1000

    def call_begins(self) -> None:
        """From now on, nobody can set it. Calls may overlap."""
        with _clocks:
            self._calls += 1
            if self._calls == 1:
                self._offset = time.time_ns() - time.monotonic_ns()

    def call_ends(self) -> None:
        """With the last of the calls it is the wall clock again."""
        with _clocks:
            self._calls -= 1
            if self._calls == 0:
                self._offset = None


class _Writing(NamedTuple):
    """An append that is under way, and the loop of the flush that makes it."""

    loop: asyncio.AbstractEventLoop
    records: list[Record]
    blobs: dict[str, bytes]


_LOOK: Final = 0.2
"""Seconds after which a flush that waits for one in another loop looks whether that one still comes on."""


class Session(Hooks, Effects, ResourceOwner):
    """A live session.

    Args:
        store: where the log goes.
        id: the session's id; made from the time and `name` by default.
        seed: feeds every random choice of the runtime (jitter of back-off waits). Drawn when None, and logged.
        clock: microseconds since the epoch; a Clock by default. sleep: awaits seconds. Both can be replaced by a test.
        redactor: takes secrets out of all that is written and shown; by default it knows all that this process knows.
        secrets: more of them, by the name that stands in their place. They are known from the session's name on.
    """

    def __init__(
        self,
        store: LogStore,
        *,
        id: str | None = None,
        name: str = "",
        seed: str | int | None = None,
        clock: Callable[[], int] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        redactor: Redactor | None = None,
        secrets: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.store = store
        self._known = latest()
        self._refreshes = redactor is None
        self.redactor = self._known.copy() if redactor is None else redactor
        for label, values in (secrets or {}).items():
            self.learn(label, values)
        self.id = id or new_id(self.redactor.text(name))
        self.seed = os.urandom(4).hex() if seed is None else str(seed)
        self.clock = Clock() if clock is None else clock
        self.sleep = sleep
        self.followers: list[Follower] = []
        self.seen = {}
        self.listeners: list[Follower] = []
        """Followers that are a part of the program: its streams, and the `follow=` of its calls."""
        self.watchers: list[Watcher] = []
        """Called with every event as it happens, before it is durable."""
        self.approve: Callable[[FunctionCall], Any] | None = None
        """Asked about tools that want approval by calls that have no `approve=` of their own."""
        self._broken_followers: tuple[Follower, ...] = ()
        self._told: dict[str, RedactedDeltas] = {}
        self._generation = _generation
        self.dialogs: dict[str, Node] = {}
        self.started = False
        self.ended = False
        self._claimed = False
        self.logs = not keeps_nothing(store)
        self._seq = 0
        self._durable = 0
        self._doubtful = 0  # so many of the first records may be stored already
        self._prev = ""
        self._calls = 0
        self._dialogs = 0
        self.inputs = inputs.Inputs(self.logs)
        self._records: list[Record] = []
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._writing: _Writing | None = None
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        self._broken: LLMError | None = None
        self._began = 0
        self._figures = Counting() if self.logs else None
        """What the session has come to; None where it is not counted from its first event on."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "running" if self.started else "not begun"
        return f"Session({self.id!r}, {state})"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: a row for each thing that happened and is stored. None, and so the repr, where nothing
        is, or the store has no such view."""
        if not self.logs or not self._durable:
            return None
        try:
            return html_of(self.store, self.id)
        except LLMError:  # a cell shows the repr, not a traceback
            return None

    # --- the log

    def learn(self, name: str, secrets: Iterable[str]) -> None:
        """Adds secrets: what is written and shown from now on is free of them."""
        for secret in secrets:
            self.redactor.add(name, secret)
            remember(name, secret)

    def refresh(self) -> None:
        """Looks whether this process knows more secrets by now: a call begins, and the program may have set variables."""
        if self._refreshes and (known := latest()) is not self._known:
            self._known = known
            self.redactor.take(known)

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        """An event that happens now, as it can be written: free of secrets, and Unicode. Where that is not `data` as it was
        given, it has no `value`: the machine goes on with what the log says, so that a fold of the log is the live state.
        The event is not in the log before `write`."""
        if value is not None and isinstance(value, BaseException):
            scrub(value, self.redactor)
        if not self.logs and not (data and self.redactor):
            return Event(kind, data, self.clock(), call, dialog, value)
        fit, encoded = self._fit(data)
        if fit is not data and not isinstance(value, BaseException):
            value = None
        return _new(Event, (kind, fit, self.clock(), call, dialog, value, encoded))  # quicker than Event(...)

    def _fit(self, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes]:
        try:
            encoded = encode(data)
        except UnicodeEncodeError:
            data = unicode_only(data)
            encoded = encode(data)
        if self.redactor.finds(encoded):
            data = self.redactor.clean(data)
            encoded = encode(data)
        return data, encoded

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
                self._write_inputs(at)
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

    def _write_inputs(self, at: int) -> None:
        """Writes which inputs came to the program since the last event. Under the lock."""
        came, self.inputs.came = self.inputs.came, []
        data = {"of": "inputs", "text": " ".join(came)}
        record = seal(self.id, self._seq, at, None, None, ev.NOTE, data, self._prev)
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

    def emit(
        self, kind: str, data: Mapping[str, Any], call: str | None = None, dialog: str | None = None
    ) -> Event:
        """Appends an event that no machine has to step first."""
        event = self.stamp(kind, data, call, dialog)
        self.write(event)
        return event

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
                    mine = self._writing = _Writing(here, self._records, self._blobs)
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

    async def hand_back(self, name: str) -> None:
        """Flushes, and waits for its turn among the inputs of the program: a call (`c2`) or an effect (`f3`) is about to
        return."""
        if self._durable >= self._seq or not self.logs:
            return await self.flush()
        crowded = self.inputs.crowded
        waited: list[None] = []
        if crowded:
            asyncio.get_running_loop().call_soon(waited.append, None, context=contextvars.Context())
        try:
            await self.flush()
            if self.inputs.crowded and (waited or not crowded):  # others may have come meanwhile
                await self.inputs.turn()
                self.inputs.came.append(name)
        except asyncio.CancelledError:
            self.inputs.stopped(name)
            await self._backed_out(name)
            raise
        return None

    async def back_out(self, name: str) -> None:
        """As `hand_back`, on the way out of what was cancelled."""
        if self._durable >= self._seq or not self.logs:
            return await self.flush()
        if not self.inputs.crowded:
            return await asyncio.shield(self.flush())
        flushing = asyncio.ensure_future(self.flush())
        await inputs.through(flushing)
        flushing.result()
        return await self._backed_out(name)

    async def _backed_out(self, name: str) -> None:
        """The caller of a call or an effect learns when its turn has come that this was cancelled."""
        coming = self.inputs
        if coming.crowded and coming.on and not coming.follows:
            await coming.turn(leaving=True)
            coming.came.append(f"x{name}")

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

    # --- life

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        """Writes SessionStarted, once. `meta` says what is run: name, entry, task, config."""
        if not self.started:
            self.claim()
            self.started = True
            from lllm._version import __version__

            data = {"seed": self.seed, "lllm": __version__, "inputs": kept_here(), **(meta or {})}
            try:
                self.emit(ev.SESSION_STARTED, data)
            except BaseException:
                self.started = False
                self.release()
                raise

    async def end(self, status: str, **data: Any) -> None:
        """Writes SessionEnded, once, and flushes; then closes what was opened for the session. `status` is done, failed
        or cancelled."""
        try:
            await self._end(status, **data)
        finally:
            self._over = True
            if self._resources is not None:
                await self.close_resources()

    async def _end(self, status: str, **data: Any) -> None:
        try:
            if self.started and not self.ended:
                ended = self.emit(ev.SESSION_ENDED, {"status": status, **data})
                self.ended = True
                self.inputs.on = False
                await self.flush()
                self._sum_up(ended.at, status)
            await self.flush()
        finally:
            self.release()  # also where it cannot be written any more: then it can be resumed

    def _sum_up(self, at: int, status: str) -> None:
        """Gives the store the figures of the session, so that nobody has to read it for them."""
        with suppress(*PLUG_IN):  # figures are derived: whoever wants them reads the log
            keeper = summing(self.store)
            if self._figures is not None and keeper is not None:
                figures, self._figures = self._figures, None
                summary = partial(figures.summary, self._seq, self._prev, None)
                keeper.keep_summary(self.id, (self._began, at, self._seq, status), summary)

    def claim(self) -> None:
        """Makes this the session's one writer. LogWriteError while another process, or another Session here, is."""
        with guarded("the log store: claim", LogWriteError):
            if not self._claimed and (store := claiming(self.store)) is not None:
                store.claim(self.id)
                self._claimed = True

    def release(self) -> None:
        """Lets somebody else write the session."""
        if self._claimed:
            self._claimed = False
            with guarded("the log store: release", LogWriteError):
                if (store := claiming(self.store)) is not None:
                    store.release(self.id)

    def new_call(
        self, agent: str, parent: Scope | None, add: Sequence[Message] = (), key: str | None = None
    ) -> str:
        """The id of the next agent call: c1, c2, ... By its key, else by the messages that it adds to its dialog, a replay
        knows it again."""
        with self._lock:
            self._calls += 1
            return f"c{self._calls}"

    def new_dialog(self) -> str:
        """The id of the next dialog: d1, d2, ..."""
        with self._lock:
            self._dialogs += 1
            return f"d{self._dialogs}"

    # --- followers

    def tell(self, call: str, delta: Delta, *, again: bool = False) -> Sequence[Delta]:
        """Shows a piece of a reply to whoever follows, free of secrets: gives what was shown. A follower that raises does not
        disturb the call: that it did is noted, once.

        `again`: the reply is a recorded one. The program alone is told, which does what it does by what it sees."""
        shown: Sequence[Delta] = (delta,)
        if self.redactor and not again:
            told = self._told.get(call)
            if told is None:
                told = self._told[call] = RedactedDeltas(self.redactor)
            shown = tuple(told.take(delta))
            if type(delta) is Completed:
                self._told.pop(call, None)
        self._tell(call, shown, again)
        return shown

    def told(self, call: str) -> Sequence[Delta]:
        """No more of the present reply comes: shows what `tell` held back, and gives it."""
        told = self._told.pop(call, None)
        shown = () if told is None else tuple(told.rest())
        self._tell(call, shown, False)
        return shown

    def _tell(self, call: str, deltas: Sequence[Delta], again: bool) -> None:
        for delta in deltas:
            for follower in self.listeners if again else (*self.followers, *self.listeners):
                try:
                    follower(call, delta)
                except Exception as error:
                    if follower not in self._broken_followers and not again:
                        self._broken_followers = (*self._broken_followers, follower)
                        words = self.redactor.text(
                            f"a follower raised {type(error).__name__}: {text_of(error)}"
                        )
                        warn(logging.getLogger("lllm.session"), "session '%s': %s", self.id, words)
                        self.note(words, of="follower")

    def watched(self, event: Event) -> None:
        """Shows an event to whoever watches. What a watcher raises does not disturb the call."""
        for watcher in self.watchers:
            with suppress(Exception):
                watcher(event)

    # --- effects

    def where(self) -> Place:
        """Where the running code stands in this session."""
        scope, own = current.get(), _own_code.get()
        place = Place() if scope is None or scope.session is not self else Place(scope.call, scope.tool_call)
        if own is not None and own[0] is scope and own[1] is self:
            inner = own[2]
            return inner if inner.within is None else place._replace(within=inner.within)
        return place

    def is_forked(self) -> bool:
        """Whether this process was forked from the session's."""
        return self._generation != _generation

    @staticmethod
    def leave() -> None:
        """From here on, this context is outside of every session."""
        current.set(None)
        _own_code.set(None)
        enclosing.set(None)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around code whose own doings are not in the session: a replay does not run it."""
        tokens = current.set(None), _own_code.set(None)
        try:
            yield
        finally:
            current.reset(tokens[0])
            _own_code.reset(tokens[1])

    # --- what is kept

    def note(self, text: str, **more: Any) -> None:
        """A remark of the runtime. No code brings it about again, so a replay leaves it out."""
        if self.started and not self.ended:
            self.write(Session.stamp(self, ev.NOTE, {"text": text, **jsonable(more)}))

    def save_artifact(self, name: str, data: Any, *, media_type: str | None = None) -> str:
        """Keeps a file or value in the session under a name, and gives the digest of its content. A replay compares it.

        Arguments:
            name: as in `report.md` or `plots/1.png`. The same name may be used again: the last one counts.
            data: bytes as they are, text as UTF-8, any other value as JSON.
            media_type: by default what the name's end says, else what `data` is.

        `lllm show` lists artifacts, `lllm sessions artifacts` gets them out.

        Raises:
            ConfigError: a name that is not safe as a path below a folder.
            TypeError, ValueError: a value that is not JSON.
        """
        from lllm.core.artifact import artifact_of

        content, told = artifact_of(name, data, media_type)
        content = self.cleaned(content)
        scope = current.get()
        here = scope is not None and scope.session is self
        event = self.emit(
            ev.ARTIFACT,
            {**told, "digest": self.keep(content), "size": len(content)},
            scope.call if scope is not None and here else None,
        )
        return str(event.data["digest"])


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
