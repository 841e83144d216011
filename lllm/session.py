"""A session: the one writer of its log.

`emit` gives an event its time, number and place in the hash chain; `flush` returns when everything emitted is durable.
Whoever acts on the world flushes first, so nothing happens that is not in the log. A replayed session has the same face
(`lllm.replay.Replayed`) and compares where this one writes.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from lllm import inputs
from lllm.bounds import enclosing
from lllm.budgets import Ledger
from lllm.clock import Clock
from lllm.config.environ import latest, remember
from lllm.core import events as ev
from lllm.core.canonical import encode
from lllm.core.dialog import Node
from lllm.core.events import Event
from lllm.core.figures import Counting
from lllm.core.jsonable import jsonable, unicode_only
from lllm.core.redact import Redactor, scrub
from lllm.errors import LLMError, LogWriteError
from lllm.handles import claiming, html_of, keeps_nothing, summing
from lllm.loops import kept_here
from lllm.models.message import FunctionCall, Message
from lllm.plug_ins import PLUG_IN, guarded
from lllm.ports import LogStore
from lllm.session_effects import NOWHERE, Effects, Place
from lllm.session_followers import Following
from lllm.session_hooks import Hooks
from lllm.session_ids import new_id
from lllm.session_log import SessionLog
from lllm.session_resources import ResourceOwner

_new = tuple.__new__

WAITING = "Waiting"
"""The kind of what watchers see when a back-off wait begins (`seconds`). It is no event: the log has the wait's end."""


class Scope(NamedTuple):
    """Where code is running: in which session, and within which tool call of which agent call. `ledger`: where the use of
    agents that are called here is counted; None where no budget depends on it."""

    session: Session
    call: str | None = None
    tool_call: str | None = None
    ledger: Ledger | None = None
    stage: str | None = None


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


_WHILE_HALTED: Final = frozenset(
    (ev.MODEL_REPLIED, ev.MODEL_FAILED, ev.TOOL_RETURNED, ev.WAIT_ENDED, ev.EFFECT_RETURNED, ev.NOTE)
)
"""What a session that is halted still writes: what came of that which had begun."""


class _Outside:
    """See `Session.outside`. Not `contextlib.contextmanager`: every effect uses this."""

    __slots__ = ("_own", "_scope")

    def __enter__(self) -> None:
        self._scope, self._own = current.set(None), _own_code.set(None)

    def __exit__(self, *_: object) -> None:
        current.reset(self._scope)
        _own_code.reset(self._own)


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


def _forked() -> None:
    # the child's calls get sessions of their own
    current.set(None)
    _own_code.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Session(SessionLog, Following, Hooks, Effects, ResourceOwner):
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
        self._open_followers()
        self.seen = {}
        self.approve: Callable[[FunctionCall], Any] | None = None
        """Asked about tools that want approval by calls that have no `approve=` of their own."""
        self.dialogs: dict[str, Node] = {}
        self.results: dict[str, Mapping[str, str]] = {}
        """What was cut from results of tools, by the names in their texts: see `lllm.core.long_results`."""
        self.started = False
        self.ended = False
        self._claimed = False
        self.logs = not keeps_nothing(store)
        self._open_log()
        self._calls = 0
        self._dialogs = 0
        self._runs: dict[str, int] = {}
        self.inputs = inputs.Inputs(self.logs)
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
        if self.halted is not None and not self.rerun and kind not in _WHILE_HALTED:
            raise self.halted
        if value is not None and isinstance(value, BaseException):
            scrub(value, self.redactor)
        if not self.logs and not (data and self.redactor):
            return _new(
                Event, (kind, data, self.clock(), call, dialog, value, None)
            )  # quicker than Event(...)
        fit, encoded = self._fit(data)
        if fit is not data and not isinstance(value, BaseException):
            value = None
        return _new(Event, (kind, fit, self.clock(), call, dialog, value, encoded))

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

    def emit(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        *,
        encoded: bytes | None = None,
    ) -> Event:
        """Appends an event that no machine has to step first. `encoded`: `data` in canonical JSON, if already computed."""
        if encoded is None or self.rerun:
            event = self.stamp(kind, data, call, dialog)
        else:
            if self.redactor.finds(encoded):
                data = self.redactor.clean(data)
                encoded = encode(data)
            event = _new(Event, (kind, data, self.clock(), call, dialog, None, encoded))
        self.write(event)
        return event

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
            if self.halted is not None:
                self.ended = True  # what still runs in some other task is too late
                self.inputs.on = False
            elif self.started and not self.ended:
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

    def is_stopped_by(self, error: Exception) -> bool:
        return self._broken is not None or self.halted is not None

    def new_item(self, id: str, name: str) -> Session:
        """The session of an item of this batch, which is done now."""
        made = Session(self.store, id=id, name=name)
        made.approve = self.approve
        return made

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

    def new_run(self) -> str:
        """The place of the next run of a chain, by which its stages are named: 1, 2, ... In a stage or a tool call those are
        counted by themselves (`1/2:1`, `c1.ID:1`), whatever runs beside it."""
        scope = current.get()
        within = ""
        if scope is not None and scope.session is self:
            within = scope.stage or ".".join(filter(None, (scope.call, scope.tool_call)))
        with self._lock:
            number = self._runs[within] = self._runs.get(within, 0) + 1
        return f"{within}:{number}" if within else str(number)

    # --- effects

    def where(self) -> Place:
        """Where the running code stands in this session."""
        scope, own = current.get(), _own_code.get()
        place = NOWHERE if scope is None or scope.session is not self else Place(scope.call, scope.tool_call)
        if own is not None and own[0] is scope and own[1] is self:
            inner = own[2]
            return inner if inner.within is None else place._replace(within=inner.within)
        return place

    @staticmethod
    def leave() -> None:
        """From here on, this context is outside of every session."""
        current.set(None)
        _own_code.set(None)
        enclosing.set(None)

    @staticmethod
    def outside() -> AbstractContextManager[None]:
        """Around code whose own doings are not in the session: a replay does not run it."""
        return _Outside()

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
