"""A new session that begins like another one: what it asks is answered from that one's log where the question is the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.blobs import with_blobs
from lllm.core.canonical import encode
from lllm.core.events import Event
from lllm.core.jsonable import unicode_only
from lllm.core.redact import agrees
from lllm.core.spec import ToolRule
from lllm.core.spent import Spent
from lllm.errors import ConfigError, EffectFailed
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.replay.agreement import as_recorded, without_secrets
from lllm.replay.calls import agent_of_record
from lllm.replay.effects import EffectRecord
from lllm.replay.tape import recorded_rules
from lllm.session import Scope, Session
from lllm.session_effects import Asked, Place, Recalled

if TYPE_CHECKING:
    from lllm.llm.agent import Agent

EDITABLE: Final[Mapping[str, str]] = {
    ev.SESSION_STARTED: "the task",
    ev.CALL_STARTED: "the last message that the call adds to its dialog",
    ev.MODEL_REPLIED: "the model's reply",
    ev.TOOL_RETURNED: "the tool's result",
}
"""What an edit of an event replaces, by the event's kind."""
UNMATCHED: Final[Mapping[str, str]] = {
    "run": "tools whose arguments match no recorded call are run",
    "pure": "only those that declare effect='pure' are",
    "refuse": "none are: the model is told that there is no such result",
}


class Edit(NamedTuple):
    """Event `seq` of the parent says `text` instead. A reply then asks for no tools, and a tool has worked."""

    seq: int
    text: str


