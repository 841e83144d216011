"""The agent call as a state machine.

Rules:

1. `step(state, event) -> (state, effects)` is a pure function. The same events give the same states, so a log is folded
   (`fold`) to exactly the state that the live call had.
2. `TABLE` says which event may come in which phase and where it may lead. An event that the table does not list is
   refused with IllegalMove before anything happens; a move to a phase that it does not list is a bug, and refused too.
3. Every budget is checked before the model is asked, in one place (`_ask`). So every call ends: each model turn has at
   most `max_exception_retry` repairs and as many waits as its retry policy allows, and there are at most
   `max_interrupt_times` tool rounds.
4. A repair happens on a branch of the dialog. An accepted reply is put onto the trunk and the branch is dropped. A tool
   round stays on the trunk.
5. A hand-off ends the call: the answer of the agent that took over is the call's own.

The diagram in `docs/guides/agent-call.md`, the viewer's colours and the message for an illegal move come from TABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core import guard as duplicates
from lllm.core.dialog import OFFERS, OURS, Node, extend
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, Reuse, RunTool, Wait
from lllm.core.events import Event
from lllm.core.guard import LATE, Guard, Pending
from lllm.core.retry_policy import RetryPolicy
from lllm.core.sendable import answered, shown_again, with_calls
from lllm.core.spec import ToolRule
from lllm.core.state import (
    BACKING_OFF,
    CALLING,
    CANCELLED,
    DONE,
    FAILED,
    PARSING,
    READY,
    REPAIRING,
    RUNNING_TOOLS,
    WAITING,
    Opening,
    State,
    added,
)
from lllm.core.use import Use, exceeded
from lllm.errors import IllegalMove
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import Content, around, content_text
from lllm.models.reply import Reply

if TYPE_CHECKING:
    from lllm.core import records

_STOPS: Final[Mapping[str, tuple[str, ...]]] = {ev.LIMIT_REACHED: (FAILED,), ev.CANCELLED: (CANCELLED,)}
_LIVE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    phase: {**_STOPS, ev.CALL_RESUMED: (phase,)}
    for phase in (CALLING, BACKING_OFF, PARSING, REPAIRING, RUNNING_TOOLS, WAITING)
}
"""In every phase that is not an end a call may be stopped, or gone on with by another process."""
_END: Final[Mapping[str, tuple[str, ...]]] = {}

TABLE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    READY: {ev.CALL_STARTED: (CALLING, FAILED)},
    CALLING: {
        ev.MODEL_REQUESTED: (CALLING,),
        ev.MODEL_REPLIED: (PARSING,),
        ev.MODEL_FAILED: (BACKING_OFF, CALLING, FAILED),
        **_LIVE[CALLING],
    },
    BACKING_OFF: {ev.WAIT_ENDED: (CALLING, FAILED), **_LIVE[BACKING_OFF]},
    PARSING: {
        ev.REPLY_ACCEPTED: (DONE, RUNNING_TOOLS, WAITING, FAILED),
        ev.REPLY_REJECTED: (REPAIRING, FAILED),
        ev.HANDLER_FAILED: (FAILED,),
        **_LIVE[PARSING],
    },
    REPAIRING: {ev.HANDLER_RETURNED: (CALLING, FAILED), ev.HANDLER_FAILED: (FAILED,), **_LIVE[REPAIRING]},
    RUNNING_TOOLS: {
        ev.TOOL_REQUESTED: (RUNNING_TOOLS,),
        ev.TOOL_RETURNED: (RUNNING_TOOLS, CALLING, DONE, FAILED),
        ev.HANDLER_RETURNED: (CALLING, FAILED),
        ev.HANDLER_FAILED: (FAILED,),
        **_LIVE[RUNNING_TOOLS],
    },
    WAITING: {
        ev.APPROVAL_GIVEN: (WAITING, RUNNING_TOOLS, CALLING, FAILED),
        ev.TOOL_REQUESTED: (WAITING,),
        ev.TOOL_RETURNED: (WAITING,),
        **_LIVE[WAITING],
    },
    DONE: _END,
    FAILED: _END,
    CANCELLED: _END,
}
"""phase -> event kind -> phases it may lead to."""


Step = tuple[State, tuple[Effect, ...]]
_NOTHING: Final[tuple[Effect, ...]] = ()


def step(state: State, event: Event) -> Step:
    """Moves the call by one event. Raises IllegalMove when TABLE does not allow the event, or the event contradicts
    the state (a result for a tool call that is not pending)."""
    move = _MOVES.get((state.phase, event.kind))
    if move is None:
        raise IllegalMove(
            f"{event.kind} in phase {state.phase}",
            hint=f"Possible here: {', '.join(TABLE[state.phase]) or 'nothing, the call has ended'}.",
        )
    function, targets = move
    after, effects = function(state, event)
    if after.phase not in targets:
        raise IllegalMove(
            f"{event.kind} leads from {state.phase} to {after.phase}, which the table does not list"
        )
    return after, effects


def fold(events: Iterable[Event]) -> State:
    """The state after the events of one call. Events that are not the machine's (CallEnded) are passed over."""
    state = State()
    for event in events:
        if event.kind in _MACHINE_KINDS:
            state, _ = step(state, event)
    return state


