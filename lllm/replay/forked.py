"""A new session that begins like another one.

Up to the first difference, or the event from which it is to differ, it is driven along that one's record, in its order and
time (`lllm.replay.order`). From there on it is a live session: what it asks in the same words is answered from the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.blobs import with_blobs
from lllm.core.events import Event
from lllm.core.figures import Counting
from lllm.core.jsonable import unicode_only
from lllm.core.redact import agrees
from lllm.core.spec import ToolRule
from lllm.core.spent import Spent
from lllm.errors import ReplayDivergence
from lllm.handles import keeps_nothing
from lllm.inputs import through
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.replay import effects
from lllm.replay.agreement import without_secrets
from lllm.replay.calls import agent_of_record
from lllm.replay.edit import Edit, as_edited, with_last
from lllm.replay.equal import EqualQuestions, asked_of
from lllm.replay.follow import Followed
from lllm.replay.shared import SharedClock, shared_until
from lllm.replay.shared_effects import SharedEffects
from lllm.replay.tape import SHOWN, Tape, recorded_rules
from lllm.session import Scope, Session

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.replay.items import ItemEdit
    from lllm.runtime import Call

UNMATCHED: Final[Mapping[str, str]] = {
    "run": "tools whose arguments match no recorded call are run",
    "pure": "only those that declare effect='pure' are",
    "refuse": "none are: the model is told that there is no such result",
}
_LEARNT: Final = frozenset(
    (ev.MODEL_REPLIED, ev.MODEL_FAILED, ev.TOOL_RETURNED, ev.APPROVAL_GIVEN, ev.FRONTEND)
)
"""What the world said: it says where it is from when it is given again."""
_OWN: Final = frozenset((ev.SESSION_STARTED, ev.SESSION_ENDED, ev.NOTE, *effects.KINDS))
"""What is not compared when it is written."""


class Forked(SharedEffects):
    """A session that goes along another one's record, and is a live one from the first difference on.

    Args:
        record: the parent's events.
        at: events before this one are shared.
        everything: events after `at` are, too: in their order unless something is edited, and else where the same is asked.
            Without it, everything from there on is requested again.
        edit: the new content of one event.
        unmatched: one of UNMATCHED.
        blob: returns the parent's blobs; by default those of `store`.
        id: of the new session. source: the store with the parent, and with the items of one that is a batch.
        item: how an item of a batch differs.
    """

    answers = goes_on = hands_over = shows = True
    replaying = False
    left_out = frozenset((ev.SESSION_RESUMED, ev.CALL_RESUMED, ev.SESSION_ENDED))

    def __init__(
        self,
        store: LogStore,
        record: Sequence[Mapping[str, Any]],
        *,
        id: str | None = None,
        source: LogStore | None = None,
        item: ItemEdit | None = None,
        at: int,
        everything: bool = False,
        edit: Edit | None = None,
        unmatched: str = "run",
        changes: Mapping[str, Any] | None = None,
        name: str = "",
        blob: Callable[[str], bytes] | None = None,
    ) -> None:
        until = shared_until(record, len(record) if everything and edit is None else at)
        super().__init__(id, store, record, name=name or "fork", until=until, blob=blob)
        self.clock = SharedClock(self.order)
        self.started, self.logs = False, not keeps_nothing(store)
        self._figures = Counting() if self.logs else None
        self.inputs.copied = self.logs
        self.parent = str(record[0]["session"])
        self.at = at
        self.source = source or store
        self.item = item
        self.edit = edit
        self.edited = False
        """True if the program has come to what the edit says."""
        self.changes = dict(changes or {})
        self._everything = everything
        self.unmatched = unmatched
        self._given: set[int] = set()  # events that were given again
        self._asked: dict[str, str] = {}  # of each call the last request
        self._turns: dict[str, int] = {}
        self._twins: dict[str, str] = {}  # the recorded call that each call stands for
        self._wanted: dict[tuple[str, str], str] = {}
        self._reworded: dict[
            tuple[str | None, str], Mapping[str, Any]
        ] = {}  # tool calls whose result is edited
        self._outer: dict[int, int] = {}  # effects that are done here, and the parent's that they stand for
        self._rules: dict[str, Mapping[str, Any]] = {}
        self._left: dict[
            str, tuple[asyncio.Task[Any], str | None, bool]
        ] = {}  # calls whose streams the program has closed
        self._under_way: dict[tuple[str, int], asyncio.Task[Any]] = {}
        self.changed = self.new = self.tools_reused = 0
        self.saved = Spent()

    def prepared(self, recorded: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        return without_secrets(recorded, self.redactor, self.old_blob)

    @property
    def departed(self) -> bool:
        """True if it is a live session by now."""
        return self.order.alive is not None

    @cached_property
    def _equal(self) -> EqualQuestions:
        return EqualQuestions(self.record, self.edit, self._holds, self._given)

    def _holds(self, event: Mapping[str, Any]) -> bool:
        """True if what the parent learnt here is given again."""
        return self._everything or event["seq"] < self.at

    def _is_edited(self, event: Mapping[str, Any]) -> bool:
        return self.edit is not None and bool(event["seq"] == self.edit.seq)

    # --- the log

    keep, new_blob, cleaned, write = Session.keep, Session.blob, Session.cleaned, Session.write

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        fork: dict[str, Any] = {"session": self.parent, "at": self.at, **self.changes}
        if self.edit is not None:
            fork["edit"] = {"seq": self.edit.seq, "text": self.edit.text}
        await Session.start(self, {**(meta or {}), "fork": fork})

    async def _end(self, status: str, **data: Any) -> None:
        self.order.over()
        await Session._end(self, status, **data)

    async def flush(self) -> None:
        if self.departed or self.order.off:
            await Session.flush(self)  # until then nothing is done that would have to wait for the log

    async def hand_back(self, name: str) -> None:
        if self.departed or self.order.off:
            return await Session.hand_back(self, name)
        try:
            if not await self.order.returned(name):  # it waits for its turn among what comes now
                await self.flush()
                await self.inputs.turn()
                self.inputs.came.append(name)
        except asyncio.CancelledError:
            self.inputs.stopped(name)
            await self.back_out(name)
            raise
        return None

    async def back_out(self, name: str) -> None:
        if self.departed or self.order.off:
            await Session.back_out(self, name)
        elif not await self.order.returned(f"x{name}", leaving=True):
            flushing = asyncio.ensure_future(self.flush())
            await through(flushing)
            flushing.result()
            await self._backed_out(name)

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        event = None
        compared = kind not in _OWN and not (call is not None and kind in SHOWN)
        if compared and not self.departed:
            tape = self.tapes.get(ev.line_of(kind, data, call))
            if tape is not None and (found := tape.peek()) is not None:
                event = self._matched(tape, found, kind, data, call, dialog, value)
        if event is None:
            if (
                kind == ev.TOOL_RETURNED
                and (said := self._reworded.pop((call, data["id"]), None)) is not None
            ):
                data = {**self._again(said, said["data"]).data, "id": data["id"]}
            if kind == ev.CALL_STARTED and (twin := self.begun.get(self._twins.get(call or "", ""))):
                # requests are not to differ because secrets do
                adopted = self._as_recorded(kind, twin["data"], data, call)
                data, value = self._with_blobs(kind, adopted), value if adopted is data else None
            event = Session.stamp(self, kind, data, call, dialog, value)
        if call is not None:
            self._remember(event, call)
        return event

    def _matched(
        self,
        tape: Tape,
        found: Mapping[str, Any],
        kind: str,
        data: Mapping[str, Any],
        call: str | None,
        dialog: str | None,
        value: Any,
    ) -> Event | None:
        """An event that the record has next. None where today's code brings another one about: there the record ends."""
        given = data is found["data"] and kind == found["kind"]
        if not given:
            try:
                data, value = self._compared(dict(found), kind, data, value, call)
            except ReplayDivergence:
                return None
        tape.advance()
        self.steps += 1
        self.order.came(found)
        if given and kind == ev.TOOL_RETURNED:
            self._copy_steps(call, data["id"], found["seq"])
        if given and kind in _LEARNT:
            self._given.add(found["seq"])
            self._count(kind, data)
            data = {**data, "from": f"{self.parent}#{found['seq']}"}
        return Session.stamp(self, kind, self._with_blobs(kind, data), call, dialog, value)

    def _copy_steps(self, call: str | None, tool_call: str, end: int) -> None:
        """Writes what a stateful tool did: a resumption of this session, or a fork of it, builds on it."""
        steps: list[tuple[effects.Past, Mapping[str, Any]]] = []
        for past in self.effects.within(call, tool_call):
            if not past.taken and past.first["seq"] < end:
                past.taken = True
                self._effects = max(self._effects, past.n)
                steps += [(past, event) for event in (past.requested, past.returned) if event is not None]
        for past, event in sorted(steps, key=lambda step: step[1]["seq"]):
            self._copy(past, event)

    def _count(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == ev.MODEL_REPLIED:
            self.saved.add(data)
        elif kind == ev.TOOL_RETURNED:
            self.tools_reused += 1

    def _remember(self, event: Event, call: str) -> None:
        if event.kind == ev.MODEL_REQUESTED:
            self._asked[call] = event.data.get("request", "")
            self._turns[call] = self._turns.get(call, -1) + 1
        elif event.kind == ev.MODEL_REPLIED:
            self._wanted.update(asked_of(call, event.data))
        elif event.kind == ev.CALL_STARTED:
            self._rules[call] = event.data.get("spec", {}).get("tools", {})

    def _with_blobs(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of a recorded event, whose blobs are kept in this session."""

        def keep(digest: str) -> str:
            if digest in self._blobs or not self.logs:
                return digest
            kept = self.keep_bytes(self.old_blob(digest))
            return digest if kept == digest else kept

        return with_blobs(kind, data, keep)

    def diverged(self, *args: Any) -> ReplayDivergence:
        error = super().diverged(*args)
        self.divergence = None
        self.order.over()
        return error

    def unfinished_at(self, call: str) -> ReplayDivergence:
        return self.diverged(
            None, "an effect", None, "the code of today wants an effect that was not recorded", None
        )

    # --- calls

    def new_call(
        self, agent: str, parent: Scope | None, add: Sequence[Message] = (), key: str | None = None
    ) -> str:
        self.order.here()
        found = None
        if not self.departed:
            found = self._starts.match(parent, self._since(parent), agent, add, key, same=True)
            if found is None:
                self.order.over()  # the parent has no such call
        if found is None:
            above = None if parent is None or parent.call is None else self._twins.get(parent.call, "")
            found = self._starts.match(Scope(self, above), -1, agent, add, key, loose=True)
        shared = not self.departed and found is not None and found["seq"] < self.until
        made = str(found["call"]) if shared and found is not None else self._free_id()
        self._calls = max(self._calls, int(made[1:]))
        if found is not None:
            self._twins[made] = found["call"]
        return made

    def _free_id(self) -> str:
        used = [self._calls]
        if not self.departed:  # the recorded ones may come later
            used += [int(call[1:]) for call in self.tapes if call is not None and call[1:].isdigit()]
        return f"c{max(used) + 1}"

    def takes(self, event: Mapping[str, Any]) -> bool:
        if event["data"].get("parent") is not None:
            return False
        self._starts.take(event["call"])
        self._twins[event["call"]] = event["call"]
        self._calls = max(self._calls, int(event["call"][1:]))
        return True

    def stand_in(self, event: Mapping[str, Any], model: str | None) -> Agent | None:
        return agent_of_record(event, self.old_blob, model)

    def rules(self, call: str) -> int:
        twin = self.begun.get(self._twins.get(call, ""))
        return Session.rules(self, call) if twin is None else recorded_rules([twin])

    def opening(self, call: str, add: Sequence[Message]) -> tuple[Sequence[Message], Message | None]:
        twin = self._twins.get(call, "")
        begun = self.begun.get(twin)
        if begun is None or self.edit is None or not self._is_edited(begun) or not add:
            said = begun["data"].get("edited") if begun is not None else None
            if said is None or not add or not agrees(said, unicode_only(add[-1].record())):
                return add, None  # the parent's own edit is for what its program said
            return super().opening(twin, add)
        self.edited = True
        return with_last(add, self.edit.text)

    def past(self, call: str) -> Followed | None:
        # one that began later in the parent waits until all that is shared has come about
        return None if self.departed else Followed(self, call, self.tapes.get(call) or Tape([]))

    def left(self, call: str, task: asyncio.Task[Any], read: str | None, closed: bool) -> None:
        """The shared part of the call comes to its end; what would follow is stopped."""
        if call in self.following:
            self._left[call] = task, read, closed
        else:
            Session.left(self, call, task, read, closed)

    async def at_end(self, call: Call) -> None:
        await self.order.end(anew=True)
        if (left := self._left.pop(call.id, None)) is not None:
            Session.left(self, call.id, *left)

    async def at_record_end(self, *, anew: bool = False) -> None:
        await self.order.end(anew=True)

    def pass_on(self, call: str, number: int, agent: asyncio.Task[Any]) -> None:
        self._under_way[call, number] = agent

    def under_way(self, call: str, number: int) -> asyncio.Task[Any] | None:
        return self._under_way.pop((call, number), None)

    # --- items of a batch

    async def item_again(self, id: str, entry: Callable[[], Any]) -> bool:
        from lllm.replay.items import fork_item

        return await fork_item(self, id, entry)

    def new_item(self, id: str, name: str) -> Session:
        made = super().new_item(id, name)

        def count(event: Event) -> None:
            self.new += event.kind == ev.MODEL_REQUESTED

        made.watchers.append(count)
        return made

    def is_stopped_by(self, error: Exception) -> bool:
        return Session.is_stopped_by(self, error)

    def shares_item(self, index: int) -> bool:
        """Whether an item begins like the parent's: all do, unless the batch is done anew from an event on."""
        ended = (
            event
            for event in self.record[: self.at]
            if event["kind"] == ev.ITEM_ENDED and event["data"]["item"] == index
        )
        return self._everything or self.item is not None or any(ended)

    def add(self, item: Forked) -> None:
        """Counts what an item has reused and asked."""
        self.reused, self.changed, self.new = (
            self.reused + item.reused,
            self.changed + item.changed,
            self.new + item.new,
        )
        self.tools_reused += item.tools_reused
        self.saved.add_all(item.saved)
        self.edited = self.edited or item.edited

    # --- equal questions

    def recorded(self, call: str, kind: str, tool_call: str | None = None) -> Event | None:
        twin = self._twins.get(call, "")
        if tool_call is None:
            found = self._equal.reply(self._asked.get(call, ""), twin)
            if found is None:
                before = self._equal.requests.get(twin, ())
                turn = self._turns.get(call, 0)
                other = turn < len(before) and before[turn] != self._asked.get(call)
                self.changed, self.new = self.changed + other, self.new + (not other)
                return None
            self.reused += 1
            self._count(kind, found["data"])
            return self._again(found, found["data"])
        place = self._wanted.get((call, tool_call), "")
        if kind == ev.APPROVAL_GIVEN:
            found = self._equal.approval(place, twin, tool_call)
        else:
            found = self._equal.result(place, twin, tool_call, lambda id: (call, id) in self._wanted)
            if found is None:
                return self._without(call, tool_call, place)
            if self._is_edited(found) and self._is_stateful(found):
                self._reworded[call, tool_call] = found
                return None  # it is run: what it does is known, and what it says is replaced
            self._count(kind, found["data"])
        return None if found is None else self._again(found, {**found["data"], "id": tool_call})

    def _is_stateful(self, found: Mapping[str, Any]) -> bool:
        return (found["call"], found["data"]["id"]) in effects.stateful_tools(self.record)

    def _again(self, found: Mapping[str, Any], data: Mapping[str, Any]) -> Event:
        """A recorded answer as one of this session: it says where it is from."""
        event = Event(found["kind"], data)
        if self.edit is not None and self._is_edited(found):
            self.edited = True
            event = as_edited(event, self.edit.text)
        data = {**event.data, "from": f"{self.parent}#{found['seq']}"}
        return event._replace(data=self._with_blobs(event.kind, data))

    def late(self, call: str, tool_call: str) -> Event | None:
        twin = self._twins.get(call)
        for event in self.record:
            if (
                event["kind"] == ev.TOOL_RETURNED
                and event["call"] == twin
                and event["data"]["id"] == tool_call
            ):
                late = {"reused", "late"} <= event["data"].keys() and self._holds(event)
                return self._again(event, event["data"]) if late else None
        return None

    def _without(self, call: str, tool_call: str, place: str) -> Event | None:
        """What is done about a tool without a recorded result. None: it is run."""
        name = place.partition(" ")[0]
        effect = ToolRule(**self._rules.get(call, {}).get(name, {})).effect
        if self.unmatched == "run" or (self.unmatched == "pure" and effect == "pure"):
            return None
        words = f"error: '{name}' is not run here, and no recorded call of it had these arguments"
        return Event(ev.TOOL_RETURNED, {"id": tool_call, "ok": False, "content": words, "unmatched": True})

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if call is None and not self.departed:
            return super().gave(call, shown)
        if "args" not in shown:
            return None
        found = self._equal.answer(None if call is None else self._twins.get(call, ""), shown)
        return None if found is None else self._again(found, found["data"]).data
