"""A model whose replies are those of a recorded session: `replay/SESSION` from the log, `replay/FILE.lllm` from a file.

A request is known again by its messages, the tools that it offers, its sampling and its format, to the byte: not by the
model's name, which is `replay/...` now. Equal requests get the recorded replies in their order, in every session again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from lllm.config.environ import everything
from lllm.core import events as ev
from lllm.core.canonical import decode, digest, digest_of, encode
from lllm.core.choice import freed
from lllm.core.dialog import Node, extend, messages_of
from lllm.core.jsonable import jsonable
from lllm.core.long_results import READER
from lllm.core.parts import as_logged
from lllm.core.spec import Limits
from lllm.deltas import pieces
from lllm.errors import LLMError, NotRecorded
from lllm.llm.own_tools import result_reader
from lllm.log.copy import SUFFIX, read_session
from lllm.log.folding import Folding
from lllm.log.proof import prove
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, LogStore, Request
from lllm.replay.agreement import without_secrets

CHUNK: Final = 24
"""Characters of a piece, when a reply is streamed."""
SESSIONS: Final = 4096
"""Of how many sessions it is known what they have asked."""


class Asked(NamedTuple):
    """A request, as far as a reply depends on it and not on who gives it.

    Attributes:
        head: the dialog. tools: `sha256:...` of the tools that were offered, or None. format: that of the form of the
            reply, or None.
    """

    head: Node | None
    tools: str | None
    sampling: Mapping[str, Any]
    format: str | None

    @property
    def key(self) -> str:
        """What is equal for equal requests."""
        head = None if self.head is None else self.head.id
        return digest_of([head, self.tools, self.sampling, self.format])


class Recorded(NamedTuple):
    """A request of a recorded session, the event that it is, and the event of its reply (None: it had none)."""

    asked: Asked
    seq: int
    call: str
    reply: Mapping[str, Any] | None


class Source:
    """The requests and replies of a recorded session.

    Raises:
        UnknownNameError: there is no such session. LogCorrupt: it is not as it was written.
    """

    def __init__(self, store: LogStore, id: str) -> None:
        self.id = id
        self.store = store
        self.requests: list[Recorded] = []
        self.replies: dict[str, list[Mapping[str, Any]]] = {}
        # the caller redacts this machine's secrets in the request
        self._read(without_secrets(prove(store, id), everything(), store.blob))

    def _read(self, events: Sequence[Mapping[str, Any]]) -> None:
        folding = Folding()
        openings: dict[str, Mapping[str, Any]] = {}
        open_: dict[str, tuple[Asked, int]] = {}
        for event in events:
            state = folding.take(event)
            kind, call = event["kind"], event["call"]
            if kind == ev.CALL_STARTED:
                openings[call] = event["data"]
            elif kind == ev.MODEL_REQUESTED:
                opening, offered = openings[call], event["data"].get("tools")
                sampling = opening.get("sampling", {})
                if state.rounds and state.spec.rules > 1:
                    sampling = freed(sampling)
                asked = Asked(
                    state.branch or state.trunk,
                    self._offered(opening, state.branch or state.trunk) if offered else None,
                    sampling,
                    opening.get("format"),
                )
                open_[call] = (asked, event["seq"])
            elif kind in (ev.MODEL_REPLIED, ev.MODEL_FAILED) and call in open_:
                asked, seq = open_.pop(call)
                reply = event if kind == ev.MODEL_REPLIED else None
                self.requests.append(Recorded(asked, seq, call, reply))
                if reply is not None:
                    self.replies.setdefault(asked.key, []).append(reply)

    def _offered(self, opening: Mapping[str, Any], head: Node | None) -> str | None:
        """The digest of the tools of a recorded request."""
        specs: str | None = opening.get("specs")
        if head is None or not head.offered or specs is None:
            return specs
        limit = opening.get("spec", {}).get("limits", {}).get("max_result_chars", Limits().max_result_chars)
        further = {READER: result_reader(limit).spec()}
        if "deferred" in opening:
            further |= {one["function"]["name"]: one for one in decode(self.store.blob(opening["deferred"]))}
        shown = decode(self.store.blob(specs))
        return digest(encode([*shown, *(further[name] for name in head.offered if name in further)]))

    def nearest(self, asked: Asked) -> Recorded | None:
        """The answered request that has most in common: the longest equal beginning of the dialog, then the rest."""
        answered = [one for one in self.requests if one.reply is not None]
        return max(answered, key=lambda one: _common(one.asked, asked), default=None)

    def differences(self, recorded: Asked, present: Asked) -> list[str]:
        """What differs between two requests, in words: the first message that does, tools, sampling, format."""
        out = []
        sides = zip_longest(messages_of(recorded.head), messages_of(present.head))
        for number, (old, new) in enumerate(sides, 1):
            if old is None or new is None or Node(old).id != Node(new).id:
                out.append(f"message {number}: recorded {_told(old)}, now {_told(new)}")
                break
        if recorded.tools != present.tools:
            out.append(f"tools: recorded {self._names(recorded.tools)}, now others")
        old_values, new_values = recorded.sampling, present.sampling
        out += [
            f"{name}: recorded {old_values.get(name)!r}, now {new_values.get(name)!r}"
            for name in sorted({*old_values, *new_values})
            if encode(old_values.get(name)) != encode(new_values.get(name))
        ]
        if recorded.format != present.format:
            out.append("format: another form of the reply is asked for")
        return out

    def _names(self, specs: str | None) -> str:
        if specs is None:
            return "none"
        try:
            return ", ".join(spec["function"]["name"] for spec in decode(self.store.blob(specs)))
        except (LLMError, LookupError, TypeError):
            return "others"


class ReplayBackend:
    """Answers from recorded sessions; nothing is asked of a model, and nothing is paid.

    Args:
        store: where sessions are; the configured log by default. A model's name that ends in `.lllm` is a file.

    `Reply.source` says which event a reply is. NotRecorded, with the nearest request and what differs, for a request that
    the session did not make, or not so often.
    """

    needs_model = True
    capabilities = Capabilities(
        grammar=True, logprobs=True, token_ids=True, vision=True, seed=True, files=True, tool_parts="tool"
    )

    def __init__(self, store: LogStore | None = None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._sessions: dict[str, Source] = {}
        self._given: OrderedDict[str, dict[tuple[str, str], int]] = OrderedDict()

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`. All requests without a session count as those of one."""
        return self.stream_in("", request)

    async def stream_in(self, session: str, request: Request) -> AsyncGenerator[Delta, None]:
        """The same for the session of that id."""
        source = self._open(request.model)
        reply = self._reply(source, session, asked_of(request))
        for delta in pieces(reply, CHUNK) if request.stream else ():
            yield delta
        yield Completed(reply)

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`. Reports a session that does not exist."""
        self._open(request.model)

    async def aclose(self) -> None:
        """Forgets the sessions that were read."""
        with self._lock:
            self._sessions.clear()
            self._given.clear()

    def _open(self, name: str) -> Source:
        with self._lock:
            found = self._sessions.get(name)
            if found is None:
                if name.endswith(SUFFIX):
                    found = Source(*read_session(name))
                else:
                    found = Source(self._log(), name)
                self._sessions[name] = found
            return found

    def _log(self) -> LogStore:
        if self._store is None:
            from lllm.llm.project import default_store

            self._store = default_store()
        return self._store

    def _reply(self, source: Source, session: str, asked: Asked) -> Reply:
        key = asked.key
        recorded = source.replies.get(key, [])
        with self._lock:
            given = self._given.setdefault(session, {})
            self._given.move_to_end(session)
            if len(self._given) > SESSIONS:
                self._given.popitem(last=False)
            number = given.get((source.id, key), 0)
            if number < len(recorded):
                given[source.id, key] = number + 1
        if number == len(recorded):
            raise _missing(source, asked, number)
        event = recorded[number]
        return Reply.from_record(event["data"]).with_(source=f"{source.id}#{event['seq']}")


def asked_of(request: Request) -> Asked:
    """A request as a log would have it."""
    form = request.format
    wire = None if form is None else {key: form[key] for key in ("name", "schema", "strict") if key in form}
    return Asked(
        extend(None, map(as_logged, request.messages)),
        digest(encode(list(request.tools))) if request.tools else None,
        jsonable(request.sampling),
        None if wire is None else digest_of(wire),
    )


def _missing(source: Source, asked: Asked, given: int) -> NotRecorded:
    request = messages_of(asked.head)
    last = request[-1] if request else None
    what = f"a request of {len(request)} message{'s' * (len(request) != 1)} that ends with {_told(last)}"
    if given:
        return NotRecorded(
            f"session '{source.id}' has {given} repl{'ies' if given > 1 else 'y'} to {what}, "
            f"and one more was asked for",
            hint="Ask as often as the session did, or a model.",
        )
    near = source.nearest(asked)
    if near is None:
        return NotRecorded(f"session '{source.id}' has no replies; asked was {what}")
    differs = source.differences(near.asked, asked)
    return NotRecorded(
        f"session '{source.id}' has no reply to {what}; the nearest request is event {near.seq} of call {near.call}: "
        f"{'; '.join(differs)}",
        nearest=near.seq,
        differs=differs,
        hint=f"To ask a model for what has changed: lllm fork {source.id}",
    )


def _common(recorded: Asked, present: Asked) -> tuple[int, int]:
    """How much two requests have in common."""
    ours, theirs = messages_of(recorded.head), messages_of(present.head)
    same = 0
    for old, new in zip(ours, theirs, strict=False):
        if Node(old).id != Node(new).id:
            break
        same += 1
    rest = (recorded.tools == present.tools, recorded.format == present.format, len(ours) == len(theirs))
    return same, sum(rest) + (encode(recorded.sampling) == encode(present.sampling))


def _told(message: Message | None) -> str:
    """A message in a few words."""
    if message is None:
        return "nothing"
    text = " ".join(message.text.split())
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return f"{message.role} {short!r}"