def outstanding(events: Iterable[Event]) -> Step:
    """The state after the events of one call, and the effects that have no answer yet."""
    state = State()
    effects: tuple[Effect, ...] = ()
    for event in events:
        if event.kind not in _MACHINE_KINDS:
            continue
        state, new = step(state, event)
        effects = new if event.kind in _REPLACE else _remaining(effects, event) + new
    return state, effects


# --- moves -----------------------------------------------------------------------------------------------------------


def _call_started(state: State, event: Event) -> Step:
    opening = event.value or Opening.from_record(event.data)
    spec = opening.spec
    deadline = spec.limits.deadline
    return _ask(
        state,
        spec=spec,
        trunk=opening.trunk,
        offer_tools=bool(spec.tools) and spec.limits.max_interrupt_times != 0,
        at=event.at,
        deadline_at=None if deadline is None else event.at + int(deadline * 1_000_000),
    )


def _model_requested(state: State, event: Event) -> Step:
    return state, _NOTHING  # an intent changes nothing: it is there for whoever finds no answer to it


def _model_replied(state: State, event: Event) -> Step:
    data: records.ModelReplied = event.data
    reply = event.value or Reply.from_record(data)
    tokens, cost = state.tokens, state.cost
    usage, price = reply.usage, data.get("cost")
    after = state._replace(
        phase=PARSING,
        reply=reply,
        at=event.at,
        model_calls=state.model_calls + 1,
        tokens=None if usage is None or tokens is None else tokens + usage.prompt + usage.completion,
        cost=None if price is None or cost is None else cost + Decimal(price),
    )
    head = state.head
    return after, (Parse(reply, state.offer_tools, () if head is None else head.offered),)


def _model_failed(state: State, event: Event) -> Step:
    data: records.ModelFailed = event.data
    limits = state.spec.limits
    attempt = {"fault": data["error"], "message": data["message"], "status": data.get("status")}
    state = state._replace(
        at=event.at,
        tried_at=state.tried_at if state.faults else state.at,
        model_calls=state.model_calls + 1,
        attempts=(*state.attempts, attempt),
    )
    if "usage" in data or "unmetered" in data:  # a reply had begun, and broke off
        tokens, cost, used, price = state.tokens, state.cost, data.get("usage"), data.get("cost")
        state = state._replace(
            unmetered=state.unmetered or used is None,
            tokens=None if used is None or tokens is None else tokens + used["prompt"] + used["completion"],
            cost=None if price is None or cost is None else cost + Decimal(price),
        )
    if data.get("retryable"):
        policy = state.spec.retry or RetryPolicy.of_limits(limits)
        if policy.times is not None and state.faults + 1 >= policy.times:
            return _fail(state, "provider_failed", data["message"])
        state = state._replace(faults=state.faults + 1)
        seconds = _backoff(state, policy, data)
        if policy.is_too_late((state.at - state.tried_at) / 1_000_000 + seconds):
            return _fail(
                state, "provider_failed", f"{data['message']}; the next try would be after {policy.total:g} s"
            )
        if state.deadline_at is not None and state.at + int(seconds * 1_000_000) >= state.deadline_at:
            return _fail(state, "deadline", f"{data['message']}; the next try would be after the deadline")
        return state._replace(phase=BACKING_OFF), (Wait(seconds),)
    if not data.get("fatal") and state.recalls < limits.max_llm_recall:
        return _ask(state, recalls=state.recalls + 1)
    return _fail(state, "provider_failed", data["message"])


