"""The recorded events, and the session that is matched against them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.canonical import decode, digest, encode
from lllm.core.dialog import Node
from lllm.core.edited import program_messages
from lllm.core.events import Event
from lllm.core.jsonable import same_record, unicode_only
from lllm.core.redact import agrees
from lllm.core.spec import Spec
from lllm.errors import ConfigError, LLMError, ReplayDivergence
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.replay import effects
from lllm.replay.agreement import as_recorded
from lllm.replay.blame import blame
from lllm.replay.calls import fold_call
from lllm.replay.edit import with_last
from lllm.replay.follow import Followed
from lllm.replay.idle import is_stop, job_here
from lllm.replay.order import Order
from lllm.replay.starts import Starts
from lllm.session import Scope, Session
from lllm.session_effects import Asked, Recalled, value_of

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.replay.manifest import Watch
    from lllm.runtime import Call


_NEAR: Final = 1000
"""So many sessions of a day are looked at, for others of the same program."""


SHOWN: Final = frozenset((ev.FRONTEND, ev.ARTIFACT, *ev.STAGES))
"""What a tool's own code brings about, besides agent calls: it is not run again, and neither are these."""


class Unfinished(LLMError):
    """The record ends before the call does: a crash, or a session that is still running."""

    stops_replay = True


class Tape:
    """The recorded events of one call (or of the session as a whole), and how far they have been matched."""

    __slots__ = ("_runs", "at", "events")

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.at = 0
        self._runs: dict[
            str, tuple[int, bool]
        ] = {}  # of each tool call: the event that it began, and its end

    def peek(self) -> dict[str, Any] | None:
        return self.events[self.at] if self.at < len(self.events) else None

    def advance(self) -> None:
        """The next event is matched."""
        event = self.events[self.at]
        self.at += 1
        if event["kind"] == ev.TOOL_REQUESTED:
            id = event["data"].get("id")
            if self._runs.get(id, (-1, True))[1]:
                self._runs[id] = event["seq"], False
        elif event["kind"] == ev.TOOL_RETURNED:
            id = event["data"].get("id")
            self._runs[id] = self._runs.get(id, (-1, True))[0], True

    def since(self, tool_call: str | None) -> float:
        """The event before those that the present run of a tool call can have written. Models give the same id to tool
        calls of several rounds: what an earlier one did is not this one's."""
        begun, done = self._runs.get(tool_call or "", (-1, False))
        return float("inf") if done else begun


