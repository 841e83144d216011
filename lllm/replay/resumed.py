"""A session that is gone on with: it remembers as far as its record goes, and lives from there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.blobs import with_blobs
from lllm.core.events import Event
from lllm.core.redact import agrees, scrub
from lllm.core.spec import ToolRule
from lllm.errors import (
    ConfigError,
    LLMError,
    LLMInitializationError,
    LogError,
    PromptError,
    ProviderError,
    ReplayDivergence,
    SandboxBroken,
    UncertainEffect,
)
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import BlobRef
from lllm.outcomes import Outcome
from lllm.ports import LogStore
from lllm.replay import effects
from lllm.replay.blame import blame
from lllm.replay.effects import no_blob
from lllm.replay.follow import Followed
from lllm.replay.tape import SHOWN, Replayed, Tape
from lllm.session import Scope, Session
from lllm.session_effects import Asked, Recalled

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.runtime import Call

RETRY: Final = "retry"
SKIP: Final = "skip"
POLICIES: Final[Mapping[str, str | None]] = {"pure": RETRY, "idempotent": RETRY, "never": SKIP, "ask": None}
"""What is done with a tool that had begun and whose result nobody knows, by the effect that it declares. None: somebody
has to say."""


class Uncertain(NamedTuple):
    """A tool call, or an effect of the program's own code, that had begun when the process stopped: it may or may not have
    taken effect.

    Attributes:
        key: what names it here and on the command line: `c1/call_2_1`, the agent call and the tool call; `e3`, the effect.
        tool, arguments: what was called. effect: what the tool declares: pure, idempotent, ask, never.
        seq: the event that says that it began.
        idempotency_key: what the tool was given, and is given again.
        decision: retry, skip or result once it is known what is done; None while somebody has to say.
    """

    key: str
    tool: str
    arguments: str
    effect: str
    seq: int
    idempotency_key: str
    decision: str | None = None


Decision = str | Mapping[str, Any]
"""`retry`: run it (again). `skip`: do not; the model is told that the outcome is unknown. `{"result": text}`: it did
happen, and this is what it gave."""
Decide = Mapping[str, Decision] | Callable[[Uncertain], Decision | None] | str | None


def uncertain(
    events: Sequence[Mapping[str, Any]], agents: Sequence[str] = (), blob: effects.Blob = no_blob
) -> list[Uncertain]:
    """The tool calls, and the effects of the program's own code, that had begun and did not return, in the order in which
    they began. A pure tool that is an agent (`agents`), or had called one, is none: the agent's own call is gone on with.
    `blob` reads large requests of effects."""
    calls: dict[tuple[str, str], FunctionCall] = {}
    rules: dict[str, Mapping[str, Any]] = {}
    begun: dict[tuple[str, str], Mapping[str, Any]] = {}
    nested = {  # the last agent call within each tool call: models give the same id to those of several rounds
        (event["data"].get("parent"), event["data"].get("via")): event["seq"]
        for event in events
        if event["kind"] == ev.CALL_STARTED
    }
    for event in events:
        call, data, kind = event["call"], event["data"], event["kind"]
        if kind == ev.CALL_STARTED:
            rules[call] = data.get("spec", {}).get("tools", {})
        elif kind == ev.MODEL_REPLIED:
            for item in Message.from_dict(data["message"]).tool_calls:
                calls[call, item.id] = item
        elif kind == ev.TOOL_REQUESTED:
            begun[call, data["id"]] = event
        elif kind == ev.TOOL_RETURNED:
            begun.pop((call, data["id"]), None)
        elif kind in _ENDS:
            begun = {place: found for place, found in begun.items() if place[0] != call}
    out = []
    for (call, name), event in begun.items():
        made = calls[call, name]
        effect = ToolRule(**rules[call].get(made.name, {})).effect
        if effect == "pure" and (nested.get((call, name), -1) > event["seq"] or made.name in agents):
            continue
        key = f"{event['session']}/{call}/{event['data'].get('n', 0)}"
        found = Uncertain(f"{call}/{name}", made.name, made.arguments, effect, event["seq"], key)
        out.append(found._replace(decision=POLICIES.get(effect)))
    return sorted((*out, *_effects(events, blob)), key=lambda found: found.seq)


def _effects(events: Sequence[Mapping[str, Any]], blob: effects.Blob) -> Iterator[Uncertain]:
    """The effects of the program's own code that had begun and did not return."""
    for past in effects.undone(events):
        policy, key = past.data["effect"], f"{past.first['session']}/e{past.n}"
        name, asked = past.name(blob), effects.arguments(past, blob)
        yield Uncertain(f"e{past.n}", name, asked, policy, past.first["seq"], key, POLICIES.get(policy))