def _wait_ended(state: State, event: Event) -> Step:
    return _ask(state, at=event.at)


def _reply_accepted(state: State, event: Event) -> Step:
    reply = state.reply
    assert reply is not None
    accepted = {
        "trunk": Node(answered(reply, state.spec), state.trunk), "branch": None, "rejected": 0, "faults": 0, "recalls": 0,
        "at": event.at,
    }  # fmt: skip
    if not reply.tool_calls or not state.spec.execute:
        return state._replace(phase=DONE, value=event.data.get("value"), **accepted), _NOTHING
    if not state.offer_tools:
        return _fail(
            state._replace(**accepted),
            "tool_budget",
            f"the model still asks for tools ({', '.join(call.name for call in reply.tool_calls)}) "
            f"after {state.rounds} tool rounds",
        )
    return _plan_tools(state, reply.tool_calls, accepted)


def _reply_rejected(state: State, event: Event) -> Step:
    data: records.ReplyRejected = event.data
    reply = state.reply
    assert reply is not None
    errors = tuple(data["errors"])
    attempt = {"reply": reply.content, "errors": list(errors)}
    state = state._replace(at=event.at, rejected=state.rejected + 1, attempts=(*state.attempts, attempt))
    if state.rejected > state.spec.limits.max_exception_retry:
        return _fail(state, "repair_exhausted", "; ".join(errors))
    # an assistant message with tool calls must be answered call by call, or providers refuse the dialog
    unreadable = set(data.get("unreadable", ()))
    shown = tuple(shown_again(call, state.spec, call.id in unreadable) for call in reply.tool_calls)
    message = with_calls(reply, shown)
    why = data.get("calls", {})
    answers = [
        Message(
            "tool",
            why.get(call.id, "not run: another call of this reply was malformed"),
            tool_call_id=call.id,
        )
        for call in shown
    ]
    branch = extend(Node(message, state.head), answers)
    effect = Handle("exception", errors, reply, (), state.rejected)
    return state._replace(phase=REPAIRING, branch=branch), (effect,)


def _repair_prompted(state: State, event: Event) -> Step:
    return _ask(state, branch=extend(state.branch, added(event.data)), at=event.at)


def _tool_requested(state: State, event: Event) -> Step:
    place, found = _expect(state, event.data["id"], _RUNNABLE)
    pending = _put(state.pending, place, Pending(found.call, found.key, found.number, "running"))
    guard = duplicates.begun(state.spec, state.guard, found.call.name)
    return state._replace(pending=pending, guard=guard, at=event.at), _NOTHING