class Forked(Session):
    """A live session that answers requests from another session's record.

    Args:
        record: the parent's events.
        at: events before this one are shared: their replies and tool results are reused for equal requests.
        everything: events after `at` answer equal requests, too. Without it, everything from there on is requested again.
        edit: the new content of one event.
        unmatched: one of UNMATCHED.
        blob: returns the parent's blobs; by default those of `store`.
    """

    answers = True

    def __init__(
        self,
        store: LogStore,
        record: Sequence[Mapping[str, Any]],
        *,
        at: int,
        everything: bool = False,
        edit: Edit | None = None,
        unmatched: str = "run",
        changes: Mapping[str, Any] | None = None,
        name: str = "",
        blob: Callable[[str], bytes] | None = None,
    ) -> None:
        first = record[0]
        super().__init__(store, name=name or "fork", seed=first["data"].get("seed"))
        self.record = without_secrets(record, self.redactor, blob or store.blob)
        self._blob = blob or store.blob
        self.parent = str(first["session"])
        self.at = at
        self.edit = edit
        self.edited = False
        """Whether the program has come to what the edit says."""
        self.changes = dict(changes or {})
        self._everything = everything
        self._unmatched = unmatched
        self.effects = EffectRecord(self.record, self._blob)
        self._read()
        self._asked: dict[str, str] = {}  # of each call the last request
        self._turns: dict[str, int] = {}
        self._twins: dict[str, str] = {}
        self._taken: set[str] = set()
        self._wanted: dict[tuple[str, str], str] = {}
        self._rules: dict[str, Mapping[str, Any]] = {}
        self.reused = self.changed = self.new = self.tools_reused = 0
        self.saved = Spent()

    def _read(self) -> None:
        """What the parent learnt from the world, by what was asked."""
        self._replies: dict[str, deque[Mapping[str, Any]]] = {}
        self._results: dict[str, deque[Mapping[str, Any]]] = {}
        self._approvals: dict[str, deque[Mapping[str, Any]]] = {}
        self._requests: dict[str, list[str]] = {}
        self._gave: dict[tuple[str | None, bytes], deque[Mapping[str, Any]]] = {}
        shown: dict[str | None, bytes] = {}  # of each call what was shown last
        wanted: dict[tuple[str, str], str] = {}
        again = self._run_again()
        for event in self.record:
            kind, call, data = event["kind"], event["call"], event["data"]
            if kind == ev.MODEL_REQUESTED:
                self._requests.setdefault(call, []).append(data.get("request", ""))
            elif kind == ev.MODEL_REPLIED:
                self._replies.setdefault(self._requests[call][-1], deque()).append(event)
                wanted.update(_wanted(call, data))
            elif kind == ev.TOOL_RETURNED and (
                self._is_edited(event) or ("reused" not in data and (call, data["id"]) not in again)
            ):
                self._results.setdefault(wanted[call, data["id"]], deque()).append(event)
            elif kind == ev.FRONTEND and "args" in data:
                shown[call] = _shown(data)
            elif kind == ev.FRONTEND and "value" in data and not data.keys() & {"type", "secret"}:
                self._gave.setdefault((call, shown.get(call, b"")), deque()).append(event)
            elif kind == ev.APPROVAL_GIVEN:
                self._approvals.setdefault(wanted[call, data["id"]], deque()).append(event)

    def _run_again(self) -> set[tuple[str | None, str | None]]:
        """The tool calls that are run again although they have a result: agents as tools, whose own calls are answered, and
        whatever stands above the call that is edited."""
        begun = {event["call"]: event["data"] for event in self.record if event["kind"] == ev.CALL_STARTED}
        asked: dict[tuple[str, str], str] = {}
        for event in self.record:
            if event["kind"] == ev.MODEL_REPLIED:
                asked.update(_wanted(event["call"], event["data"]))
        above = {
            call: (data.get("parent"), data.get("via")) for call, data in begun.items() if data.get("via")
        }
        out = {
            place
            for call, place in above.items()
            if asked.get(place, "").partition(" ")[0] == begun[call]["agent"]
        }
        call = self.record[self.edit.seq]["call"] if self.edit is not None else None
        while call in above:
            out.add(above[call])
            call = above[call][0]
        return out

    # --- the log

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        fork: dict[str, Any] = {"session": self.parent, "at": self.at, **self.changes}
        if self.edit is not None:
            fork["edit"] = {"seq": self.edit.seq, "text": self.edit.text}
        await super().start({**(meta or {}), "fork": fork})

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        if call is not None and kind == ev.CALL_STARTED:
            adopted = self._as_recorded(call, data)
            data, value = adopted, value if adopted == data else None
        event = super().stamp(kind, data, call, dialog, value)
        if call is not None:
            if kind == ev.MODEL_REQUESTED:
                self._asked[call] = event.data.get("request", "")
            elif kind == ev.MODEL_REPLIED:
                self._wanted.update(_wanted(call, event.data))
            elif kind == ev.CALL_STARTED:
                self._rules[call] = event.data.get("spec", {}).get("tools", {})
        return event

    def _as_recorded(self, call: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The start of a call: the recorded one, if it agrees with the start of the matching recorded call. So requests
        are not repeated because secrets differ."""
        twin = self._twins.get(call)
        event = next(
            (one for one in self.record if one["call"] == twin and one["kind"] == ev.CALL_STARTED), None
        )
        if event is None:
            return data
        given = dict(
            as_recorded(ev.CALL_STARTED, event["data"], data, self.store.blob, self._blobs.__getitem__)
        )
        if "specs" in data and given["specs"] != data["specs"]:
            given["specs"] = self.keep(self._blob(given["specs"]))
        return given

    # --- calls

    def new_call(
        self, agent: str, parent: Scope | None, add: Sequence[Message] = (), key: str | None = None
    ) -> str:
        made = super().new_call(agent, parent, add, key)
        above = self._twins.get(parent.call) if parent is not None and parent.call else None
        waiting = [
            event
            for event in self.record
            if event["kind"] == ev.CALL_STARTED
            and event["call"] not in self._taken
            and event["data"].get("parent") == above
            and agrees(event["data"]["agent"], agent)
            and agrees(event["data"].get("key"), key)
        ]
        words = unicode_only([message.record() for message in add])
        exact = [event for event in waiting if agrees(event["data"].get("add", []), words)]
        if (twin := next(iter(exact or waiting), None)) is not None:
            self.twin(made, twin["call"])
        return made

    def twin(self, call: str, recorded: str) -> None:
        """Says which recorded call a new one stands for."""
        self._twins[call] = recorded
        self._taken.add(recorded)

    def takes(self, event: Mapping[str, Any]) -> bool:
        if event["data"].get("parent") is not None:
            return False
        self.twin(event["call"], event["call"])
        return True

    def stand_in(self, event: Mapping[str, Any], model: str | None) -> Agent | None:
        return agent_of_record(event, self._blob, model)

    def rules(self, call: str) -> int:
        if (twin := self._twins.get(call)) is None:
            return super().rules(call)
        return recorded_rules([event for event in self.record if event["call"] == twin])

    def opening(self, call: str, add: Sequence[Message]) -> Sequence[Message]:
        edited = self._edited(ev.CALL_STARTED)
        if edited is None or self._twins.get(call) != edited["call"] or not add:
            return add
        assert self.edit is not None
        self.edited = True
        last = add[-1]
        return (*add[:-1], Message(last.role, self.edit.text, name=last.name, tool_call_id=last.tool_call_id))

    # --- answers

    def recorded(self, call: str, kind: str, tool_call: str | None = None) -> Event | None:
        if tool_call is None:
            return self._reply(call)
        place = self._wanted.get((call, tool_call), "")
        if kind == ev.APPROVAL_GIVEN:
            yes = any(self._shared(event) for event in self._results.get(place, ()))
            found = self._take(self._approvals.get(place), call, tool_call)
            if found is not None and found["data"]["approved"] and not yes:
                return None  # an old yes was for what was done then: what is done now is asked about now
            return None if found is None else self._given(found, {**found["data"], "id": tool_call})
        found = self._take(self._results.get(place), call, tool_call)
        if found is None:
            return self._without(call, tool_call, place)
        self.tools_reused += 1
        data = {**found["data"], "id": tool_call}
        if self.edit is not None and self._is_edited(found):
            self.edited = True
            data = {"id": tool_call, "content": self.edit.text}
        return self._given(found, data)

    def late(self, call: str, tool_call: str) -> Event | None:
        twin = self._twins.get(call)
        for event in self.record:
            if (
                event["kind"] == ev.TOOL_RETURNED
                and event["call"] == twin
                and event["data"]["id"] == tool_call
            ):
                late = {"reused", "late"} <= event["data"].keys() and self._shared(event)
                return self._given(event, dict(event["data"])) if late else None
        return None

    def _reply(self, call: str) -> Event | None:
        asked = self._asked.get(call, "")
        turn = self._turns[call] = self._turns.get(call, -1) + 1
        found = self._take(self._replies.get(asked), call)
        if found is None:
            before = self._requests.get(self._twins.get(call, ""), ())
            if turn < len(before) and before[turn] != asked:
                self.changed += 1
            else:
                self.new += 1
            return None
        data = dict(found["data"])
        self.reused += 1
        self.saved.add(data)
        if self.edit is not None and self._is_edited(found):
            self.edited = True
            data["message"] = Message("assistant", self.edit.text).record()
            data["finish"] = "stop"
            for name in ("raw", "logprobs", "token_ids"):
                data.pop(name, None)
        return self._given(found, data)

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if "args" not in shown:
            return None
        twin = None if call is None else self._twins.get(call, call)
        found = self._take(self._gave.get((twin, _shown(shown))), call)
        return None if found is None else self._given(found, dict(found["data"])).data

    def recall(self, asked: Asked) -> Recalled | None:
        place = asked.place
        call, within = (
            None if one is None else self._twins.get(one, one) for one in (place.call, place.within)
        )
        there = Place(call, place.via, within)
        past = self.effects.take(
            asked, there, lambda past: past.returned is not None and self._shared(past.returned)
        )
        if past is None or past.returned is None:
            return self._unmatched_effect(asked)
        number = self._number()
        found = f"{self.parent}#{past.returned['seq']}"
        events = []
        for event in filter(None, (past.requested, past.returned)):
            data = {key: value for key, value in event["data"].items() if key not in ("via", "within")}
            placed = place.record() if event is past.first else {}
            data = {**self._with_blobs(event["kind"], data), **placed, "n": number, "from": found}
            events.append((event["kind"], data))
        return Recalled(number, past.returned["seq"], past.returned["data"], self._blob, tuple(events))

    def _unmatched_effect(self, asked: Asked) -> Recalled | None:
        """What is done about an effect without a recorded answer. None: it is done."""
        learnt = asked.request is None and asked.policy == "pure"
        if learnt or self._unmatched == "run" or (self._unmatched == "pure" and asked.policy == "pure"):
            return None
        raise EffectFailed(
            f"effect '{asked.name}' is not done here, and no recorded one had this request",
            hint="unmatched='run' does such effects; whether they are wanted in a fork depends on what they do.",
        )

    def _shared(self, event: Mapping[str, Any]) -> bool:
        """Whether what the parent learnt here holds for the fork."""
        return bool(
            self._everything or event["seq"] < self.at or (self.edit and event["seq"] == self.edit.seq)
        )

    def _take(
        self, waiting: deque[Mapping[str, Any]] | None, call: str | None, tool_call: str | None = None
    ) -> Mapping[str, Any] | None:
        """A recorded answer that may be given again, once: of the very tool call, else of the call that this one stands for,
        else the first one anywhere."""
        twin = None if call is None else self._twins.get(call, call)
        best: tuple[int, Mapping[str, Any]] | None = None
        for event in waiting or ():
            if self._everything or event["seq"] < self.at or self._is_edited(event):
                near = 0 if event["call"] != twin else 1 + (event["data"].get("id") == tool_call)
                if best is None or near > best[0]:
                    best = near, event
        if best is None:
            return None
        assert waiting is not None
        waiting.remove(best[1])
        return best[1]

    def _given(self, event: Mapping[str, Any], data: dict[str, Any]) -> Event:
        """A recorded answer as one of this session: it says where it is from."""
        data["from"] = f"{self.parent}#{event['seq']}"
        return Event(event["kind"], self._with_blobs(event["kind"], data))

    def _with_blobs(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of a recorded event, whose blobs are kept in this session."""

        def keep(digest: str) -> str:
            kept = self.keep_bytes(self._blob(digest))
            return digest if kept == digest else kept

        return with_blobs(kind, data, keep)

    def _without(self, call: str, tool_call: str, place: str) -> Event | None:
        """What is done about a tool without a recorded result. None: it is run."""
        name = place.partition(" ")[0]
        effect = ToolRule(**self._rules.get(call, {}).get(name, {})).effect
        if self._unmatched == "run" or (self._unmatched == "pure" and effect == "pure"):
            return None
        words = f"error: '{name}' is not run here, and no recorded call of it had these arguments"
        return Event(ev.TOOL_RETURNED, {"id": tool_call, "ok": False, "content": words, "unmatched": True})

    def _is_edited(self, event: Mapping[str, Any]) -> bool:
        return self.edit is not None and bool(event["seq"] == self.edit.seq)

    def _edited(self, kind: str) -> Mapping[str, Any] | None:
        """The event that is edited, when it is of this kind."""
        if self.edit is None:
            return None
        event = self.record[self.edit.seq]
        return event if event["kind"] == kind else None


def editable(record: Sequence[Mapping[str, Any]], seq: int) -> None:
    """ConfigError unless event `seq` is there and says something that can be replaced."""
    if not 0 <= seq < len(record):
        raise ConfigError(f"event {seq} is not in the session", hint=f"It has events 0 to {len(record) - 1}.")
    kind = record[seq]["kind"]
    if kind not in EDITABLE:
        near = [event["seq"] for event in record if event["kind"] in EDITABLE]
        nearest = min(near, key=lambda number: abs(number - seq))
        raise ConfigError(
            f"event {seq} is {kind}, which cannot be edited",
            hint=f"Edited can be {', '.join(EDITABLE)}; the nearest is event {nearest} ({record[nearest]['kind']}).",
        )
    if "reused" in record[seq]["data"]:
        first = _first(record, seq)
        raise ConfigError(
            f"event {seq} gives the result of an earlier tool call again",
            hint=f"Edit that one: event {first}." if first is not None else None,
        )


def _first(record: Sequence[Mapping[str, Any]], seq: int) -> int | None:
    """The event whose result event `seq` gives again."""
    call, name = record[seq]["call"], record[seq]["data"]["reused"]
    for event in reversed(record[:seq]):
        data = event["data"]
        if event["kind"] == ev.TOOL_RETURNED and event["call"] == call and data["id"] == name:
            return None if "reused" in data else int(event["seq"])
    return None


def _shown(data: Mapping[str, Any]) -> bytes:
    """What is shown, without the numbers of elements: they may be others in a fork."""
    return encode(unicode_only([data["method"], data["args"], data["kwargs"]]))


def _wanted(call: str, data: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Of each tool call of a reply what is asked: the tool and its arguments, in one form."""
    out = {}
    for item in Message.from_dict(data["message"]).tool_calls:
        try:
            arguments = encode(item.parsed()).decode()
        except ValueError:
            arguments = item.arguments
        out[call, item.id] = f"{item.name} {arguments}"
    return out
