"""The driver of a call that has a record: a replay, and the past of a resumed session.

One loop over the recorded events of the call. What the world said (a reply, a tool's result, an approval, a wait, a stop)
is taken from the record; intents, parsed replies, handlers and reused results are produced by today's code and compared.
An agent used as a tool is driven along its own record, in a task beside this one. Nothing waits for its turn: the record
has the order.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, Reuse, RunTool, Wait
from lllm.core.events import Event
from lllm.errors import ReplayDivergence
from lllm.outcomes import Outcome
from lllm.session_followers import OneWay

if TYPE_CHECKING:
    from lllm.ports import Delta
    from lllm.replay.idle import Loop
    from lllm.replay.tape import Replayed, Tape
    from lllm.runtime import Call

SILENCE: Final = 300.0
"""Seconds without any event, after which agents that are driven along their records are not waited for."""

LEARNT: Final = frozenset((ev.MODEL_REPLIED, ev.TOOL_RETURNED, ev.APPROVAL_GIVEN))
"""What is kept where the call is cancelled at the same time."""
_STOPS: Final = frozenset((ev.LIMIT_REACHED, ev.CANCELLED))
_INTENTS: Final = frozenset((ev.MODEL_REQUESTED, ev.TOOL_REQUESTED))
_ANSWERED: Final[Mapping[str, tuple[type, ...]]] = {
    ev.MODEL_REQUESTED: (CallModel,),
    ev.MODEL_REPLIED: (CallModel,),
    ev.MODEL_FAILED: (CallModel,),
    ev.WAIT_ENDED: (Wait,),
    ev.REPLY_ACCEPTED: (Parse,),
    ev.REPLY_REJECTED: (Parse,),
    ev.HANDLER_RETURNED: (Handle,),
    ev.HANDLER_FAILED: (Parse, Handle),
    ev.TOOL_REQUESTED: (RunTool,),
    ev.TOOL_RETURNED: (RunTool, Reuse),
    ev.APPROVAL_GIVEN: (AskApproval,),
}
"""The kinds of effects that an event can be about."""


class Followed:
    """The record of one call. See `lllm.session_hooks.Past`."""

    def __init__(self, session: Replayed, call: str, tape: Tape) -> None:
        self.session = session
        self.call = call
        self.tape = tape
        self.over: Future[None] = Future()
        """Done when the call's record has ended. Threads may wait for it."""
        self._begun: list[Effect] = []  # their intents are in the record, their outcomes not yet
        self._agents: dict[str, asyncio.Task[Outcome]] = {}  # by the id of the tool call
        self._loop: Loop | None = None  # where it is driven, and keeps the order
        self._show: Callable[[Sequence[Delta]], None] = lambda _: None

    async def follow(
        self, call: Call, effects: Sequence[Effect]
    ) -> tuple[Sequence[Effect], Sequence[Effect]]:
        todo = list(effects)
        self.session.following[self.call] = self
        task = asyncio.current_task()
        self.session.order.driving[task] = self.call
        self._loop = self.session.order.here()
        if self.call in self.session.listeners:
            context = contextvars.copy_context()
            self._show = lambda deltas: context.run(call.performer.show_again, deltas)
        try:
            while not call.state.terminal:
                found = self.tape.peek()
                if found is None or self.session.departed:
                    await self.session.at_end(call)
                    self._pass_on(call, todo)
                    break
                try:
                    done, outcome = await self._next(call, todo, found)
                except ReplayDivergence:
                    if not self.session.hands_over:
                        raise
                    continue  # it has departed
                if outcome is None:
                    continue  # an intent, or the record ends here
                if done is not None:
                    todo = [effect for effect in todo if effect is not done]
                    self._begun = [effect for effect in self._begun if effect is not done]
                todo += call.apply(outcome)
        except asyncio.CancelledError:
            await self._end()
            self._keep(call)
            # what it did then may have taken a while to stop
            if (found := self.tape.peek()) is None:
                await self.session.at_record_end()
            elif found["kind"] == ev.CANCELLED and "told" in found["data"] and not self.session.departed:
                self.session.seen[self.call] = found["data"]["told"], "left" in found["data"]
            if found is not None and found["kind"] == ev.CANCELLED:
                await self.session.order.turn(found, leaving=True)
            raise
        finally:
            await self._end()
            del self.session.following[self.call], self.session.order.driving[task]
            self.over.set_result(None)
        begun = [effect for effect in todo if self._has_begun(effect)]
        return [*begun, *(effect for effect in todo if not self._has_begun(effect))], begun

    def _pass_on(self, call: Call, todo: Sequence[Effect]) -> None:
        """Gives the agents that are still at work to the live driver, where they go on with it."""
        if self.session.departed:
            for effect in todo:
                if isinstance(effect, RunTool) and effect.call.id in self._agents:
                    self.session.pass_on(call.id, effect.number, self._agents.pop(effect.call.id))

    def shows(self, deltas: Sequence[Delta], seq: int) -> Loop | None:
        """Gives the program deltas of the stream at their place in the record, event `seq`. Returns the loop in which it does.
        None where they are not given: the reply was lost because the process died, and is asked for again, and the program
        cannot take back what it had of it."""
        listener = self.session.listeners.get(self.call)
        if listener is None or self._loop is None:
            return None
        if isinstance(listener, OneWay):
            found, resumed = self.tape.peek(), self.session.order.inputs.resumed
            if found is None or any(seq < went_on < found["seq"] for went_on in resumed):
                return None
        self._loop.soon(self._show, deltas)
        return self._loop

    def _keep(self, call: Call) -> None:
        """Takes from the record what the call had learnt when it was cancelled."""
        stopped = self.session.order.inputs.stopped.get(self.call)
        while (found := self.tape.peek()) is not None and found["kind"] in LEARNT:
            if self.session.departed or (stopped is None and not self._ends_stopped()):
                return
            self.session.inputs.stopped(self.call)
            call.apply(Outcome(found["kind"], found["data"]))

    def _ends_stopped(self) -> bool:
        """True if nothing but answers comes before the recorded end, in a log that does not say where the call was stopped."""
        rest = self.tape.events[self.tape.at :]
        return any(event["kind"] == ev.CANCELLED for event in rest) and all(
            event["kind"] in LEARNT or event["kind"] in (ev.CANCELLED, ev.CALL_ENDED) for event in rest
        )

    async def within(self, task: asyncio.Future[Any]) -> None:
        session = self.session
        while not task.done():
            here = list(session.following.values())  # threads may come and go meanwhile
            going = [one.over for one in here if session.is_within(one.call, self.call)]
            if not going:
                return
            over = [asyncio.wrap_future(future) for future in going]
            await asyncio.wait((task, *over), return_when=asyncio.FIRST_COMPLETED)

    async def _next(
        self, call: Call, todo: Sequence[Effect], found: dict[str, Any]
    ) -> tuple[Effect | None, Outcome | None]:
        """The effect that the next event answers, or that today's code wants instead, with its outcome. No outcome: it has
        begun."""
        kind, data = found["kind"], found["data"]
        session = self.session
        if kind in _STOPS:
            await session.order.turn(found)
            if data.get("left") and not call.performer.said and not session.departed and not self._is_noted:
                call.performer.tell_again(Event(kind, data))
            await self._settle()
            return None, None if session.departed else Outcome(kind, data)
        if kind == ev.CALL_RESUMED:
            return None, Outcome(kind, data)
        effect = next((one for one in todo if _is_about(found, one)), None)
        if effect is None:
            return await self._instead(call, todo)
        if not self._has_begun(effect) and call.intend(effect):
            self._begun.append(effect)
            if isinstance(effect, RunTool):
                if self._runs_again(call, effect):
                    work = call.performer.run_tool(effect, again=True)
                    self._agents[effect.call.id] = asyncio.ensure_future(work)
                else:
                    self.session.order.skip(self.call, effect.call.id)
            elif isinstance(effect, CallModel):
                read, at_once = self._read()
                if read is not None and at_once:
                    call.performer.tell_again(read)
            return effect, None
        if kind in _INTENTS:
            cause = "the code of today does less than was recorded"
            raise session.diverged(found, kind, None, cause, None)
        if isinstance(effect, CallModel):
            await session.order.turn(found)
            if session.departed:
                return None, None
            session.reused += kind == ev.MODEL_REPLIED
            read, at_once = self._read()
            if self.call in session.listeners and not at_once:
                unread = session.order.inputs.unread.get(found["seq"], 0)
                for _ in call.performer.tell_by_turns(Event(kind, data) if read is None else read, unread):
                    if "cuts" in data:  # the program was given it before the reply came
                        await session.order.turn(found)
                        if self.session.departed:
                            return None, None
        elif isinstance(effect, Parse | Handle) or (isinstance(effect, Reuse) and "late" not in data):
            computed = await self._computed(call, effect)
            if call.plan.user_code:  # a thread may have done it, and others something else meanwhile
                await session.order.turn(found)
            return effect, computed
        elif (agent := self._agents.get(data.get("id", ""))) is not None:
            outcome = await self._outcome(agent, found)
            if outcome is None:
                return None, None
            del self._agents[data["id"]]
            if not _stopped(found) and outcome.data.get("error") != "CancelledError":
                return effect, outcome
        if not isinstance(effect, CallModel):
            await session.order.turn(found)
        return (None, None) if session.departed else (effect, Outcome(kind, data))

    def _read(self) -> tuple[Event | None, bool]:
        """What the program had read of the next reply when the call was stopped; and whether it is told so at once, because
        when each piece came is not in the log. Otherwise it had closed its stream then."""
        if self._is_noted:
            return None, False
        then, whole = self.tape.events[self.tape.at : self.tape.at + 2], None
        if then and then[0]["kind"] == ev.MODEL_REPLIED:  # it came when the call was stopped
            whole, *then = then
        if then and then[0]["kind"] == ev.CANCELLED and "told" in then[0]["data"]:
            if whole is not None and "cuts" in whole["data"] and "left" in then[0]["data"]:
                return None, False  # it leaves by itself
            return Event(ev.CANCELLED, then[0]["data"]), "left" not in then[0]["data"]
        stopped = self.session.order.inputs.stopped.get(self.call)
        # one with `cuts`: the deltas that the program was given before it was stopped are in the log
        if whole is not None and stopped == whole["seq"] - 1 and "cuts" not in whole["data"]:
            return Event(ev.CANCELLED, {"told": whole["data"]["message"]["content"]}), True
        return None, False

    @property
    def _is_noted(self) -> bool:
        """True if the record has the places of the deltas that the program was given. Old ones do not."""
        return self._loop is not None and self.call in self.session.order.inputs.streams

    async def _instead(self, call: Call, todo: Sequence[Effect]) -> tuple[Effect | None, Outcome | None]:
        """What today's code wants and the record does not have: the comparison says so."""
        for effect in todo:
            if isinstance(effect, Parse | Handle | Reuse):
                return effect, await self._computed(call, effect)
            if not self._has_begun(effect) and call.intend(effect):
                self._begun.append(effect)
                break
        raise self.session.unfinished_at(call.id)

    @staticmethod
    async def _computed(call: Call, effect: Effect) -> Outcome:
        outcome = await call.performer.perform(effect)
        if call.cancelled():  # the project's code has caught what told it so
            raise asyncio.CancelledError
        return outcome

    def _has_begun(self, effect: Effect) -> bool:
        return any(one is effect for one in self._begun)

    # --- agents that are tools

    def _runs_again(self, call: Call, effect: RunTool) -> bool:
        """True if a tool is an agent that is driven along its record. Not if a fork was given its answer, or it was stopped
        before it began; and at the end of the record the live driver runs it."""
        tool, id = call.plan.tools.get(effect.call.name), effect.call.id
        if tool is None or tool.agent is None:
            return False
        events, at = self.tape.events, self.tape.at
        found = next((events[i] for i in range(at, len(events)) if _ends(events[i], id)), None)
        if found is None:
            return self.session.hands_over and self.session.asked_within(self.call, id)
        if "from" in found["data"]:
            return False
        return not _stopped(found) or self.session.asked_within(self.call, id)

    async def _outcome(self, agent: asyncio.Task[Outcome], found: dict[str, Any]) -> Outcome | None:
        """Waits for an agent. Whatever halts the session beside it ends that. None where the record ends meanwhile."""
        while not agent.done():
            moved = await self._wait()
            if self.session.departed:
                return None
            if not moved:
                cause = f"nothing has happened for {SILENCE:g} s: the agent within has not come to its end"
                raise self.session.diverged(found, found["kind"], None, cause, None)
            if (error := self.session.halted or self.session.divergence) is not None and not agent.done():
                raise error
        return agent.result()

    async def _settle(self) -> None:
        """Waits until the agents within have come to their recorded ends: this call's stop would cut them short."""
        session = self.session
        while not all(task.done() for task in self._agents.values()) and await self._wait():
            if session.departed:
                return
        if not session.departed:
            await self._end()

    async def _wait(self) -> bool:
        """Waits until one of the agents is done. False where nothing at all happens in the session."""
        seen = self.session.steps
        running = [task for task in self._agents.values() if not task.done()]
        # where an order is kept, that is what knows when nothing happens any more
        silence = SILENCE if self.session.order.off else None
        ends = [asyncio.ensure_future(self.session.order.end(anew=True))] if self.session.hands_over else []
        try:
            done, _ = await asyncio.wait(
                [*running, *ends], timeout=silence, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in ends:
                task.cancel()
        return bool(done) or self.session.steps != seen

    async def _end(self) -> None:
        tasks = list(self._agents.values())
        self._agents.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


def _is_about(found: Mapping[str, Any], effect: Effect) -> bool:
    if type(effect) not in _ANSWERED.get(found["kind"], ()):
        return False
    made = getattr(effect, "call", None)
    return made is None or made.id == found["data"].get("id")


def _ends(event: Mapping[str, Any], tool_call: str) -> bool:
    """True if an event answers a tool call, or stops it."""
    kind = event["kind"]
    return kind in _STOPS or (kind == ev.TOOL_RETURNED and event["data"].get("id") == tool_call)


def _stopped(found: Mapping[str, Any]) -> bool:
    """True if a recorded answer says that the tool was stopped, and not what it returned."""
    return found["kind"] in _STOPS or "uncertain" in found["data"]