def _tool_returned(state: State, event: Event) -> Step:
    data: records.ToolReturned = event.data
    place, found = _expect(state, data["id"], _RUNNABLE)
    content: Content = tuple(data["parts"]) if "parts" in data else data.get("content") or ""
    ok = data.get("ok", True)
    reused = "reused" in data
    if reused and not found.of:
        raise IllegalMove(f"tool call '{found.call.id}' has no earlier result")
    if reused and "late" not in data:
        return _settle(state, event.at, place, found, found.content, found.ok)
    if "spent" in data:
        state = state._replace(inner=state.inner.plus(Use.from_record(data["spent"])))
    offers = data.get("offers")
    if offers:
        state = _offering(state, offers)
    if data.get("fatal"):
        state = state._replace(reason="sandbox_broken", error=data.get("content") or "")
    names = () if offers is None else tuple(sorted(offers))  # as a log has them: its objects are sorted
    done = Pending(found.call, found.key, found.number, "returned", content, ok, found.of, not reused, names)
    if "final" in data:
        return _handed_over(state, event, place, done)
    unknown = not ok and bool(data.get("uncertain"))
    guard = duplicates.returned(state.spec, state.guard, state.pending, done, content, ok, unknown)
    if "late" in data:
        content = around(LATE, content)
    return _settle(state, event.at, place, done, content, ok, guard)


def _approval_given(state: State, event: Event) -> Step:
    data: records.ApprovalGiven = event.data
    place, found = _expect(state, data["id"], _ASKING)
    if not data["approved"]:
        note = f": {data['note']}" if data.get("note") else ""
        why = ""
        if state.guard.unknown.get(found.key) is not None:
            why = ". It was not run again, and whether the earlier call took effect is not known"
        return _settle(state, event.at, place, found, f"error: not approved{note}{why}", False)
    if state.spec.tools.get(found.call.name, duplicates.ANY).handoff:
        waiting = _put(state.pending, place, found._replace(state="last"))
        pending, effects = duplicates.last(waiting, ())
    else:
        pending = _put(state.pending, place, found._replace(state="planned"))
        effects = (RunTool(found.call, found.number),)
    return state._replace(pending=pending, phase=_tools_phase(pending), at=event.at), effects


def _tools_handled(state: State, event: Event) -> Step:
    _expect_settled(state)
    return _ask(state, trunk=extend(state.trunk, added(event.data)), pending=(), at=event.at)


def _tools_handler_failed(state: State, event: Event) -> Step:
    _expect_settled(state)
    return _handler_failed(state, event)


def _handler_failed(state: State, event: Event) -> Step:
    return _fail(state._replace(at=event.at), "handler_failed", event.data["message"])


def _call_resumed(state: State, event: Event) -> Step:
    # the time in which nobody worked on the call is not counted against its deadline
    data: records.CallResumed = event.data
    due = None if state.deadline_at is None else state.deadline_at + data["down"]
    return state._replace(deadline_at=due, at=event.at), _NOTHING


def _limit_reached(state: State, event: Event) -> Step:
    data: records.LimitReached = event.data
    return _fail(state._replace(at=event.at), data["reason"], data["message"])


def _cancelled(state: State, event: Event) -> Step:
    data: records.Cancelled = event.data
    reason = data.get("reason", "cancelled")
    return state._replace(
        phase=CANCELLED, reason="cancelled", error=reason, branch=None, at=event.at
    ), _NOTHING


# --- what moves share ------------------------------------------------------------------------------------------------


def _ask(state: State, **changes: Any) -> Step:
    """Asks the model, after these changes, unless a budget is used up. The only place that does."""
    state = state._replace(phase=CALLING, **changes)
    limits = state.spec.limits
    if limits.counted:
        own = Use(state.model_calls, state.tokens, state.cost)
        if (over := exceeded(limits, own, state.inner, broken_off=state.unmetered)) is not None:
            return _fail(state, over.limit, over.words)
    if state.deadline_at is not None and state.at >= state.deadline_at:
        return _fail(state, "deadline", f"the deadline of {limits.deadline:g} s has passed")
    head = state.head
    if head is None:
        return _fail(state, "empty_dialog", "there is no message to send")
    return state, (CallModel(head, state.offer_tools, state.rounds > 0 and state.spec.rules > 1),)


def _fail(state: State, reason: str, error: str) -> Step:
    return state._replace(phase=FAILED, reason=reason, error=error, branch=None), _NOTHING


