"""A session, folded: the machine's state of every agent call, and what there is to know of it from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.dialog import Node
from lllm.core.events import Event
from lllm.core.machine import TABLE, step
from lllm.core.state import Opening, State
from lllm.errors import IllegalMove, LogCorrupt, text_of

UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions raised when reading an event that is sealed, but not by lllm. ConfigError is a ValueError."""
UNFINISHED: Final = "unfinished"
"""The status of a session or call whose end is not in the log."""


class CallInfo(NamedTuple):
    """An agent call, from outside.

    Attributes:
        parent, via: the call and the tool call within it that this one serves; None for a call of the program.
        dialog: the caller's dialog. base: the node that the call went on from; None for a new dialog.
        status: done, failed, cancelled or unfinished. ending: the data of CallEnded.
    """

    id: str
    agent: str
    model: str = ""
    parent: str | None = None
    via: str | None = None
    dialog: str | None = None
    base: str | None = None
    status: str = UNFINISHED
    started: int = 0
    ended: int | None = None
    opening: Mapping[str, Any] = {}
    ending: Mapping[str, Any] = {}


class SessionState(NamedTuple):
    """A session as its events leave it.

    Attributes:
        meta: the data of SessionStarted. ending: that of SessionEnded, empty without one.
        calls: the machine's state of every agent call, by id, in the order in which they began.
        infos: the same calls from outside.
        status: done, failed, cancelled or unfinished.
    """

    session: str = ""
    meta: Mapping[str, Any] = {}
    ending: Mapping[str, Any] = {}
    calls: Mapping[str, State] = {}
    infos: Mapping[str, CallInfo] = {}
    started: int = 0
    ended: int | None = None

    @property
    def status(self) -> str:
        return str(self.ending.get("status", UNFINISHED))

    @property
    def name(self) -> str:
        return str(self.meta.get("name") or self.session)


class Folding:
    """Takes a session's events one by one."""

    def __init__(self) -> None:
        self.session = ""
        self.meta: Mapping[str, Any] = {}
        self.ending: Mapping[str, Any] = {}
        self.started = 0
        self.ended: int | None = None
        self.calls: dict[str, State] = {}
        self.infos: dict[str, CallInfo] = {}
        self._ends: list[Node] = []  # dialogs whose nodes are not in _nodes yet
        self._nodes: dict[str, Node] = {}

    def take(self, event: Mapping[str, Any]) -> State:
        """Goes on by one event; gives the state of its call (an empty one for an event of the session)."""
        kind, data, at, call = event["kind"], event["data"], event["at"], event["call"]
        if not self.session:
            self.session, self.started = event["session"], at
        if kind == ev.SESSION_STARTED:
            self.meta, self.started = data, at
        elif kind == ev.SESSION_ENDED:
            self.ending, self.ended = data, at
        if call is None:
            return State()
        if kind == ev.CALL_STARTED:
            self._begin(call, event)
        state = self.calls.get(call)
        if state is None:
            raise LogCorrupt(
                f"event {event['seq']} belongs to call {call}, which has not begun", seq=event["seq"]
            )
        if kind == ev.CALL_ENDED:
            info = self.infos[call]
            self.infos[call] = info._replace(status=data["status"], ended=at, ending=data)
        if kind in _MOVES:
            state = self._step(state, event, call)
        return state

    def state(self) -> SessionState:
        return SessionState(
            self.session, self.meta, self.ending, dict(self.calls), dict(self.infos), self.started, self.ended
        )

    def node(self, id: str) -> Node | None:
        """The node of that id in any dialog so far."""
        for end in self._ends:
            node: Node | None = end
            while node is not None and node.id not in self._nodes:
                self._nodes[node.id] = node
                node = node.parent
        self._ends.clear()
        return self._nodes.get(id)

    def _begin(self, call: str, event: Mapping[str, Any]) -> None:
        data = event["data"]
        self.calls[call] = State()
        self.infos[call] = CallInfo(
            call,
            data.get("agent") or "",
            data.get("model") or "",
            data.get("parent"),
            data.get("via"),
            event["dialog"],
            data.get("base"),
            started=event["at"],
            opening=data,
        )

    def _step(self, state: State, event: Mapping[str, Any], call: str) -> State:
        data, seq = event["data"], event["seq"]
        value = found = None
        if event["kind"] == ev.CALL_STARTED and (base := data.get("base")) is not None:
            found = self.node(base)
            if found is None:
                raise LogCorrupt(
                    f"event {seq}: call {call} goes on from a dialog that this session lacks", seq=seq
                )
        try:
            if found is not None:
                value = Opening.from_record(data, found)
            after, _ = step(state, Event(event["kind"], data, event["at"], call, event["dialog"], value))
        except IllegalMove as error:
            raise LogCorrupt(f"event {seq}: {error.message}", seq=seq, hint=error.hint) from error
        except UNREADABLE as error:
            raise LogCorrupt(
                f"event {seq} ({event['kind']}) was not written by lllm: {type(error).__name__}: {text_of(error)}",
                seq=seq,
            ) from error
        self.calls[call] = after
        if after.terminal and after.trunk is not None:
            self._ends.append(after.trunk)
        return after


_MOVES: Final = frozenset(kind for moves in TABLE.values() for kind in moves)