class Resumed(Replayed):
    """A Replayed session up to the end of its record, and a live one after it.

    What the code of today brings about is compared with the record while there is one, call by call; the first event that
    has no record is written behind the last stored one. A divergence halts it: nothing new is begun. So does what
    somebody can mend (`MENDABLE`): the session can be gone on with then.
    """

    answers = True
    goes_on = True
    ordered = True
    """Whether the program is run, and not its calls one after another."""

    def __init__(
        self,
        session: str,
        store: LogStore,
        recorded: Sequence[Mapping[str, Any]],
        decisions: Mapping[str, Decision] | None = None,
        uncertain: Sequence[Uncertain] = (),
    ) -> None:
        super().__init__(session, store, recorded)
        last = recorded[-1]
        self._seq = self._durable = last["seq"] + 1
        self._prev = last["hash"]
        self._calls = max(
            (int(event["call"][1:]) for event in recorded if _numbered(event["call"])), default=0
        )
        self._decisions = dict(decisions or {})
        self._uncertain = list(uncertain)
        self._undone = {item.key: item for item in uncertain}  # ids may come again
        self._unmatched: dict[str, Mapping[str, Any] | None] = {}  # new calls, with their beginnings
        self._left: dict[str, asyncio.Task[Any]] = {}  # calls whose streams the program has closed
        self._matched: dict[int, Event] = {}  # the events themselves: an id alone may be another one's by now
        self._live = False
        self.decide: Decide = None
        """What was decided about tools that had begun, for sessions of items."""
        self._going = threading.Lock()
        self._effects = self.effects.last
        self.asked = 0
        """Model requests that were sent."""

    @property
    def is_live(self) -> bool:
        """Whether anything was written, or done."""
        return self.order.alive is not None or not (self.ordered and self.order.keeps)

    # --- the log

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        # a tool shows it, and only one that is run now; and effects are compared by `recall`
        live = (kind in SHOWN and call is not None) or kind in effects.KINDS
        if self.halted is not None and not live and kind not in RESULTS:
            raise self.halted
        if not live and self._recorded_next(ev.line_of(kind, data, call)):
            event = super().stamp(kind, data, call, dialog, value)
            self._matched[id(event)] = event
            return event
        if kind == ev.CALL_STARTED and call in self._unmatched:
            self._unmatched[call] = data
        self._go_live()
        return Session.stamp(self, kind, self._kept(kind, data), call, dialog, value)

    def _kept(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of a new event, after storing its new blobs."""

        def keep(digest: str) -> str:
            if (raw := self._raw.get(digest)) is None:
                return digest
            clean = Session.cleaned(self, raw)
            kept = BlobRef(Session.keep(self, clean), clean)
            return digest if kept == digest else kept

        found = with_blobs(kind, data, keep)
        if kind == ev.ARTIFACT and isinstance(digest := found["digest"], BlobRef):
            found = {**found, "size": len(digest.data)}
        return found

    def write(self, event: Event) -> None:
        if self._matched.pop(id(event), None) is None:
            Session.write(self, event)

    async def flush(self) -> None:
        if self.ordered and self.order.keeps and self.order.alive is None:
            return  # nothing is done before the record's end, and what is new is written after it
        with self.order.waits_outside():
            await Session.flush(self)

    @property
    def notes_all(self) -> bool:
        """Once its record has ended. When it is resumed once more, only what the first process handed back at once has no
        place in the log, and what the end of the last one kept from it."""
        return self.order.alive is not None and self.logs

    async def hand_back(self, name: str) -> None:
        if self.order.off or self.order.alive is not None:
            await Session.hand_back(self, name)
        elif self.order.inputs.notes_returns and not self.order.inputs.has_name(name):
            try:
                if await self.order.unplaced(name):
                    await self._noted(name)
            except asyncio.CancelledError:
                await self.back_out(name)
                raise
        else:
            await super().hand_back(name)

    async def _noted(self, name: str) -> None:
        """The record ended before a call or an effect was handed back: that is an input like any other now."""
        stopped = name.startswith("x")
        await self.inputs.turn(leaving=stopped)
        if stopped:
            self.inputs.hears_of_stop(name[1:])
        else:
            self.inputs.came.append(name)

    async def back_out(self, name: str) -> None:
        if self.order.off or self.order.alive is not None:
            await Session.back_out(self, name)
        elif not self.order.inputs.has_name(f"x{name}"):
            if await self.order.unplaced(f"x{name}", leaving=True):
                await self._noted(f"x{name}")
        else:
            await super().back_out(name)

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        """The recorded start stands; from here on this is the session's writer."""

    async def _end(self, status: str, **data: Any) -> None:
        if self.halted is not None:  # it is interrupted still, and can be resumed
            self.ended = True  # what still runs in some other task is too late
            await self.flush()
            return
        if (left := self.left_over()) is not None:
            if status == "cancelled":
                return  # stopped before it had come to where it was
            cause = "code: the program of today does not make this call"
            if "error" in data:
                cause = f"{cause}, because it failed before: {data['error']}"
            raise self.diverged(left, left["kind"], None, cause, None)
        past = next(self.effects.left(), None)
        if past is not None:
            if status == "cancelled":
                return
            cause = effects.not_wanted(past, self.store.blob)
            if "error" in data:
                cause = f"{cause}, because it failed before: {data['error']}"
            raise self.diverged(past.first, ev.EFFECT_REQUESTED, None, cause, None)
        self.order.over()
        await Session._end(self, status, **data)

    def left_open(self, error: BaseException) -> bool:
        mendable = isinstance(error, MENDABLE) and not isinstance(error, ProviderError)
        if self.halted is None and mendable and not self._met(error):
            # what every other task meets then must not break out of its loop once more
            scrub(error, self.redactor)
            self.halted = error if isinstance(error, Exception) else asyncio.CancelledError()
        return self.halted is not None

    def put_off(self, error: BaseException) -> None:
        """Whoever waits for the resumption is cancelled: the session stays as it can be resumed. (A program may cancel itself,
        and that is in the log.)"""
        self.halted = self.halted or error

    def _met(self, error: BaseException) -> bool:
        """Whether the session had met this fault before it was interrupted: then it belongs to it."""
        kind, words = type(error).__name__, getattr(error, "message", "")
        return any(
            event["kind"] == ev.MODEL_FAILED
            and event["data"].get("error") == kind
            and agrees(event["data"].get("message"), words)
            for event in self.record
        )

    def diverged(self, *args: Any) -> ReplayDivergence:
        error = super().diverged(*args)
        self.halted = self.halted or error
        return error

    shows = True

    def left(self, call: str, task: asyncio.Task[Any], read: str | None, closed: bool) -> None:
        """The recorded part of the call comes to its end; what would follow is stopped."""
        if self._recorded_next(call):
            self._left[call] = task
        else:
            super(Replayed, self).left(call, task, read, closed)

    def note(self, text: str, **more: Any) -> None:
        self._go_live()
        Session.note(self, text, **more)

    def _recorded_next(self, call: str | None) -> bool:
        tape = self.tapes.get(call)
        return tape is not None and tape.peek() is not None

    def _go_live(self) -> None:
        with self._going:  # tools may run in threads: this event comes before any of theirs
            if self._live:
                return
            data: dict[str, Any] = {"events": self._seq, "inputs": self.order.kept}
            if self.order.placed:
                data["returned"] = [_handed_back(*placed) for placed in self.order.placed]
            if self._uncertain:
                data["uncertain"] = [
                    {"key": item.key, "tool": item.tool, "effect": item.effect, "decision": item.decision}
                    for item in self._uncertain
                ]
            Session.write(self, Session.stamp(self, ev.SESSION_RESUMED, data))
            self._live = True

    # --- calls

    def new_call(
        self, agent: str, parent: Scope | None, add: Sequence[Message] = (), key: str | None = None
    ) -> str:
        waits = self._waits()
        found = self._match(agent, parent, add, key, same=waits)
        if found is None:
            found = Session.new_call(self, agent, parent, add, key)
            if waits:  # the recorded ones may come later: the program may start them in any order
                self._unmatched[found] = None
        return found

    def _waits(self) -> bool:
        """Whether what the program does anew waits for the record's end."""
        return self.ordered and self.order.alive is None and self.order.here() is not None

    def nobody_brings(self, found: Mapping[str, Any] | None, places: Sequence[str]) -> LLMError:
        if found is not None and found["kind"] == ev.CALL_STARTED:
            for data in filter(None, self._unmatched.values()):
                if agrees(found["data"]["agent"], data["agent"]):
                    cause, old, new, hint = blame(found, ev.CALL_STARTED, data)
                    return self.diverged(found, ev.CALL_STARTED, data, cause, hint, old, new)
        return super().nobody_brings(found, places)

    def recorded(self, call: str, kind: str, tool_call: str | None = None) -> Event | None:
        """What was decided about a tool that had begun. The record itself has no answer any more."""
        if self.halted is not None:
            raise self.halted
        self.asked += kind == ev.MODEL_REPLIED
        return self._decided(call, tool_call) if kind == ev.TOOL_RETURNED and tool_call is not None else None

    def late(self, call: str, tool_call: str) -> Event | None:
        return self.recorded(call, ev.TOOL_RETURNED, tool_call)

    def _decided(self, call: str, tool_call: str) -> Event | None:
        """What is done about a tool that had begun. None: it is run."""
        key = f"{call}/{tool_call}"
        found = self._undone.pop(key, None)
        if found is None:
            return None
        decision = self._decisions.get(key, found.decision)
        if decision is None:
            self.halted = UncertainEffect(told([found]))
            raise self.halted
        if isinstance(decision, Mapping):
            data = {"id": tool_call, "content": str(decision["result"]), "uncertain": "result"}
            return Event(ev.TOOL_RETURNED, data)
        if decision == SKIP:
            words = (
                f"error: '{found.tool}' had begun when the program stopped; whether it took effect is not known. "
                "It is not run again."
            )
            return Event(
                ev.TOOL_RETURNED, {"id": tool_call, "ok": False, "content": words, "uncertain": "skip"}
            )
        return None

    def recall(self, asked: Asked) -> Recalled | None:
        if self.halted is not None:
            raise self.halted
        past = self.effects.take(asked, asked.place)
        if past is None:
            return None
        self._comes(past)
        if past.returned is not None:
            return effects.recalled(past, self.store.blob)
        found = self._undone.pop(f"e{past.n}", None)
        decision = None if found is None else self._decisions.get(found.key, found.decision)
        if found is not None and decision is None:
            self.halted = UncertainEffect(told([found]))
            raise self.halted
        if found is None or decision == RETRY:
            return Recalled(past.n, past.first["seq"], None, self.store.blob)
        assert decision is not None
        data = effects.decided(past, found.tool, decision)
        return Recalled(past.n, past.first["seq"], data, self.store.blob, ((ev.EFFECT_RETURNED, data),))

    def takes(self, event: Mapping[str, Any]) -> bool:
        return event["data"].get("parent") is None and super().takes(event)

    def stand_in(self, event: Mapping[str, Any], model: str | None) -> Agent | None:
        if self._open_ended(event["call"]):
            raise ConfigError(
                f"agent '{event['data']['agent']}' of session '{self.id}' is not in the configuration",
                hint="Give the program that made the session: lllm.resume_session(id, entry=main).",
            )
        return super().stand_in(event, model)

    async def item_again(self, id: str, entry: Callable[[], Any]) -> bool:
        from lllm.replay.items import resume_item

        return await resume_item(self, id, entry)

    def new_item(self, id: str, name: str) -> Session:
        from lllm.replay.items import NewItem

        return NewItem(self, id, name)

    def is_stopped_by(self, error: Exception) -> bool:
        return self.halted is not None or super().is_stopped_by(error)

    async def at_record_end(self, *, anew: bool = False) -> None:
        await self.order.end(anew=anew)

    def past(self, call: str) -> Followed | None:
        if call in self.tapes:
            return super().past(call)
        if self.order.off or self.order.alive is not None:
            return None
        return Followed(self, call, Tape([]))  # it begins now, when all that was recorded has come about

    async def at_end(self, call: Call) -> None:
        """From here on the call is a live one. The time in which nobody worked on it does not count."""
        if call.parent is not None and call.parent.call in self.following:
            # the tool call that made it has an answer: it was stopped, and the process died before it said so
            raise asyncio.CancelledError
        await self.order.end(anew=call.id not in self.tapes)
        if call.id not in self.tapes:
            return
        if (task := self._left.pop(call.id, None)) is not None:
            task.cancel()
        # negative if the clock was set back meanwhile: the time left of a deadline stays the same
        down = self.clock() - self.tapes[call.id].events[-1]["at"]
        call.apply(Outcome(ev.CALL_RESUMED, {"down": down}))


def told(effects: Sequence[Uncertain]) -> str:
    """The uncertain effects in words."""
    lines = [f"  {item.key}: {item.tool}({item.arguments})" for item in effects]
    return "\n".join(["it is not known whether these tools took effect:", *lines])


def _numbered(call: str | None) -> bool:
    return call is not None and call[:1] == "c" and call[1:].isdigit()


MENDABLE: Final = (
    *(ConfigError, PromptError, ImportError, LLMInitializationError),
    *(LogError, ReplayDivergence, UncertainEffect, KeyboardInterrupt, SandboxBroken),
)
"""What stops a resumption for a reason that is no part of the run: the project, the machine, the log, or a person.
What a provider answers is a part of it."""

_ENDS: Final = (ev.CALL_ENDED, ev.CANCELLED, ev.LIMIT_REACHED)
RESULTS: Final = (ev.CALL_RESUMED, ev.MODEL_REPLIED, ev.MODEL_FAILED, ev.TOOL_RETURNED, ev.WAIT_ENDED)
"""What is kept of that which had begun when a resumption was halted, and what may have to come before it. No approval:
whoever gives it may have asked an agent, which was halted, and can be asked again."""


def _handed_back(name: str, before: int, input: str) -> dict[str, Any]:
    """See `lllm.core.record_parts.HandedBack`."""
    return {"name": name, "before": before} | ({"input": input} if input else {})