def _backoff(state: State, policy: RetryPolicy, data: records.ModelFailed) -> float:
    """Seconds to wait: as a function of the policy has said, or by its numbers with jitter from the seed."""
    if "wait" in data:
        return data["wait"]
    key = f"{state.spec.seed}/{state.model_calls}/{state.faults}"
    return policy.seconds(state.faults, key, data.get("retry_after"))


def _plan_tools(state: State, calls: tuple[FunctionCall, ...], changes: Mapping[str, Any]) -> Step:
    pending, effects = duplicates.plan(state.spec, state.guard, calls, state.numbered)
    state = state._replace(
        phase=_tools_phase(pending),
        pending=pending,
        rounds=state.rounds + 1,
        numbered=state.numbered + len(calls),
        **changes,
    )
    return state, effects


def _tools_phase(pending: Iterable[Pending]) -> str:
    for item in pending:
        if item.state == "asking":
            return WAITING
    return RUNNING_TOOLS


def _expect(state: State, call_id: str, states: tuple[str, ...]) -> tuple[int, Pending]:
    """Place and content of the pending tool call, if it is in one of these states. An answer to a question that was not
    asked is refused: it would run a tool twice, or one that nobody approved."""
    for place, item in enumerate(state.pending):
        if item.call.id == call_id and item.state != "returned":
            if item.state not in states:
                raise IllegalMove(f"tool call '{call_id}' is {item.state}, not {' or '.join(states)}")
            return place, item
    raise IllegalMove(f"no tool call '{call_id}' is pending")


_RUNNABLE: Final = ("planned", "running")  # running: a resumed call runs it once more
_ASKING: Final = ("asking",)


def _expect_settled(state: State) -> None:
    """A handler is only asked when all tools of the round have returned."""
    if not state.pending or any(item.state != "returned" for item in state.pending):
        raise IllegalMove("a handler answered while tools are running")


def _put(pending: tuple[Pending, ...], place: int, item: Pending) -> tuple[Pending, ...]:
    return (item,) if len(pending) == 1 else (*pending[:place], item, *pending[place + 1 :])


def _settle(
    state: State, at: int, place: int, found: Pending, content: Content, ok: bool, guard: Guard | None = None
) -> Step:
    """A tool call has its result: goes on when it was the last one."""
    done = Pending(
        found.call, found.key, found.number, "returned", content, ok, found.of, found.ran, found.offers
    )
    pending = _put(state.pending, place, done)
    guard = state.guard if guard is None else guard
    effects: tuple[Effect, ...] = ()
    if len(pending) > 1:
        pending, effects = duplicates.last(*duplicates.twins(state.spec, pending, done))
        if any(item.state != "returned" for item in pending):
            after = state._replace(pending=pending, guard=guard, phase=_tools_phase(pending), at=at)
            return after, effects
    return _finish_round(state, pending, guard, at)


def _finish_round(state: State, pending: tuple[Pending, ...], guard: Guard, at: int) -> Step:
    """All results are there: they are injected in call order, and the model goes on."""
    trunk = state.trunk
    for item in pending:
        trunk = Node(result_message(item), trunk)
    if state.reason:  # one of them ends the call
        return _fail(state._replace(trunk=trunk, guard=guard, pending=(), at=at), state.reason, state.error)
    limit = state.spec.limits.max_interrupt_times
    last = limit is not None and state.rounds >= limit
    offer = state.offer_tools and not last
    if not last and not state.spec.interrupt:
        return _ask(state, trunk=trunk, guard=guard, pending=(), offer_tools=offer, at=at)
    told = tuple(
        {
            "name": item.call.name,
            "arguments": item.call.arguments,
            "content": content_text(item.content),
            "ok": item.ok,
        }
        for item in pending
    )
    assert state.reply is not None
    after = state._replace(
        phase=RUNNING_TOOLS, trunk=trunk, guard=guard, pending=pending, offer_tools=offer, at=at
    )
    return after, (Handle("final" if last else "interrupt", (), state.reply, told, state.rounds),)


