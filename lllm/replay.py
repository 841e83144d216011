"""Re-execution: the real machine, prompts, parsers and handlers of today on the recorded effects of a session.

Nothing is asked of a model, no tool runs, no time passes. Every event that the code of today would write is compared,
byte by byte, with the recorded one; the first that differs ends the replay and names its cause.

Two ways lead through a session. Where its first event says what was run (a configured system), that is built and run
again as a whole, so the system's own code is re-executed too. Otherwise each agent call is re-executed by itself, in the
agent that the configuration has under its name. A call of an agent that is not configured (a library's own) is folded:
its events must be moves of the machine, and its messages are taken as recorded; the report counts those apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.canonical import encode
from lllm.core.dialog import Node
from lllm.core.envelope import open_event, verify_chain
from lllm.core.events import Event
from lllm.core.jsonable import unicode_only
from lllm.core.machine import step
from lllm.core.redact import Redactor
from lllm.core.state import Opening, State
from lllm.errors import IllegalMove, LLMError, ReplayDivergence, text_of
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.session import Scope, Session, current
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config


class Report(NamedTuple):
    """What a replay found.

    Attributes:
        session: its id.
        verified: every event is as the code of today would write it, and the hash chain holds.
        events: events in the log.
        reexecuted: agent calls that were re-executed. folded: agent calls that could only be folded.
        whole: whether the system's own code was re-executed too.
        finished: whether the session had ended.
        notes: what the replay could not cover, in sentences.
        divergence: the first difference, or None.
    """

    session: str
    verified: bool
    events: int
    reexecuted: int
    folded: int
    whole: bool
    finished: bool
    notes: list[str]
    divergence: ReplayDivergence | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        out = self._asdict()
        if (found := self.divergence) is not None:
            out["divergence"] = {
                "message": found.message,
                "seq": found.seq,
                "kind": found.kind,
                "cause": found.cause,
                "recorded": found.recorded,
                "present": found.present,
            }
        return out


def replay_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    raises: bool = False,
) -> Report:
    """Re-executes a session and says whether it is verified.

    Args:
        session: its id.
        store: where its log is; the configured log by default.
        config: what to build agents from; the project's by default.
        entry: the program that made the session, for one that no configuration describes: called once, it must make the
            same calls.
        raises: raise the ReplayDivergence instead of reporting it.

    Raises:
        UnknownNameError: no such session. LogCorrupt: the log was changed or torn. ConfigError: the project of today
        cannot be built.
    """
    report = run(areplay_session(session, store=store, config=config, entry=entry))
    if raises and report.divergence is not None:
        raise report.divergence
    return report


async def areplay_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
) -> Report:
    """`replay_session` for async code."""
    from lllm.llm.connect import offline

    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    bodies = list(store.read(session))
    verify_chain(bodies, session=session)
    recorded = [open_event(body) for body in bodies]
    player = Replayed(session, store, recorded)
    notes: list[str] = []
    divergence: ReplayDivergence | None = None
    whole = False
    meta = recorded[0]["data"] if recorded else {}
    token = offline.set((meta.get("entry") or {}).get("models", {}))
    try:
        whole = await _entry(player, config, entry, notes)
        await _calls(player, config, whole, notes)
        player.complete(whole, notes)
    except Unfinished:
        notes.append("the record ends within an agent call: the process was stopped there")
    except ReplayDivergence as error:
        divergence = error
    finally:
        offline.reset(token)
    if player.divergence is not None:
        divergence = player.divergence
    finished = any(event["kind"] == ev.SESSION_ENDED for event in recorded)
    return Report(
        session,
        divergence is None,
        len(recorded),
        len(player.reexecuted),
        len(player.folded),
        whole,
        finished,
        notes,
        divergence,
    )


class Unfinished(LLMError):
    """The record ends before the call does: a crash, or a session that is still running."""


class Tape:
    """The recorded events of one call (or of the session as a whole), and how far they have been matched."""

    __slots__ = ("at", "events", "waiting")

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.at = 0
        self.waiting: list[asyncio.Future[None]] = []

    def peek(self) -> dict[str, Any] | None:
        return self.events[self.at] if self.at < len(self.events) else None


class Replayed(Session):
    """A session that compares where a live one writes, and remembers where a live one acts."""

    replaying = True

    def opened_by(self, kind: str) -> bool:
        return self.unopened and (self.record[0]["data"].get("entry") or {}).get("kind") == kind

    def __init__(self, session: str, store: LogStore, recorded: Sequence[Mapping[str, Any]]) -> None:
        first = recorded[0]["data"] if recorded else {}
        super().__init__(store, id=session, seed=first.get("seed", ""), redactor=Redactor({}))
        self.started = True
        self.logs = True
        self.record = list(recorded)
        tapes: dict[str | None, list[dict[str, Any]]] = {}
        for event in self.record:
            tapes.setdefault(event["call"], []).append(dict(event))
        self.tapes = {call: Tape(events) for call, events in tapes.items()}
        self.taken: set[str] = set()
        self.reexecuted: set[str] = set()
        self.folded: set[str] = set()
        self.divergence: ReplayDivergence | None = None
        self._unwritable = False
        start = self.tapes.get(None)
        if start is not None and start.events and start.events[0]["kind"] == ev.SESSION_STARTED:
            start.at = 1

    # --- what a live session writes

    def stamp(
        self,
        kind: str,
        data: Mapping[str, Any],
        call: str | None = None,
        dialog: str | None = None,
        value: Any = None,
    ) -> Event:
        tape = self.tapes.get(call)
        found = tape.peek() if tape is not None else None
        if call is None and found is not None and _cut_off(found) and kind != ev.SESSION_ENDED:
            raise Unfinished("the session was cancelled here")
        if tape is None or found is None:
            if call is None or kind == ev.CALL_ENDED or self._open_ended(call):
                raise self._unfinished_or(kind, data, call)
            raise self._diverged(None, kind, data, "the code of today does more than was recorded", None)
        try:
            same = found["kind"] == kind and encode(found["data"]) == encode(data)
        except UnicodeEncodeError:
            self._unwritable = (
                True  # no log takes it: `write` refuses it as well, and is then given what one does
            )
            return Event(kind, data, found["at"], call, dialog, value)
        if not same:
            cause, recorded, present, hint = blame(found, kind, data)
            raise self._diverged(found, kind, data, cause, hint, recorded, present)
        tape.at += 1
        self._advance(tape)
        return Event(kind, data, found["at"], call, dialog, value)

    def write(self, event: Event) -> None:
        """It is in the record already."""
        if self._unwritable:
            encode(event.data)
            self._unwritable = False
            self.stamp(event.kind, event.data, event.call, event.dialog)

    async def flush(self) -> None:
        """Nothing is written."""

    def tell(self, call: str, delta: Any) -> None:
        """Nobody follows a replay."""

    async def start(self, meta: Mapping[str, Any] | None = None) -> None:
        """The recorded start stands."""

    async def end(self, status: str, **data: Any) -> None:
        tape = self.tapes.get(None)
        found = tape.peek() if tape is not None else None
        if found is None:
            return
        if _cut_off(found) and status != "cancelled":
            raise Unfinished("the session was cancelled here")
        if found["data"] != {"status": status, **data}:
            from lllm.llm.sessions import environment

            data = self.redactor.clean(environment().clean(data))  # a live session wrote it without keys
        self.emit(ev.SESSION_ENDED, {"status": status, **data})

    def new_call(self, agent: str, parent: Scope | None, add: Sequence[Message] = ()) -> str:
        """The recorded call that this one must be: the next of the same agent under the same parent, if there is one
        that opens with the same words (calls that ran side by side may come in another order now)."""
        call, via = (parent.call, parent.tool_call) if parent is not None else (None, None)
        waiting = [
            event
            for event in self.record
            if event["kind"] == ev.CALL_STARTED
            and event["call"] not in self.taken
            and event["data"].get("parent") == call
            and event["data"].get("via") == via
        ]
        same = [event for event in waiting if event["data"]["agent"] == agent]
        if len(same) > 1:
            words = unicode_only([message.record() for message in add])
            same = [event for event in same if event["data"]["add"] == words] or same
        chosen = next(iter(same or waiting), None)
        if chosen is None:
            if not any(event["kind"] == ev.SESSION_ENDED and not _cut_off(event) for event in self.record):
                raise Unfinished("the record ends before this call")
            raise self._diverged(
                None, ev.CALL_STARTED, {"agent": agent}, "the code of today makes a call more", None
            )
        self.taken.add(chosen["call"])
        self.reexecuted.add(chosen["call"])
        return str(chosen["call"])

    # --- what a live session does

    def recorded(self, call: str, kinds: Sequence[str], tool_call: str | None = None) -> Event | None:
        """The recorded answer to an effect."""
        tape = self.tapes[call]
        for event in tape.events[tape.at :]:
            if event["kind"] in kinds and (
                tool_call is None or event["data"].get("id", tool_call) == tool_call
            ):
                return Event(event["kind"], event["data"], event["at"], call, event["dialog"])
            if tool_call is None:
                break
        raise self._unfinished(call)

    def stopped(self, call: str) -> Event | None:
        """The recorded stop, when the call was stopped right here."""
        found = self.tapes[call].peek()
        if found is None or found["kind"] not in _STOPS:
            return None
        return Event(found["kind"], found["data"], found["at"], call, found["dialog"])

    async def turn(self, call: str, kind: str, tool_call: str) -> None:
        """Waits until the recorded order comes to this event. When every task of the group waits, the code of today does
        not do what comes next in the record; the first waiter then goes on, and its event is the divergence."""
        tape = self.tapes[call]
        while True:
            found = tape.peek()
            if found is None or found["kind"] in _STOPS:
                return
            if found["kind"] == kind and found["data"].get("id") == tool_call:
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            tape.waiting.append(waiter)
            try:
                await asyncio.wait_for(waiter, STALL)
            except TimeoutError:
                return

    def _advance(self, tape: Tape) -> None:
        for waiter in tape.waiting:
            if not waiter.done():
                waiter.set_result(None)
        tape.waiting.clear()

    # --- verdicts

    def complete(self, whole: bool, notes: list[str]) -> None:
        """What was recorded and not done again."""
        for call, tape in self.tapes.items():
            left = tape.peek()
            if left is None or call in self.folded:
                continue
            if call is None and not whole:
                shown = sum(1 for event in tape.events[tape.at :] if event["kind"] != ev.SESSION_ENDED)
                if shown:
                    notes.append(
                        f"{shown} events of the program itself (frontend, artifacts) were not re-executed"
                    )
                continue
            raise self._diverged(
                left, left["kind"], None, "the code of today does less than was recorded", None
            )

    def _open_ended(self, call: str) -> bool:
        tape = self.tapes.get(call)
        return tape is not None and not any(event["kind"] == ev.CALL_ENDED for event in tape.events)

    def _unfinished_or(self, kind: str, data: Mapping[str, Any], call: str | None) -> LLMError:
        if call is None and any(event["kind"] == ev.SESSION_ENDED for event in self.record):
            return self._diverged(None, kind, data, "the code of today does more than was recorded", None)
        return Unfinished("the record ends here")

    def _unfinished(self, call: str) -> LLMError:
        if self._open_ended(call):
            return Unfinished("the record ends here")
        tape = self.tapes[call]
        found = tape.peek()
        return self._diverged(
            found, "an effect", None, "the code of today wants an effect that was not recorded", None
        )

    def _diverged(
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
        error = ReplayDivergence(
            f"diverged at {where}: {cause}",
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


_STOPS: Final = (ev.LIMIT_REACHED, ev.CANCELLED)
STALL: Final = 2.0
"""Seconds after which a replayed group of tools that makes no progress counts as diverged."""


# --- what is run again -----------------------------------------------------------------------------------------------


async def _entry(
    player: Replayed, config: Config | None, entry: Callable[[], Any] | None, notes: list[str]
) -> bool:
    """Runs the whole program again where that is possible. False when only its calls can be."""
    from lllm.sync import in_thread, is_async

    token = current.set(Scope(player))
    try:
        if entry is not None:
            player.unopened = bool(player.record)
            status, data = await _play(player, entry() if is_async(entry) else in_thread(entry))
            await player.end(status, **data)  # unless the program ended the session itself
            return True
        meta = player.record[0]["data"] if player.record else {}
        described = meta.get("entry") or {}
        if described.get("kind") != "system":
            return False
        system = _system(described, config, player.store)
        await _play(player, system.acall(meta.get("task", ""), session=player, **meta.get("args", {})))
        if player.divergence is not None:
            raise player.divergence
        return True
    finally:
        current.reset(token)


async def _play(player: Replayed, program: Awaitable[Any]) -> tuple[str, dict[str, Any]]:
    """Runs the program of today and says how it ends. What it raises (sys.exit() as well) was raised when it was recorded,
    and then the end of the session says so; that is compared like everything else."""
    from lllm.llm.sessions import ending

    ended = next((event["data"] for event in player.record if event["kind"] == ev.SESSION_ENDED), None)
    try:
        await program
    except (ReplayDivergence, Unfinished):
        raise
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        task = asyncio.current_task()
        if ended is None or ended["status"] != "cancelled" or (task is not None and task.cancelling()):
            raise  # it is this replay that was interrupted
        return ending(error)
    except (Exception, SystemExit) as error:
        if ended is None:
            raise Unfinished(text_of(error)) from error
        return ending(error)
    return "done", {}


def _cut_off(event: Mapping[str, Any]) -> bool:
    """Whether an event says that somebody stopped the program: what it would have done next is not in the record."""
    return bool(event["kind"] == ev.SESSION_ENDED and event["data"].get("status") == "cancelled")


def _system(described: Mapping[str, Any], config: Config | None, store: LogStore) -> Any:
    from lllm.config import load_project
    from lllm.llm.build import build_agent

    source: Any = config
    if source is None and described.get("config"):
        source = load_project().root / described["config"]
    overrides = () if config is not None else described.get("set", ())
    return build_agent(
        source,
        agent_name=described.get("type"),
        overrides=overrides,
        model=described.get("model"),
        log_base=store,
    )


async def _calls(player: Replayed, config: Config | None, whole: bool, notes: list[str]) -> None:
    """Re-executes each call that has not been re-executed as a part of something bigger: all of them, or, after the whole
    program was run, those that plain tools made."""
    for event in player.record:
        call = event["call"]
        if event["kind"] != ev.CALL_STARTED or call in player.taken:
            continue
        if whole and event["data"].get("parent") is None:
            raise player._diverged(
                event, event["kind"], None, "code: the program of today does not make this call", None
            )
        player.taken.add(call)
        agent = _agent(event["data"], config)
        if agent is None:
            player.folded.add(call)
            fold_call(player, call)
            continue
        player.reexecuted.add(call)
        await _again(player, agent, event)
    if player.folded:
        notes.append(
            "agent calls that were folded, not re-executed, because their agents are not in the configuration: "
            f"{len(player.folded)}"
        )


def _agent(data: Mapping[str, Any], config: Config | None) -> Any:
    """The agent of today under the recorded name, or None."""
    from lllm.llm.build import agent_of

    if config is None:
        from lllm.config import load_config

        config = load_config()
    declared = config.agents.get(data["agent"])
    return None if declared is None else agent_of(declared, config)


async def _again(player: Replayed, agent: Any, event: Mapping[str, Any]) -> None:
    from lllm.llm.bind import Binding
    from lllm.llm.prompts import find_prompt
    from lllm.runtime import Call

    data = event["data"]
    path = (data.get("prompt") or {}).get("path")
    prompt = find_prompt(path) if path else None
    args = data.get("args", {})
    base = player.dialogs.get(data["base"]) if "base" in data else None
    if base is None and prompt is not None:
        _, _, add, _, _ = agent._prepare(prompt, args, {})
    else:
        add = [Message.from_dict(item) for item in data.get("add", ())]
    binding = Binding(agent._settings, prompt, agent.system_prompt)
    parent = Scope(player, data.get("parent"), data.get("via")) if data.get("parent") else None
    plan = binding.plan(args, parser_args=data.get("parser_args"))
    call = Call(plan, player, parent=parent, dialog=event["dialog"], id=event["call"])
    await call.run(base, add)


def fold_call(player: Replayed, call: str) -> State:
    """Moves the machine through the recorded events of one call. ReplayDivergence where the machine refuses one."""
    tape = player.tapes[call]
    state = State()
    for event in tape.events[tape.at :]:
        tape.at += 1
        if event["kind"] == ev.CALL_ENDED:
            continue
        value = None
        if event["kind"] == ev.CALL_STARTED and "base" in event["data"]:
            value = Opening.from_record(event["data"], player.dialogs.get(event["data"]["base"]))
        try:
            state, _ = step(
                state, Event(event["kind"], event["data"], event["at"], call, event["dialog"], value)
            )
        except (IllegalMove, KeyError, ValueError) as error:
            raise player._diverged(
                event, event["kind"], None, f"not a move of the machine: {error}", None
            ) from error
    if state.trunk is not None:
        node: Node = state.trunk
        player.dialogs[node.id] = node
    return state


# --- whose fault -----------------------------------------------------------------------------------------------------

_PARTS: Final = {
    # key of CallStarted's data: what a person would call it
    "prompt": "prompt",
    "system": "system prompt",
    "tools": "tool schema",
    "specs": "tool schema",
    "sampling": "sampling",
    "model": "model",
    "format": "format",
    "spec": "limits",
    "args": "arguments",
    "add": "messages",
    "agent": "agent",
}


def blame(found: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> tuple[str, Any, Any, str | None]:
    """Cause, recorded value, present value and hint for an event that differs."""
    recorded = found["data"]
    if found["kind"] != kind:
        if {found["kind"], kind} <= {ev.REPLY_ACCEPTED, ev.REPLY_REJECTED, ev.HANDLER_FAILED}:
            return (
                "parser: it judges the same reply otherwise",
                _event(found["kind"], recorded),
                _event(kind, data),
                None,
            )
        return "code: another event comes here", _event(found["kind"], recorded), _event(kind, data), None
    differing = [key for key in {*recorded, *data} if encode(recorded.get(key)) != encode(data.get(key))]
    if kind == ev.CALL_STARTED:
        for key, name in _PARTS.items():
            if key in differing:
                cause, before, now, hint = _blame_part(key, name, recorded.get(key), data.get(key))
                if "add" in differing and key in ("prompt", "system", "add"):
                    before, now = _first_difference(recorded.get("add", []), data.get("add", []))
                return cause, before, now, hint
    if kind == ev.REPLY_ACCEPTED or kind == ev.REPLY_REJECTED:
        return "parser: it reads the same reply otherwise", recorded, data, None
    if kind == ev.HANDLER_RETURNED:
        return f"handler: the {data.get('handler')} handler says something else", recorded, data, None
    if kind == ev.MODEL_REQUESTED:
        what = "dialog" if "head" in differing else "settings"
        return f"request: its {what} differ", recorded, data, None
    if kind == ev.SESSION_ENDED and "status" in differing:
        return "code: the program ends otherwise", recorded, data, None
    if kind == ev.FRONTEND:
        return "code: something else is shown", recorded, data, None
    key = differing[0] if differing else ""
    return f"code: '{key}' differs", recorded.get(key), data.get(key), None


def _blame_part(key: str, name: str, recorded: Any, present: Any) -> tuple[str, Any, Any, str | None]:
    if key in ("prompt", "system") and isinstance(recorded, Mapping) and isinstance(present, Mapping):
        path = recorded.get("path")
        if path != present.get("path"):
            return f"{name}: '{path}' was used, now '{present.get('path')}' is", recorded, present, None
        old, new = recorded.get("parts", {}), present.get("parts", {})
        parts = sorted(part for part in {*old, *new} if old.get(part) != new.get(part))
        return (
            f"{name} '{path}' changed: {', '.join(parts)}",
            recorded,
            present,
            f"Look at the prompt '{path}'.",
        )
    if isinstance(recorded, Mapping) and isinstance(present, Mapping):
        names = sorted(item for item in {*recorded, *present} if recorded.get(item) != present.get(item))
        old, new = ({item: side.get(item) for item in names} for side in (recorded, present))
        return f"{name}: {', '.join(names)} changed", old, new, None
    if key == "specs":
        return f"{name} changed", recorded, present, None
    return f"{name} changed", recorded, present, None


def _first_difference(recorded: Sequence[Any], present: Sequence[Any]) -> tuple[Any, Any]:
    """The first message that differs, on both sides: a text says more than a hash."""
    for old, new in zip_longest(recorded, present):
        if old != new:
            return old, new
    return recorded, present


def _event(kind: str, data: Any) -> dict[str, Any]:
    return {"kind": kind, "data": data}