class Replayed(Session):
    """A session that compares where a live one writes, and remembers where a live one acts."""

    replaying = rerun = True
    whole = False
    """True if the program's own code runs, not only its recorded agent calls."""
    goes_on = False
    """Whether the program goes on when its record ends."""
    hands_over = False
    """Whether the first difference ends the record, instead of being a divergence: so in a fork."""
    left_out: Collection[str] = (ev.SESSION_RESUMED,)
    """Kinds of events that no code of the program brings about."""
    _unopened = False
    refused: ConfigError | None = None
    """Why the program could not open a session in the place of the recorded one."""
    others = 0
    """Other sessions that the program wanted to open."""
    reused = 0
    """Recorded model replies that were not asked for again."""

    @property
    def unopened(self) -> bool:
        return self._unopened

    @unopened.setter
    def unopened(self, value: bool) -> None:
        self._unopened = value
        self.order.here()  # the program opens the session, perhaps in a loop of its own

    def opened_by(self, kind: str) -> bool:
        entry = self.record[0]["data"].get("entry")
        return self.unopened and isinstance(entry, Mapping) and entry.get("kind") == kind

    def began_with(self, agent: str) -> Sequence[Mapping[str, Any]]:
        begun = (event["data"] for event in self.record if event["kind"] == ev.CALL_STARTED)
        first = next((data for data in begun if agrees(data["agent"], agent)), None)
        return () if first is None else program_messages(first)

    def opens(self, name: str) -> None:
        recorded = str(self.record[0]["data"].get("name") or "")
        if not agrees(recorded, name) and self.has_sibling(name):
            session = self.record[0]["session"]
            self.refused = ConfigError(
                f"the program opens session '{name}', and the record is that of '{session}' ('{recorded}'), which it opens "
                "later",
                hint="Run the part of the program that makes this session: entry=FUNCTION.",
            )
            raise self.refused

    def has_sibling(self, name: str) -> bool:
        """Whether the store has another session of this name, of the same day."""
        session = str(self.record[0]["session"])
        with suppress(LLMError):
            near = self.store.sessions(_NEAR, prefix=session[:8])
            return any(info.id != session and str(info.meta.get("name") or "") == name for info in near)
        return False

    def opens_another(self, name: str) -> None:
        if self.goes_on:
            return
        self.others += 1
        raise ConfigError(
            f"the program opens another session ('{name}'), and this replay has the record of '{self.id}' alone",
            hint="Replay the part of the program that makes this session: entry=FUNCTION.",
        )

    def __init__(
        self,
        session: str | None,
        store: LogStore,
        recorded: Sequence[Mapping[str, Any]],
        *,
        name: str = "",
        until: int | None = None,
        blob: Callable[[str], bytes] | None = None,
    ) -> None:
        """`until`: the record ends before this event. `blob`: gives its blobs; by default those of `store`."""
        first = recorded[0]["data"] if recorded else {}
        super().__init__(store, id=session, name=name, seed=first.get("seed", ""))
        self.old_blob = blob or store.blob
        self.started = True
        self.logs = True
        self.inputs.on = self.inputs.follows = True
        self.inputs.readers = {}
        self._figures = None
        self.record = list(self.prepared(recorded))
        self.until = len(self.record) if until is None else until
        self.shown: set[int] = set()
        tapes: dict[str | None, list[dict[str, Any]]] = {}
        for event in self.record[: self.until]:
            if event["kind"] in self.left_out or (event["kind"] == ev.NOTE and "of" in event["data"]):
                continue  # no code writes it: another process went on, or the runtime noted something
            if event["kind"] in SHOWN and event["call"] is not None:
                self.shown |= _numbers(event["data"])
                continue  # a tool showed it, and the tool is not run
            if event["kind"] in effects.KINDS:
                continue  # see `recall`
            line = ev.line_of(event["kind"], event["data"], event["call"])
            tapes.setdefault(line, []).append(dict(event))
        self.tapes = {call: Tape(events) for call, events in tapes.items()}
        self.watch: Watch | None = None
        stateful = effects.stateful_tools(self.record) if self.hands_over else ()
        self.effects = effects.EffectRecord(self.record, self.old_blob, stateful)
        self._starts = Starts(self.record)
        self.begun = {event["call"]: event for event in self.record if event["kind"] == ev.CALL_STARTED}
        """Of each recorded call its CallStarted."""
        self.following: dict[str, Followed] = {}
        """The calls that are being driven along their records."""
        self.reexecuted: set[str] = set()
        self.folded: set[str] = set()
        self.divergence: ReplayDivergence | None = None
        self._cut = False  # whether today's code has gone on where the program was stopped
        self._marked: set[str | None] = set()  # calls whose start equals the recorded one except for secrets
        self._raw: dict[str, bytes] = {}  # blobs produced by today's code
        self.steps = 0
        """So many events were matched."""
        every: dict[str | None, Tape] = dict(self.tapes)
        for past in self.effects.in_order():
            past.tape = every[f"e{past.n}"] = Tape(
                [
                    dict(event)
                    for event in (past.requested, past.returned)
                    if event is not None and event["seq"] < self.until
                ]
            )
        self.order = Order(self, every)
        self.inputs.stream_end = self.order.stream_end
        self.inputs.stop_is_noted = self.order.inputs.stop_is_noted
        start = self.tapes.get(None)
        if start is not None and start.events and start.events[0]["kind"] == ev.SESSION_STARTED:
            start.advance()

    @property
    def departed(self) -> bool:
        """Whether the record of a fork has ended."""
        return False

    def prepared(self, recorded: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The record as it is compared."""
        return recorded

    # --- what a live session writes

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        tape = self.tapes.get(ev.line_of(kind, data, call))
        found = tape.peek() if tape is not None else None
        # what stands beside a stage that was stopped is stopped with it, by Unfinished: before its turn
        if self._cut or (call is None and found is not None and self._is_cut_off(found, kind, data)):
            self._cut = True
            raise Unfinished("the session was cancelled here")
        if tape is None or found is None:
            if call is None or kind == ev.CALL_ENDED or self._open_ended(call):
                raise self._unfinished_or(kind, data, call)
            raise self.diverged(None, kind, data, "the code of today does more than was recorded", None)
        if data is not found["data"] or kind != found["kind"]:
            data, value = self._compared(found, kind, data, value, call)
        self.steps += 1
        tape.advance()
        self.order.came(found)
        return Event(kind, data, found["at"], call, dialog, value)

    def _is_cut_off(self, found: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> bool:
        """Whether the record says here that somebody stopped the program, or a stage of it with all of it, and today's code
        goes on."""
        if found["kind"] in ev.STAGES:
            stopped = found["data"].get("status") == "cancelled" and self._was_stopped
            return stopped and (kind, data.get("status")) != (found["kind"], "cancelled")
        return cut_off(found) and kind != ev.SESSION_ENDED

    @cached_property
    def _was_stopped(self) -> bool:
        return any(map(cut_off, self.record[-1:]))

    def _compared(
        self, found: Mapping[str, Any], kind: str, data: Mapping[str, Any], value: Any, call: str | None
    ) -> tuple[Mapping[str, Any], Any]:
        """Data and value of an event that today's code produced. ReplayDivergence unless the next recorded one is the same."""
        try:
            encoded = encode(data)
        except UnicodeEncodeError:  # cannot be logged: the recorded call continued with clean text
            data, value = unicode_only(data), None
            encoded = encode(data)
        recorded = found["data"]
        if found["kind"] == kind and encode(recorded) != encoded:
            data, value = self._as_recorded(kind, recorded, data, call), None
            encoded = encode(data)
        if found["kind"] != kind or (encode(recorded) != encoded and not same_record(recorded, data)):
            cause, old, new, hint = blame(found, kind, data)
            if cause.startswith("tool schema"):
                old, new = self._schemas(recorded, data) or (old, new)
            raise self.diverged(found, kind, data, cause, hint, old, new)
        return data, value

    def _as_recorded(
        self, kind: str, recorded: Mapping[str, Any], present: Mapping[str, Any], call: str | None
    ) -> Mapping[str, Any]:
        """The data produced by today's code, with the recorded values where both agree."""
        if kind == ev.MODEL_REQUESTED and call in self._marked:
            return {**present, "request": recorded.get("request")}  # a hash of what agrees
        if kind == ev.CALL_STARTED:
            self._marked.add(call)
        return as_recorded(kind, recorded, present, self.old_blob, self.new_blob)

    def keep(self, data: bytes) -> str:
        name = digest(data)
        self._raw[name] = data
        return name

    def new_blob(self, digest: str) -> bytes:
        """A blob of today's code. Raises KeyError or LLMError where it is none."""
        return self._raw[digest]

    def cleaned(self, data: bytes) -> bytes:
        """Returns the blob unchanged: it is compared unredacted, see agreement.py."""
        return data

    def _schemas(
        self, recorded: Mapping[str, Any], present: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The schemas that differ, by tool, on both sides: an event holds their digest, a blob what they say. None where
        the blob is not there."""
        try:
            blobs = self.old_blob(recorded["specs"]), self.new_blob(present["specs"])
        except (KeyError, LLMError):
            return None
        old, new = ({spec["function"]["name"]: spec["function"] for spec in decode(blob)} for blob in blobs)
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        return {name: old.get(name) for name in names}, {name: new.get(name) for name in names}

    def write(self, event: Event) -> None:
        """It is in the record already."""

    async def flush(self) -> None:
        """Nothing is written."""

    async def hand_back(self, name: str) -> None:
        await self.flush()
        try:
            await self.order.returned(name)
        except asyncio.CancelledError:
            await self.order.returned(f"x{name}", leaving=True)
            raise

    async def back_out(self, name: str) -> None:
        await self.flush()
        await self.order.returned(f"x{name}", leaving=True)

    def left(self, call: str, task: asyncio.Task[Any], read: str | None, closed: bool) -> None:
        """How the call went on is recorded: it comes to that end by itself."""

    shows = False

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        tape = self.tapes.get(call)
        found = tape.peek() if tape is not None else None
        if (
            found is None
            or found["kind"] != ev.FRONTEND
            or found["data"].get("phase") not in ("value", "error")
        ):
            return None
        data: Mapping[str, Any] = found["data"]
        return data if data["method"] == shown["method"] else None

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        """The recorded start stands."""

    async def close_resources(self) -> None:
        if self._resources is not None:
            self.order.over_if_ended()  # they are closed in real time
        await super().close_resources()

    async def _end(self, status: str, **data: Any) -> None:
        tape = self.tapes.get(None)
        found = tape.peek() if tape is not None else None
        if found is None:
            return
        if cut_off(found) and status != "cancelled":
            raise Unfinished("the session was cancelled here")
        self.emit(ev.SESSION_ENDED, {"status": status, **data})
        self.is_over = True

    def new_call(
        self, agent: str, parent: Scope | None, add: Sequence[Message] = (), key: str | None = None
    ) -> str:
        """The recorded call that this one must be: the next of the same agent under the same parent, if there is one
        that opens with the same words (calls that ran side by side may come in another order now)."""
        self.order.here()
        chosen = self._match(agent, parent, add, key)
        if chosen is None:
            if not any(event["kind"] == ev.SESSION_ENDED and not cut_off(event) for event in self.record):
                raise Unfinished("the record ends before this call")
            raise self.diverged(
                None, ev.CALL_STARTED, {"agent": agent}, "the code of today makes a call more", None
            )
        return chosen

    def _match(
        self, agent: str, parent: Scope | None, add: Sequence[Message], key: str | None, *, same: bool = False
    ) -> str | None:
        """Takes the recorded call that a call of today is, and gives its id."""
        event = self._starts.match(parent, self._since(parent), agent, add, key, same=same)
        if event is None:
            return None
        self.reexecuted.add(event["call"])
        return str(event["call"])

    def take(self, call: str) -> None:
        """Says that a call of today stands for a recorded one."""
        self._starts.take(call)

    def is_taken(self, call: str) -> bool:
        """Whether one does."""
        return self._starts.is_taken(call)

    def takes(self, event: Mapping[str, Any]) -> bool:
        """True for a call that is not a part of one that was made again. The whole program makes all of its own calls."""
        call = event["call"]
        if self.is_taken(call):
            return False
        if self.whole and event["data"].get("parent") is None:
            cause = "code: the program of today does not make this call"
            raise self.diverged(event, event["kind"], None, cause, None)
        self.take(call)
        self.reexecuted.add(call)
        return True

    def stand_in(self, event: Mapping[str, Any], model: str | None) -> Agent | None:
        """The call is folded."""
        call = event["call"]
        self.reexecuted.discard(call)
        self.folded.add(call)
        fold_call(self, call)
        return None

    def left_over(self, parent: Scope | None = None) -> Mapping[str, Any] | None:
        """The first beginning of a recorded call under `parent` that no call of today stands for yet."""
        return self._starts.first(parent, self._since(parent))

    def is_within(self, call: str, outer: str) -> bool:
        """Whether a recorded call was made within another one."""
        return self._starts.is_within(call, outer)

    def places_above(self, call: str | None) -> Iterator[tuple[str, str]]:
        """The calls and tool calls within which a recorded call was made, from the inside out."""
        return self._starts.above(call)

    def _since(self, parent: Scope | None) -> float:
        tape = self.tapes.get(parent.call) if parent is not None and parent.call is not None else None
        return -1 if tape is None or parent is None else tape.since(parent.tool_call)

    # --- what a live session does

    async def item_again(self, id: str, entry: Callable[[], Any]) -> bool:
        from lllm.replay.items import replay_item

        return await replay_item(self, id, entry)

    def item_end(self, id: str) -> Mapping[str, Any] | None:
        """The recorded end of an item that has not come yet."""
        tape = self.tapes.get(f"item {id.removeprefix(f'{self.id}-')}")
        found = None if tape is None else tape.peek()
        return found if found is not None and found["kind"] == ev.ITEM_ENDED else None

    def is_stopped_by(self, error: Exception) -> bool:
        return is_stop(error) or self.halted is not None

    def past(self, call: str) -> Followed | None:
        return Followed(self, call, self.tapes[call])

    def pass_on(self, call: str, number: int, agent: asyncio.Task[Any]) -> None:
        """Keeps an agent that is at work, as tool call `number`, where the record ends."""

    def opening(self, call: str, add: Sequence[Message]) -> tuple[Sequence[Message], Message | None]:
        """As recorded where a fork had edited the last message."""
        data = self.begun[call]["data"] if call in self.begun else {}
        if "edited" not in data or not add:
            return add, None
        return with_last(add, data["add"][-1]["content"])

    async def at_end(self, call: Call) -> None:
        """The record of a call has ended, and today's code wants more of it."""
        raise self.unfinished_at(call.id)

    def rules(self, call: str) -> int:
        tape = self.tapes.get(call)
        return super().rules(call) if tape is None else recorded_rules(tape.events)

    def asked_within(self, call: str, tool_call: str) -> bool:
        """Whether an agent call was started within a tool call. The tool call may have been stopped before that."""
        return self.left_over(Scope(self, call, tool_call)) is not None

    # --- effects of the program's own code

    async def intend(self, asked: Asked, approval: bool) -> Recalled | int:
        if not self.goes_on and (job := job_here()) is not None and not self.effects.has(asked):
            # a thread that nobody waits for any more: whether it comes to this before or after is a race
            await self.order.end()
            if job.abandoned:
                raise Unfinished("nobody waits for what this thread does")
        return await super().intend(asked, approval)

    @property
    def acts(self) -> bool:
        return (self.goes_on or self.hands_over) and self.order.alive is not None

    @property
    def skipped_tools(self) -> int:
        return self.order.skipped_count

    def earlier_effects(self, kind: str) -> Iterator[tuple[int, Any, Any]]:
        record = self.record[: self.until]
        open_tools = effects.open_tools(record)
        done = [
            (past.returned["seq"], past)
            for past in effects.effects_of(record)
            if past.data["kind"] == kind
            and past.returned is not None
            and "error" not in past.returned["data"]
            and past.place.via is not None
            and (past.place.call, past.place.via) not in open_tools  # these run again
            and self.order.is_skipped(past.place.call, past.place.via)
        ]
        for _, past in sorted(done, key=lambda one: one[0]):
            found = effects.recalled(past, self.old_blob)
            if found.data and not found.data.get("cancelled"):
                yield past.n, effects.request_of(past.data, self.old_blob), value_of(found)

    def has_dialog(self, head: Node) -> None:
        if not self.hands_over:  # a fork has a log of its own
            self.dialogs.setdefault(head.id, head)

    def recall(self, asked: Asked) -> Recalled | None:
        past = self.effects.take(asked, asked.place)
        if past is None:
            raise self._other_effect(asked)
        self._comes(past)
        if past.returned is None:
            if any(event["kind"] == ev.SESSION_ENDED and not cut_off(event) for event in self.record):
                return effects.outlives(past, self.store.blob)
            raise Unfinished(f"the record ends within effect '{asked.name}'")
        return effects.recalled(past, self.store.blob)

    def _comes(self, past: effects.Past) -> None:
        """The next event of an effect has come about."""
        if past.tape is not None and (event := past.tape.peek()) is not None:
            self.steps += 1
            past.tape.advance()
            self.order.came(event)

    async def reached(self, seq: int) -> None:
        past = self.effects.answered.get(seq)
        event = None if past is None or past.tape is None else past.tape.peek()
        if past is not None and event is not None and not event["data"].get("cancelled"):
            await self.order.turn(event)
            self._comes(past)
            if past.data.get("effect", "pure") != "pure":  # what is learnt in passing has neither
                await self.hand_back(f"f{past.n}")

    def _other_effect(self, asked: Asked) -> LLMError:
        past = self.effects.next(asked.place)
        if past is not None:
            cause, *both = effects.difference(past, asked, self.store.blob)
            return self.diverged(past.first, ev.EFFECT_REQUESTED, None, cause, None, *both)
        if any(event["kind"] == ev.SESSION_ENDED and not cut_off(event) for event in self.record):
            cause = f"code: effect '{asked.name}' was not recorded"
            return self.diverged(None, ev.EFFECT_REQUESTED, effects.present(asked), cause, None)
        return Unfinished("the record ends here")

    def look(self, on: bool) -> bool:
        return self.watch is not None and self.watch.switch(on)

    async def until_cancelled(self, found: Recalled) -> None:
        assert found.data is not None
        # where an order is kept, that is what knows when nothing happens any more
        silence = effects.STALL if self.order.off else None
        if found.seq == effects.NEVER:
            if self.order.off:
                await asyncio.wait((asyncio.get_running_loop().create_future(),), timeout=silence)
            await self.order.end()
            raise Unfinished("the session has ended")
        event = self.record[found.seq]
        cancelled: asyncio.CancelledError | None = None
        try:
            if effects.ended_by_stop(self.record, found.seq):
                raise effects.stop(found.data)
            with self.order.drives(f"f{found.n}"):
                await asyncio.wait((asyncio.get_running_loop().create_future(),), timeout=silence)
        except asyncio.CancelledError as error:
            cancelled = error
            await self.order.turn(event, leaving=True)  # what was done then may have taken a while to stop
        finally:
            self._comes(self.effects.answered[found.seq])
        if cancelled is not None:
            await self.back_out(f"f{found.n}")
            raise cancelled
        cause = "code: the program of today does not cancel this effect"
        raise self.diverged(event, event["kind"], None, cause, None)

    # --- verdicts

    def nobody_brings(self, found: Mapping[str, Any] | None, places: Sequence[str]) -> LLMError:
        """The verdict where the program waits for something that will never come. `places`: where its tasks stand."""
        stand = f"The program waits at {'; '.join(places)}." if places else None
        if found is None:
            cause = "the program does not come to its end, although all that was recorded has come about"
            return self.diverged(None, "the end", None, cause, stand)
        cause = "the program waits for something else and does not bring this event about"
        return self.diverged(found, found["kind"], None, cause, stand)

    def complete(self, whole: bool, notes: list[str]) -> None:
        """What was recorded and not done again."""
        for past in self.effects.left(self.folded):
            if whole or past.place.within is not None:
                raise self.diverged(
                    past.first, ev.EFFECT_REQUESTED, None, effects.not_wanted(past, self.store.blob), None
                )
            notes.append("effects of the program itself were not re-executed")
            break
        for call, tape in self.tapes.items():
            left = tape.peek()
            if left is None or call in self.folded:
                continue
            if not whole and (call is None or left["call"] is None):
                shown = sum(1 for event in tape.events[tape.at :] if event["kind"] != ev.SESSION_ENDED)
                if shown:
                    notes.append(
                        f"{shown} events of the program itself (frontend, artifacts, stages) were not re-executed"
                    )
                continue
            raise self.diverged(
                left, left["kind"], None, "the code of today does less than was recorded", None
            )

    def _open_ended(self, call: str) -> bool:
        tape = self.tapes.get(call)
        return tape is not None and not any(event["kind"] == ev.CALL_ENDED for event in tape.events)

    def _unfinished_or(self, kind: str, data: Mapping[str, Any], call: str | None) -> LLMError:
        if call is None and any(event["kind"] == ev.SESSION_ENDED for event in self.record):
            return self.diverged(None, kind, data, "the code of today does more than was recorded", None)
        return Unfinished("the record ends here")

    def unfinished_at(self, call: str) -> LLMError:
        """What is wrong where a call wants an effect that its record does not have next."""
        if self._open_ended(call):
            return Unfinished("the record ends here")
        tape = self.tapes[call]
        found = tape.peek()
        return self.diverged(
            found, "an effect", None, "the code of today wants an effect that was not recorded", None
        )

    def diverged(
        self,
        found: Mapping[str, Any] | None,
        kind: str,
        data: Any,
        cause: str,
        hint: str | None,
        recorded: Any = None,
        present: Any = None,
    ) -> ReplayDivergence:
        where = (
            f"event {found['seq']} ({found['kind']})"
            if found is not None
            else f"after the record's end ({kind})"
        )
        if recorded is None and present is None:
            recorded, present = (found["data"] if found is not None else None), data
        recorded, present = map(self.redactor.clean, (recorded, present))  # they are shown in the error
        error = ReplayDivergence(
            f"diverged at {where}: {self.redactor.text(cause)}",
            seq=found["seq"] if found is not None else None,
            kind=found["kind"] if found is not None else kind,
            cause=cause,
            recorded=recorded,
            present=present,
            hint=hint,
        )
        if self.divergence is None:
            self.divergence = error
        return error


def recorded_rules(events: Sequence[Mapping[str, Any]]) -> int:
    """The version of the rules of the first call in these events."""
    started: Mapping[str, Any] = next((e["data"] for e in events if e["kind"] == ev.CALL_STARTED), {})
    return Spec.from_record(started.get("spec", {})).rules


def _numbers(shown: Mapping[str, Any]) -> set[int]:
    """The numbers of the elements that a Frontend event speaks of."""
    found = shown.get("id", ())
    return {found} if isinstance(found, int) else set(found)


def cut_off(event: Mapping[str, Any]) -> bool:
    """Whether an event says that somebody stopped the program: what it would have done next is not in the record."""
    return bool(event["kind"] == ev.SESSION_ENDED and event["data"].get("status") == "cancelled")