def result_message(item: Pending) -> Message:
    """The message with the result of a tool call."""
    if not item.offers:
        return Message("tool", item.content, tool_call_id=item.call.id)
    return Message(
        "tool", item.content, tool_call_id=item.call.id, extra={OFFERS: list(item.offers)}, extra_from=OURS
    )


def _offering(state: State, offers: Mapping[str, Mapping[str, Any]]) -> State:
    """The state with the rules of tools that are offered from now on."""
    tools = {**{name: ToolRule(**rule) for name, rule in offers.items()}, **state.spec.tools}
    return state._replace(spec=state.spec._replace(tools=tools))


HANDED_OVER: Final = "handed over to '{}', who answers"
"""The result of a hand-off in the dialog of the agent that made it."""


def _handed_over(state: State, event: Event, place: int, done: Pending) -> Step:
    """The agent that took over has answered, and with that this call. Its dialog ends as any other: with the answer."""
    data: records.ToolReturned = event.data
    final, text = data["final"], data.get("content") or ""
    trunk = state.trunk
    for item in _put(state.pending, place, done._replace(content=HANDED_OVER.format(final["agent"]))):
        if item.state != "returned":
            raise IllegalMove(f"handed over while tool call '{item.call.id}' is {item.state}")
        trunk = Node(result_message(item), trunk)
    after = state._replace(
        phase=DONE,
        trunk=Node(Message("assistant", text), trunk),
        reply=Reply(text, agent=final["agent"]),
        value=final.get("value"),
        pending=(),
        at=event.at,
    )
    return after, _NOTHING


_FUNCTIONS: Final[Mapping[str, Callable[[State, Event], Step]]] = {
    ev.CALL_STARTED: _call_started,
    ev.MODEL_REQUESTED: _model_requested,
    ev.MODEL_REPLIED: _model_replied,
    ev.MODEL_FAILED: _model_failed,
    ev.WAIT_ENDED: _wait_ended,
    ev.REPLY_ACCEPTED: _reply_accepted,
    ev.REPLY_REJECTED: _reply_rejected,
    ev.HANDLER_FAILED: _handler_failed,
    ev.TOOL_REQUESTED: _tool_requested,
    ev.TOOL_RETURNED: _tool_returned,
    ev.APPROVAL_GIVEN: _approval_given,
    ev.CALL_RESUMED: _call_resumed,
    ev.LIMIT_REACHED: _limit_reached,
    ev.CANCELLED: _cancelled,
}
_BY_PHASE: Final[Mapping[tuple[str, str], Callable[[State, Event], Step]]] = {
    (REPAIRING, ev.HANDLER_RETURNED): _repair_prompted,
    (RUNNING_TOOLS, ev.HANDLER_RETURNED): _tools_handled,
    (RUNNING_TOOLS, ev.HANDLER_FAILED): _tools_handler_failed,
}
_MOVES: Final = {
    (phase, kind): (_BY_PHASE.get((phase, kind)) or _FUNCTIONS[kind], frozenset(targets))
    for phase, moves in TABLE.items()
    for kind, targets in moves.items()
}
_MACHINE_KINDS: Final = frozenset(kind for moves in TABLE.values() for kind in moves)
_REPLACE: Final = _MACHINE_KINDS - {
    ev.CALL_RESUMED,
    ev.MODEL_REQUESTED,
    ev.TOOL_REQUESTED,
    ev.TOOL_RETURNED,
    ev.APPROVAL_GIVEN,
}


def _remaining(effects: tuple[Effect, ...], event: Event) -> tuple[Effect, ...]:
    if event.kind in (ev.CALL_RESUMED, ev.MODEL_REQUESTED, ev.TOOL_REQUESTED):
        return effects
    settled = event.data["id"]
    return tuple(
        item
        for item in effects
        if not (isinstance(item, RunTool | Reuse | AskApproval) and item.call.id == settled)
    )
