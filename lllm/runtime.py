"""Drives one agent call: step, append, perform.

The order is always the same. An effect's intent is an event; it is stepped (the machine may refuse), appended, made
durable, and only then is the effect done. Its result is an event too. Cancellation and deadline are events like any
other, so a call that was stopped has a log that says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from lllm import errors, inputs
from lllm.bounds import Bounds, enclosing, is_over
from lllm.budgets import Ledger, budget_exceeded, ledger_of
from lllm.clock import Clock
from lllm.core import events as ev
from lllm.core.blobs import with_blobs
from lllm.core.canonical import digest
from lllm.core.choice import freed
from lllm.core.dialog import Node, messages_of
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, RunTool, Wait
from lllm.core.events import Event
from lllm.core.guard import ANY
from lllm.core.machine import step
from lllm.core.spec import Spec
from lllm.core.state import BLANK, CANCELLED, DONE, READY, Opening, State
from lllm.core.use import Use, mend
from lllm.errors import (
    BudgetExceeded,
    CallCancelled,
    CallError,
    ConfigError,
    DeadlineExceeded,
    HandlerFailed,
    LLMError,
    ProviderFailed,
    RepairExhausted,
    SandboxLost,
    ToolBudgetExceeded,
    text_of,
)
from lllm.models.message import Message
from lllm.models.parts import BlobRef
from lllm.models.reply import Reply, Usage
from lllm.outcomes import Outcome
from lllm.perform import Performer
from lllm.plan import Plan, fixed_of
from lllm.session import Scope, Session
from lllm.session_hooks import Past
from lllm.tool_run import ended

if TYPE_CHECKING:
    from lllm.core import records

_WORLD: Final = frozenset((CallModel, RunTool, AskApproval, Wait))
"""Effects that act on the world: what was learnt before must be durable by then."""

_STOPS: Final = frozenset((ev.LIMIT_REACHED, ev.CANCELLED))

_COUNTED: Final = frozenset((ev.MODEL_REPLIED, ev.MODEL_FAILED, ev.TOOL_RETURNED))

_LEARNT: Final = frozenset((ev.MODEL_REPLIED, ev.TOOL_RETURNED, ev.APPROVAL_GIVEN))
"""What somebody outside did or said. It is kept where the call is cancelled at the same time."""


class Call:
    """One live agent call. `run` drives it to its end; afterwards `state` says how it ended."""

    def __init__(
        self,
        plan: Plan,
        session: Session,
        *,
        parent: Scope | None = None,
        dialog: str | None = None,
        id: str | None = None,
        add: Sequence[Message] = (),
        key: str | None = None,
    ) -> None:
        self.plan = plan
        self.session = session
        self.parent = parent
        self.id = id or session.new_call(plan.agent, parent, add, key)
        self.key = key
        self.dialog = dialog
        self.base: Node | None = None
        self.state = BLANK
        self.usage: Usage | None = None
        self.fault: BaseException | None = None
        self.failed: Mapping[str, Any] = {}
        self.opening: Mapping[str, Any] = {}  # the data of CallStarted
        self.performer = Performer(plan, session, self.id, dialog, self._over)
        self._serial: asyncio.Lock | None = None  # tools that must not run beside each other
        self.ledger: Ledger | None = None  # where a budget, its own or of a call around it, counts its use
        self._past: Past | None = None  # its record, in a session that is run again
        self._in_past = False
        self._begun: Sequence[Effect] = ()  # effects that a process which died had begun
        self._bounds = Bounds(None)
        self._finished = False

    async def run(self, base: Node | None, add: Sequence[Message]) -> State:
        """Drives the call from a dialog (`base` and new messages) to a terminal state. Raises only when the log cannot
        be written, and CancelledError (after writing that down)."""
        self._bounds = Bounds(enclosing.get(), asyncio.current_task())
        token = enclosing.set(self._bounds)
        clock = self.session.clock if isinstance(self.session.clock, Clock) else None
        if clock is not None:
            clock.call_begins()
        coming = self.session.inputs
        coming.begin()
        try:
            effects = self._begin(base, add)
            await (self._apart(effects) if self.plan.foreign else self._drive(effects))
        except asyncio.CancelledError as error:
            await self._stop("cancelled", error)
            raise
        except GeneratorExit:
            raise  # the coroutine is thrown away: nothing can be awaited any more
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C, or what a plug-in raised to end the program
                await self._stop("interrupted", error)
            if isinstance(error, LLMError) or not isinstance(error, Exception) or not self._broke(error):
                raise
        finally:
            coming.end()
            self._bounds.left = None
            if clock is not None:
                clock.call_ends()
            try:  # noqa: SIM105  quicker than `suppress`
                enclosing.reset(token)
            except ValueError:  # the coroutine was thrown away, and is closed in another context
                pass
            # a call that refers to itself is freed by the garbage collector alone, which then walks through all that live
            self.performer.is_over = _has_ended
        return self.state

    async def _apart(self, effects: tuple[Effect, ...]) -> None:
        """Drives the call in a task of its own. There, and in no other, code of others may cancel and take back as it likes:
        its scopes do not always count right (TaskGroup before Python 3.13). What reaches the task outside is meant for the
        call."""

        async def driven() -> None:
            try:
                await self._drive(effects)
            except (asyncio.CancelledError, Exception, GeneratorExit):
                raise
            except BaseException as error:  # it breaks out of the event loop from here
                await self._stop("interrupted", error)
                raise

        own = asyncio.create_task(driven())
        try:
            await own
        finally:
            if own.done() and not own.cancelled():
                own.exception()  # looked at, also where the one who waits was cancelled at the same time

    def _begin(self, base: Node | None, add: Sequence[Message]) -> tuple[Effect, ...]:
        plan, session = self.plan, self.session
        session.refresh()
        version = self.performer.rules = session.rules(self.id)
        rules = plan.rules
        if version >= 3:
            around = (
                self.parent.ledger if self.parent is not None and self.parent.session is session else None
            )
            self.ledger = self.performer.ledger = ledger_of(around, plan.limits, plan.agent)
        if version < 2:
            rules = {name: rule._replace(delegate=False) for name, rule in rules.items()}
        spec = Spec(plan.limits, rules, plan.interrupt, plan.execute, session.seed, version, plan.retry)
        record = spec.record() if version < 2 else spec.with_run(plan.spec_record)
        add, edited = session.opening(self.id, add)
        trunk = base
        for message in add:
            trunk = Node(message, trunk)
        if trunk is not None and trunk.offered:  # by an earlier call of the dialog
            further = {name: plan.tools[name].rule for name in trunk.offered if name in plan.further_specs}
            spec = spec._replace(tools={**spec.tools, **further})
            record = spec.record()
        data: dict[str, Any] = {"agent": plan.agent, **plan.opening}
        if record:
            data["spec"] = record
        if self.key is not None:
            data["key"] = self.key
        if self.parent is not None and self.parent.call is not None:
            data["parent"] = self.parent.call
            data["via"] = self.parent.tool_call
        elif self.parent is not None and self.parent.stage is not None and self.parent.session is session:
            data["stage"] = self.parent.stage
        if base is not None:
            if session.dialogs.get(base.id) is None and session.logs:
                # the dialog began outside of this session: its past is written here, once
                add = (*base.messages(), *add)
            else:
                data["base"] = base.id
                self.base = base
        data["add"] = [message.record() for message in add]
        if edited is not None:
            data["edited"] = edited.record()
        for blob in plan.blobs:
            data["specs"] = session.keep(blob)
        if plan.deferred is not None:
            data["deferred"] = session.keep(plan.deferred)
        opening: Opening | None = Opening(spec, trunk)
        has_parts = edited is not None or (trunk is not None and trunk.has_parts)
        if has_parts and (kept := self._with_bytes(data)) is not data:
            data, opening = kept, None
        effects = self.apply(Outcome(ev.CALL_STARTED, data, opening))
        if session.redactor or self.opening is not data:
            self._without_secrets()
        self.opening = {}  # nobody reads it any more
        if plan.limits.deadline is not None:
            self._bounds.left = self._seconds_left
        if plan.adapted:
            words = "schemas of tools were adapted to the provider"
            session.note(words, of="schemas", call=self.id, adapted=plan.adapted)
        return effects

    def _with_bytes(self, data: dict[str, Any]) -> dict[str, Any]:
        """Keeps the bytes of messages that began outside of this session. The same data if all keep their digests."""

        def keep(digest: str) -> str:
            if not isinstance(digest, BlobRef):
                return digest  # of this store: it was read from there
            kept = self.session.keep_bytes(digest.data)
            return digest if kept == digest else kept

        return dict(found) if (found := with_blobs(ev.CALL_STARTED, data, keep)) is not data else data

    def _without_secrets(self) -> None:
        """A schema, or a sampling value, may hold a secret that is not in the log: the hashes of the requests are made of what
        the log says, and the model is told of tools and formats no more than it."""
        plan, redactor = self.plan, self.session.redactor
        changes: dict[str, Any] = {}
        if any(self.opening.get(key) != plan.opening.get(key) for key in ("sampling", "specs", "deferred")):
            further = {name: redactor.clean(spec) for name, spec in plan.further_specs.items()}
            changes = {
                "fixed": fixed_of(self.opening),
                "tool_specs": tuple(redactor.clean(spec) for spec in plan.tool_specs),
                "further_specs": further,
            }
        if plan.format is not None and (clean := redactor.clean(plan.format)) is not plan.format:
            changes["format"] = clean
        if changes:
            self.plan = self.performer.plan = plan.with_(**changes)

    def apply(self, outcome: Outcome) -> tuple[Effect, ...]:
        """Step first (it may refuse), then append."""
        kind = outcome.kind
        if kind in _STOPS:
            outcome = outcome._replace(data=self._with_uncertain(outcome.data))
        event = self.session.stamp(kind, outcome.data, self.id, self.dialog, outcome.value)
        whole = event
        if kind == ev.CALL_STARTED:
            self.opening = event.data
            if event.value is None:
                whole = event._replace(value=Opening.from_record(event.data, self.base))
        before = self.state
        self.state, effects = step(before, whole)
        self.session.write(event)
        if self.ledger is not None and kind in _COUNTED:
            self._count(before, event.data)
        if kind == ev.MODEL_REPLIED:
            reply = self.state.reply
            self.fault = None  # mended: it is not the cause of what may come
            if reply is not None and reply.usage is not None:
                self.usage = reply.usage.plus(self.usage)
        elif kind == ev.TOOL_RETURNED:
            if "whole" in event.data:
                self._remember(event.data["whole"])
        elif kind == ev.REPLY_ACCEPTED:
            # what was shown stays: only a reply that is asked for again is taken back
            self.performer.said = False
        elif kind in (ev.MODEL_FAILED, ev.HANDLER_FAILED):
            self.failed = event.data
            if "usage" in event.data:
                self.usage = Usage(**event.data["usage"]).plus(self.usage)
            if outcome.value is not None:
                self.fault = outcome.value
        return effects

    def _count(self, before: State, data: Mapping[str, Any]) -> None:
        """Adds a reply to the ledgers, or the use by agents within a tool, unless it was counted while they ran."""
        assert self.ledger is not None
        self.ledger.add_own(before, self.state)
        counted = self.performer.counted
        if "spent" in data and data["id"] not in counted:
            self.ledger.add_inner(Use.from_record(data["spent"]))
        counted.discard(data.get("id", ""))

    def _remember(self, whole: Mapping[str, Mapping[str, str]]) -> None:
        """Remembers what was cut from a result: the model may read on."""
        session = self.session
        for name, kept in whole.items():
            # where no log is kept, the bytes are in the digest alone
            session.results[name] = {**kept, "blob": str(kept["blob"])} if session.logs else kept

    def _with_uncertain(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the event of a stop says, with the tools that it left in the middle: whether they took effect is not known."""
        state = self.state
        left = [
            item.call
            for item in state.pending
            if item.state == "running" and state.spec.tools.get(item.call.name, ANY).counts_as != "pure"
        ]
        if not left or state.spec.rules < 2 or "uncertain" in data:
            return data
        data = {**data, "uncertain": [{"id": call.id, "tool": call.name} for call in left]}
        if "message" in data:
            names = ", ".join(f"'{name}'" for name in dict.fromkeys(call.name for call in left))
            data["message"] += f"; it is not known whether {names} took effect"
        return data

    async def _drive(self, effects: Sequence[Effect]) -> None:
        if (past := self.session.past(self.id)) is not None:
            self._past, self._in_past = past, True
            effects, self._begun = await past.follow(self, effects)
            self._in_past = False
        coming = self.session.inputs
        while not self.state.terminal:
            if len(effects) == 1:
                effect = effects[0]
                outcome = await self._do(effect)
                if coming.crowded and (type(effect) in _WORLD or self._by_the_project(effect)):
                    await self._turn(outcome)
                if self.cancelled():
                    self._keep(outcome)
                    raise asyncio.CancelledError
                effects = self.apply(outcome)
            else:
                effects = await self._together(effects)
                if self.cancelled():
                    raise asyncio.CancelledError
        if self.state.phase != DONE:
            await self._bounds.wind_up()
        self._finish()
        if self.state.phase == CANCELLED:  # by its record
            await self.session.back_out(self.id)

    async def _turn(self, outcome: Outcome) -> None:
        """Waits for its turn among the inputs of the program."""
        try:
            await self.session.inputs.turn()
        except asyncio.CancelledError:
            self._keep(outcome)
            raise

    def cancelled(self) -> bool:
        """Whether somebody has cancelled the call, also where a tool, a backend or a parser has caught what told it so."""
        bounds = self._bounds
        if bounds.cancelled:
            return True
        # a loop around this one may stand still, and tell of it too late
        return bounds.parent is not None and not self._in_past and is_over(bounds.parent)

    def _late(self) -> bool:
        """Whether the deadline has passed."""
        due = self.state.deadline_at
        return due is not None and not self._in_past and self.session.clock() >= due

    def _seconds_left(self) -> float | None:
        """Seconds until the deadline; None for none."""
        due = self.state.deadline_at
        return None if due is None else (due - self.session.clock()) / 1_000_000

    def _over(self) -> bool:
        """Whether whatever is at work is to stop. A blocking call in it may have noticed before the event loop could tell."""
        return self.cancelled() or self._late()

    def _keep(self, outcome: Outcome) -> None:
        """Writes down what a call that is cancelled has learnt of the world at last: a tool that had its way all the
        same, or a reply that is paid for. Not where that would be another end of the call than its cancellation."""
        if outcome.kind not in _LEARNT or self.state.terminal:
            return
        event = Event(outcome.kind, outcome.data, self.session.clock(), self.id, self.dialog, outcome.value)
        if not step(self.state, event)[0].terminal:
            # a replay must stop the call here, before what follows
            self.session.inputs.stopped(self.id)
            self.apply(outcome)

    async def _do(self, effect: Effect) -> Outcome:
        """Does one effect, its intent first; a deadline that passes meanwhile is the outcome."""
        kind = type(effect)
        if kind is CallModel and self.ledger is not None and (over := self.ledger.exceeded()) is not None:
            if over.halts:
                raise self.session.halt(budget_exceeded(over, self.session.id, self.id))
            return Outcome(ev.LIMIT_REACHED, {"reason": over.limit, "message": over.words})
        if kind is CallModel:
            self.performer.asked_in = self.state
        if kind in _INTENTS and not (self._begun and any(one is effect for one in self._begun)):
            self.apply(_INTENTS[kind](self, effect))
        world = kind in _WORLD
        if world:
            await self.session.flush()
        due = self.performer.deadline_at = self.state.deadline_at
        if due is None:
            if not self.performer.is_outside(effect):
                return await self.performer.work(effect)
            token = inputs.enter(
                True
            )  # as `perform` does, with a coroutine less: each call comes by here many times
            try:
                return await self.performer.work(effect)
            finally:
                inputs.leave(token)
        left = (due - self.session.clock()) / 1_000_000
        if self._past is None:  # else calls within may be re-executed, for which time stands still
            self._bounds.until = time.monotonic() + left
        timed = world or self._by_the_project(effect)  # which may hang as well as a tool
        try:
            return await (self._in_time(effect, left) if timed else self.performer.perform(effect))
        except asyncio.CancelledError:
            if self._late() and not self.cancelled():
                return self._deadline_passed()  # a blocking call in it has noticed that
            raise

    def _by_the_project(self, effect: Effect) -> bool:
        """Whether a parser or handler of the project does it."""
        return self.plan.user_code and isinstance(effect, Parse | Handle)

    def intend(self, effect: Effect) -> bool:
        """Appends the event that an effect is about to be performed. False for one that has no such event."""
        if type(effect) not in _INTENTS:
            return False
        self.apply(_INTENTS[type(effect)](self, effect))
        return True

    async def _in_time(self, effect: Effect, left: float) -> Outcome:
        # a Wait that would pass the deadline was refused by the machine; its own clock decides, not the loop's
        if isinstance(effect, Wait):
            return await self.performer.perform(effect)
        task = asyncio.ensure_future(self.performer.perform(effect))
        try:
            with inputs.effect():
                done, _ = await asyncio.wait((task,), timeout=max(0.0, left))
            if not done and self._past is not None:
                await self._past.within(task)
            if not task.done():
                await ended(task)
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):
                await ended(task)
            if not task.cancelled() and task.exception() is None:
                self._keep(task.result())
            raise
        if done or (isinstance(effect, RunTool) and not task.cancelled()):
            # also of a tool that took no notice of the deadline: the machine looks at the time
            return task.result()
        return self._deadline_passed()

    def _deadline_passed(self) -> Outcome:
        limit = self.state.spec.limits.deadline
        return Outcome(
            ev.LIMIT_REACHED, {"reason": "deadline", "message": f"the deadline of {limit:g} s has passed"}
        )

    async def _together(self, effects: Sequence[Effect]) -> tuple[Effect, ...]:
        """Does several effects at once and applies their outcomes as they come, each durable while the others are at work;
        gives the effects that follow when all are done. A stop (deadline, cancellation) ends them all."""
        running: dict[asyncio.Task[Outcome | tuple[Effect, ...]], Effect] = {}
        following: tuple[Effect, ...] = ()
        try:
            todo = list(effects)
            while todo or running:
                for effect in todo:
                    running[asyncio.ensure_future(self._one_of_many(effect))] = effect
                todo = []
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task.done()]:
                    del running[task]
                    new = self._settled(task.result())
                    if not new and self._ended():
                        return ()
                    if running:
                        todo.extend(new)
                    else:
                        following = (*todo, *new)
                        todo = []
                if running:
                    # what a tool did must not be forgotten because another one takes long
                    await self.session.flush()
        except (Exception, asyncio.CancelledError) as error:
            # a session that Ctrl-C has halted raises CancelledError, although nobody has cancelled this call
            if running and self.session.halted is not None and not self.cancelled():
                await self._settle(list(running))
            elif isinstance(error, asyncio.CancelledError):
                await self._wind_up(list(running))
            raise
        finally:
            for task in running:
                task.cancel()
            if running:
                # waited for, and looked at, so that nobody is warned of what they raise
                await asyncio.gather(*running, return_exceptions=True)
        return following

    async def _wind_up(self, running: Sequence[asyncio.Task[Outcome | tuple[Effect, ...]]]) -> None:
        """Cancels what is done side by side and waits for it. What it gives all the same is kept."""
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):  # another cancellation is passed on to all of them
            await asyncio.gather(*running, return_exceptions=True)
        for task in running:
            if not task.cancelled() and task.exception() is None:
                outcome = task.result()
                if isinstance(outcome, Outcome):
                    self._keep(outcome)

    def _settled(self, result: Outcome | tuple[Effect, ...]) -> tuple[Effect, ...]:
        """The effects that follow: the outcome is applied here, where that has not been done yet."""
        return self.apply(result) if isinstance(result, Outcome) else result

    async def _settle(self, running: Sequence[asyncio.Task[Outcome | tuple[Effect, ...]]]) -> None:
        """Waits for what is done beside that which halted the session, and keeps what comes of it."""
        beside = list(running)
        while beside:
            await asyncio.wait(beside, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in beside if task.done()]:
                beside.remove(task)
                if not task.cancelled() and task.exception() is None:
                    with suppress(Exception):  # what cannot be kept does not keep the others from it
                        self._settled(task.result())

    def _ended(self) -> bool:
        return self.state.terminal

    async def _one_of_many(self, effect: Effect) -> Outcome | tuple[Effect, ...]:
        if not isinstance(effect, RunTool) or self.plan.tools[effect.call.name].rule.concurrent:
            return await self._in_turn(effect)
        self._serial = self._serial or asyncio.Lock()
        async with self._serial:
            outcome = await self._in_turn(effect)
            if self.state.terminal or self.cancelled():
                return outcome
            # the next one must not begin before this one's result is stored
            following = self.apply(outcome)
            await self.session.flush()
            return following

    async def _in_turn(self, effect: Effect) -> Outcome:
        """Performs an effect, and waits for its outcome's turn. What is known then is not lost when the call is cancelled."""
        outcome = await self._do(effect)
        if self.session.inputs.crowded:
            with suppress(asyncio.CancelledError):
                await self.session.inputs.turn()
        return outcome

    def _model_requested(self, effect: CallModel) -> Outcome:
        """Its data: the hash of the rendered request, from the hash of its fixed part and the dialog's head; nothing is
        encoded twice."""
        if not self.session.logs:
            return Outcome(ev.MODEL_REQUESTED, {})
        fixed = self.plan.fixed[0 if effect.tools else 1]
        if effect.free and freed(self.plan.sampling) is not self.plan.sampling:
            fixed = f"{fixed} free"
        request = digest(f"{fixed} {effect.head.id}".encode())
        data: records.ModelRequested = {"request": request, "head": effect.head.id, "tools": effect.tools}
        return Outcome(ev.MODEL_REQUESTED, data)

    def _tool_requested(self, effect: RunTool) -> Outcome:
        call = effect.call
        self.performer.state = self.state
        return Outcome(ev.TOOL_REQUESTED, {"id": call.id, "name": call.name, "n": effect.number})

    async def _stop(self, reason: str, error: BaseException) -> None:
        if not self.session.inputs.follows:  # deltas that wait for their turn are not given any more
            self.session.listeners.pop(self.id, None)
        await self._bounds.wind_up()
        if self._finished:
            self.session.inputs.stopped(self.id)
        await self.session.inputs.turn(leaving=True)
        if not self.session.left_open(error):
            if not self.state.terminal and self.state.phase != READY:
                self.apply(Outcome(ev.CANCELLED, self._as_stopped(reason)))
            if self.state.terminal:
                self._finish()
        await self.session.back_out(self.id)

    def _as_stopped(self, reason: str) -> records.Cancelled:
        """What the log says of a stop: also what the program had read of the reply, where it followed that."""
        data: records.Cancelled = {"reason": reason}
        if (seen := self.session.seen.pop(self.id, None)) is not None:
            data["told"], left = seen
            if left:
                data["left"] = True
        return data

    def _broke(self, error: Exception) -> bool:
        """Ends a call in which an exception that nobody expects was raised: a fault of ours, which must not leave the call open
        in the log. False where that cannot be said there."""
        halted = self.session.halted is not None
        if halted or self.session.replaying or self.state.terminal or self.state.phase == READY:
            return False
        self.fault = error
        words = f"{type(error).__name__}: {text_of(error)}"
        self.apply(Outcome(ev.LIMIT_REACHED, {"reason": "internal_error", "message": words}))
        self._finish()
        return True

    def _finish(self) -> None:
        """Writes CallEnded, once: the caller may be cancelled just as the call has ended."""
        if self._finished:
            return
        self._finished = True
        state = self.state
        data: dict[str, Any] = {"status": state.phase.lower()}
        if state.phase != DONE:
            data["reason"], data["error"] = state.reason, state.error
        if self.usage is not None:
            data["usage"] = self.usage.record()
        if state.cost:
            data["cost"] = str(state.cost)
        elif state.cost is None:
            data["cost"] = None
        if state.phase == DONE and state.trunk is not None and self.session.logs:
            data["head"] = state.trunk.id
            self.session.dialogs[state.trunk.id] = state.trunk
        self.session.emit(ev.CALL_ENDED, data, self.id, self.dialog)

    def result(self) -> Reply:
        """The reply of a call that is done. Raises the CallError that says why there is none."""
        state = self.state
        if state.phase == DONE:
            assert state.reply is not None
            assert state.trunk is not None
            reply = state.reply
            if reply.agent is not None:
                return self._answer_of_other(reply, state.trunk)
            return reply.with_(
                parsed=self.performer.accepted,
                messages=state.trunk.messages,
                cost=state.cost,
                total_usage=self.usage,
                session=self.session.id if self.session.logs else None,
                call=self.id,
                agent=self.plan.agent,
            )
        if state.phase == CANCELLED:
            raise asyncio.CancelledError  # only in a replay: whoever made the call met this, and went on or did not
        raise self._error() from (self.fault if isinstance(self.fault, Exception) else None)

    def _answer_of_other(self, reply: Reply, trunk: Node) -> Reply:
        """The reply of a call that was handed over: the other agent's, with the dialog of this one and what both have used."""
        state, theirs = self.state, self.performer.answer
        parsed = reply.content if state.value is None else state.value
        usage, cost = self.usage, state.cost
        if isinstance(theirs, Reply) and theirs.content == reply.content:
            reply = theirs.with_(agent=reply.agent, content=reply.content, handed_over=theirs)
            parsed = theirs.parsed
            usage = usage if theirs.total_usage is None else theirs.total_usage.plus(usage)
            cost = None if cost is None or theirs.cost is None else cost + theirs.cost
        else:
            for tool in self.plan.tools.values():  # a fork was given the answer
                if tool.read is not None:
                    with suppress(LookupError, LLMError):  # another's agent, or an edit that is no payload
                        parsed = tool.read(reply.content, reply.agent or "")
                        break
        return reply.with_(
            parsed=parsed,
            messages=trunk.messages,
            cost=cost,
            total_usage=usage,
            session=self.session.id if self.session.logs else None,
            call=self.id,
        )

    def _error(self) -> CallError:
        state = self.state
        if isinstance(theirs := self.performer.answer, CallError) and state.reason == theirs.reason:
            return type(theirs)(
                f"agent '{self.plan.agent}': {state.error}",
                reason=theirs.reason,
                attempts=theirs.attempts,
                session=self.session.id if self.session.logs else None,
                call=self.id,
                hint=theirs.hint,
            )
        kind, hint = _ERRORS.get(state.reason, (CallError, None))
        if kind is ProviderFailed and (wrong := self._misconfigured()) is not None:
            raise wrong
        text = state.error
        if kind is BudgetExceeded and state.reason is not None:
            hint = mend(state.reason, text or "")
        if kind is RepairExhausted:
            text = f"no acceptable reply after {state.spec.limits.max_exception_retry} repairs: {text}"
        if kind is ProviderFailed:
            hint = self.failed.get("hint")
            if state.model_calls > 1:
                text = f"{text} (after {state.model_calls} tries)"
        error = kind(
            f"agent '{self.plan.agent}': {text}" if state.phase != CANCELLED else text,
            reason=state.reason,
            attempts=state.attempts,
            session=self.session.id if self.session.logs else None,
            call=self.id,
            hint=hint,
        )
        error.messages = messages_of(state.trunk)
        return error

    def _misconfigured(self) -> ConfigError | None:
        """The ConfigError that kept the backend from answering. A replay knows it by its record."""
        if self.fault is not None:
            return self.fault if isinstance(self.fault, ConfigError) else None
        recorded = getattr(errors, self.failed.get("error", ""), None)
        if not (isinstance(recorded, type) and issubclass(recorded, ConfigError)):
            return None
        return ConfigError(self.failed["message"], hint=self.failed.get("hint"))

    @property
    def cost(self) -> Decimal | None:
        """Money so far, in US dollars; None where a price is unknown."""
        return self.state.cost


_INTENTS: Final[Mapping[type, Callable[[Call, Any], Outcome]]] = {
    CallModel: Call._model_requested,
    RunTool: Call._tool_requested,
}
"""Effects with an event that says that they are about to be performed."""


def _has_ended() -> bool:
    """What a performer asks whose call has ended."""
    return True


_ERRORS: Final[dict[str, tuple[type[CallError], str | None]]] = {
    "repair_exhausted": (RepairExhausted, "Raise max_exception_retry, or look at the attempts: lllm show."),
    "sandbox_broken": (SandboxLost, None),
    "tool_budget": (ToolBudgetExceeded, "Raise max_interrupt_times (null: no limit)."),
    "max_model_calls": (BudgetExceeded, None),
    "max_tokens_total": (BudgetExceeded, None),
    "max_cost": (BudgetExceeded, None),
    "deadline": (DeadlineExceeded, "Raise deadline."),
    "provider_failed": (ProviderFailed, None),
    "handler_failed": (HandlerFailed, None),
    "cancelled": (CallCancelled, None),
    "empty_dialog": (CallError, "Give the call a prompt or a message."),
    "internal_error": (CallError, "This is a fault of lllm: please report it, with the traceback above."),
}
