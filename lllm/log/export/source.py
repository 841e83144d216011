"""A session as the writers of formats read it: its events, and the dialogs that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from lllm.core import events as ev
from lllm.core.canonical import decode
from lllm.core.dialog import Node, messages_of
from lllm.log.folding import CallInfo, Folding, SessionState
from lllm.log.transcript import Row, transcript
from lllm.log.views import Summary, load, summary
from lllm.models.message import Message
from lllm.ports import LogStore


class Said(NamedTuple):
    """An accepted reply: its place in its call's dialog, and the data of ModelReplied."""

    place: int
    data: Mapping[str, Any]


class Talk(NamedTuple):
    """A dialog that no later call goes on from.

    Attributes:
        call: the agent call that it ends with.
        messages: all of it, oldest first; what a repair dropped is not in it.
        replies: the accepted replies of this session in it, oldest first.
        tools: what the last call offered, in the chat-completions form.
    """

    call: CallInfo
    messages: tuple[Message, ...]
    replies: list[Said]
    tools: list[dict[str, Any]]


class Source:
    """A session, read once.

    Raises UnknownNameError for a session that is not there, LogCorrupt for one that is not as it was written.
    """

    def __init__(self, store: LogStore, session: str) -> None:
        self.store = store
        self.session = session
        self.events = load(store, session)
        self._specs: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def summary(self) -> Summary:
        return summary(self.events)

    @cached_property
    def rows(self) -> list[Row]:
        return transcript(self.events)

    @cached_property
    def _folded(self) -> tuple[SessionState, dict[str, list[Said]]]:
        folding = Folding()
        last: dict[str, Mapping[str, Any]] = {}
        replies: dict[str, list[Said]] = {}
        for event in self.events:
            state, call = folding.take(event), event["call"]
            if event["kind"] == ev.MODEL_REPLIED:
                last[call] = event["data"]
            elif event["kind"] == ev.REPLY_ACCEPTED and state.trunk is not None:
                # a reply whose tools ran is followed by nothing yet: results are injected when all are there
                replies.setdefault(call, []).append(Said(state.trunk.length - 1, last[call]))
        return folding.state(), replies

    @property
    def state(self) -> SessionState:
        return self._folded[0]

    def talks(self) -> Iterator[Talk]:
        """The dialogs, in the order in which they ended. Each message of the log is in as few of them as can be: a dialog
        that a later call goes on from is the beginning of that call's."""
        state, replies = self._folded
        heads: dict[str, list[str]] = {}
        before: dict[str, str] = {}
        for call, info in state.infos.items():
            if info.base is not None and (found := heads.get(info.base)):
                # of several calls with the same dialog, each continuation takes one
                before[call] = found.pop() if len(found) > 1 else found[0]
            trunk = state.calls[call].trunk
            if info.status == "done" and trunk is not None:
                heads.setdefault(trunk.id, []).append(call)
        inner = set(before.values())
        for call, info in state.infos.items():
            messages = messages_of(state.calls[call].trunk)
            if call in inner or not messages:
                continue
            said: list[Said] = []
            at: str | None = call
            chain = []
            while at is not None:
                chain.append(at)
                at = before.get(at)
            for one in reversed(chain):
                said += replies.get(one, ())
            yield Talk(info, messages, said, self.tools(info.opening, state.calls[call].trunk))

    def tools(self, opening: Mapping[str, Any], trunk: Node | None = None) -> list[dict[str, Any]]:
        """The tools that a call offered, in the chat-completions form, by the data of CallStarted; with those that results in
        its dialog have offered."""
        shown = self._schemas(opening.get("specs"))
        if trunk is None or not trunk.offered:
            return shown
        further = {one["function"]["name"]: one for one in self._schemas(opening.get("deferred"))}
        return [*shown, *(further[name] for name in trunk.offered if name in further)]

    def _schemas(self, digest: str | None) -> list[dict[str, Any]]:
        if digest is None:
            return []
        if digest not in self._specs:
            self._specs[digest] = decode(self.store.blob(digest))
        return self._specs[digest]


def outcomes(rows: Sequence[Row]) -> dict[int, Row]:
    """The result of each tool run, by the event number of the run."""
    waiting: dict[tuple[str | None, str], list[int]] = {}
    found: dict[int, Row] = {}
    for row in rows:
        key = (row.call, str(row.detail.get("id")))
        if row.kind == "tool":
            waiting.setdefault(key, []).append(row.seq)
        elif row.kind == "result" and waiting.get(key):
            for seq in waiting.pop(key):  # a resumed session may have run it twice
                found[seq] = row
    return found
