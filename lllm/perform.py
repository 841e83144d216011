"""Effects happen here and nowhere else: the only file that awaits a plug-in.

`perform(effect)` does one effect and says what came of it, as the kind, data and value of an event. It never raises for
what a plug-in does wrong: a provider's fault, a tool that raises or hangs, a parser that refuses are events too.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from lllm import inputs
from lllm.bounds import Bounds, enclosing, time_left
from lllm.const import Modalities, card
from lllm.core import events as ev
from lllm.core.canonical import digest_of
from lllm.core.choice import freed
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, Reuse, RunTool, Wait
from lllm.core.events import Event
from lllm.core.guard import UNKNOWN
from lllm.core.jsonable import bounded, jsonable, unshown
from lllm.core.parts import PLACES, Takes, sent
from lllm.core.repetition import Repetition, stuck
from lllm.core.replies import (
    CUT,
    TOO_DEEP,
    as_recorded,
    checked,
    is_readable,
    read_arguments,
    unusable,
    with_ids,
    withheld,
)
from lllm.core.spec import RULES, Limits, Spec, ToolRule
from lllm.deltas import aggregate, pieces
from lllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    LLMError,
    ModelNotFoundError,
    ParseError,
    ProviderError,
    UnsupportedError,
    text_of,
)
from lllm.handles import capabilities, close_stream, stream_of
from lllm.models import finish
from lllm.models.checks import DEEPEST
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import Rich, content_text, recorded
from lllm.models.reply import Reply, Usage
from lllm.plug_ins import PLUG_IN, backend_named
from lllm.ports import (
    Backend,
    Completed,
    Delta,
    HandlerContext,
    Request,
    Restart,
    TextDelta,
    ThinkingDelta,
    Timeouts,
    ToolCallDelta,
)
from lllm.session import WAITING, Scope, Session, current, own_code
from lllm.session_effects import Place
from lllm.sync import maybe_async
from lllm.tool_run import Thread, TimeLimit, run_tool

if TYPE_CHECKING:
    from lllm.core import record_parts, records
    from lllm.core.dialog import Node

FATAL: Final = (AuthenticationError, ModelNotFoundError, BadRequestError, UnsupportedError)
"""Faults that asking again never mends: not even `max_llm_recall` does."""


class BoundTool(NamedTuple):
    """A tool as a call uses it.

    Attributes:
        rule: what the machine decides by.
        validate: all that is wrong with arguments; an empty list when they are good.
        invoke: runs it with arguments and what is to be known of the call: `id`, `key` (stays the same when the tool runs again
            after a crash), `deadline` (seconds left, or None) and `thread`. Returns the text for the model, or parts.
        timeout: seconds, or None. What is done beyond it: see `lllm.tool_run`.
        threaded: whether it is a plain function: it is given a `lllm.tool_run.Thread` to run in, and cannot be stopped.
        agent: the agent that it is, when it is one: a replay then re-executes it.
    """

    rule: ToolRule
    validate: Callable[[dict[str, Any]], Sequence[str]]
    invoke: Callable[[dict[str, Any], Mapping[str, Any]], Coroutine[Any, Any, str | Rich]]
    timeout: float | None = 60.0
    agent: str | None = None
    threaded: bool = False


@dataclass
class Plan:
    """All that one agent call needs from outside: what `llm.py` has bound together from configuration.

    Attributes:
        agent: its name in the log.
        backend, model: who answers. `model` is the configured name, `model_name` what the backend is asked for.
        tools, tool_specs: by name, and in the wire form.
        sampling, format, timeouts: see `lllm.ports.Request`.
        read: the parser: gives a payload for a reply, or raises ParseError. None accepts every reply.
        user_code: whether `read` or the handlers are the project's own code; then the log is flushed before they run.
        handle: the handlers: text or messages for a HandlerContext.
        args: arguments of the invocation prompt.
        approve: asked before a tool that wants approval: gives True, False, or a reason for the refusal.
        price: money for a usage (as a decimal string) and the version of the price table, or None where unknown. Asked
            with the model's name as the provider and as the request writes it.
        fixed: hash over model, sampling, format and tools; with tools offered and without (`fixed_of` the opening).
        opening: what CallStarted says of all this (hashes, sampling, names).
        stream: whether somebody follows.
        blobs: what `opening` names by digest: the full tool schemas.
        foreign: whether async code of others may run in the call's own task: parsers, handlers, approval, a backend. Tools
            have tasks of their own.
        literal_tags: see `lllm.ports.Request`.
    """

    agent: str
    backend: Backend
    model: str
    model_name: str
    handle: Callable[[HandlerContext], Any]
    tools: Mapping[str, BoundTool] = field(default_factory=dict)
    tool_specs: tuple[Mapping[str, Any], ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    format: Mapping[str, Any] | None = None
    timeouts: Timeouts = Timeouts()
    read: Callable[[Reply], Any] | None = None
    user_code: bool = False
    args: Mapping[str, Any] = field(default_factory=dict)
    approve: Callable[[FunctionCall], Any] | None = None
    price: Callable[[str | None, str, Usage | None], tuple[str, str] | None] | None = None
    fixed: tuple[str, str] = ("", "")
    opening: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    interrupt: bool = False
    execute: bool = True
    stream: bool = False
    blobs: tuple[bytes, ...] = ()
    foreign: bool = True
    literal_tags: tuple[str, ...] = ()

    @cached_property
    def rules(self) -> Mapping[str, ToolRule]:
        """The rules of the tools, by name."""
        return {name: tool.rule for name, tool in self.tools.items()}

    @cached_property
    def spec_record(self) -> Mapping[str, Any]:
        """What CallStarted says of the call's settings, but for the seed and the version of the rules."""
        return Spec(self.limits, self.rules, self.interrupt, self.execute).record()

    def with_(self, **changes: Any) -> Plan:
        """A copy with other values of fields that these two do not depend on: each call has one, and `dataclasses.replace`
        is slow."""
        twin: Plan = object.__new__(Plan)
        twin.__dict__.update(self.__dict__)
        twin.__dict__.update(changes)
        return twin


def fixed_of(opening: Mapping[str, Any]) -> tuple[str, str]:
    """The hashes of what is the same in all requests of a call: with tools offered, and without."""
    fixed = {key: opening.get(key) for key in ("model", "sampling", "format")}
    return digest_of({**fixed, "specs": opening.get("specs")}), digest_of(fixed)


class Outcome(NamedTuple):
    """What came of an effect: kind and data of the event that says so, and the value behind the data."""

    kind: str
    data: Mapping[str, Any]
    value: Any = None


class Performer:
    """Does the effects of one agent call."""

    __slots__ = (
        "accepted",
        "call",
        "deadline_at",
        "dialog",
        "is_over",
        "late",
        "plan",
        "rules",
        "said",
        "session",
    )

    def __init__(
        self, plan: Plan, session: Session, call: str, dialog: str | None, is_over: Callable[[], bool]
    ) -> None:
        self.plan = plan
        self.session = session
        self.call = call
        self.dialog = dialog
        self.accepted: Any = None  # the live payload; the log holds its JSON
        self.said = False  # whether pieces of the present reply were shown
        self.rules = RULES  # those of the call, see `lllm.core.spec`
        self.deadline_at: int | None = None  # when the call must have ended, by the session's clock
        self.is_over = is_over  # whether the call is cancelled, or late
        self.late: dict[int, Mapping[str, Any]] = {}  # what tools returned after their time limit

    def perform(self, effect: Effect) -> Coroutine[Any, Any, Outcome]:
        """Does one effect."""
        work = self.work(effect)
        return self._outside(work) if self.is_outside(effect) else work

    def work(self, effect: Effect) -> Coroutine[Any, Any, Outcome]:
        """What does one effect; see `is_outside`."""
        return _DO[type(effect)](self, effect)

    def is_outside(self, effect: Effect) -> bool:
        """True for what a replay does not do: its timers are not the program's."""
        if type(effect) is RunTool:
            return self.plan.tools[effect.call.name].agent is None
        return type(effect) not in _PROGRAM

    async def _outside(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Does what a replay does not do: its timers are not the program's."""
        token = inputs.enter(True)
        try:
            return await work
        finally:
            inputs.leave(token)

    # --- model

    async def call_model(self, effect: CallModel) -> Outcome:
        session = self.session
        if session.answers and (known := session.recorded(self.call, ev.MODEL_REPLIED)) is not None:
            self.tell_again(known)
            return Outcome(known.kind, known.data)
        plan = self.plan
        watch = None if plan.limits.repeat_limit is None else _Watch(plan.limits.repeat_limit)
        try:
            messages = self._sent(effect.head) if effect.head.has_parts else effect.head.messages()
        except LLMError as error:  # bytes that the log has not
            return self._fault(error, None)
        request = Request(
            plan.model_name,
            messages,
            plan.tool_specs if effect.tools else (),
            freed(plan.sampling) if effect.free else plan.sampling,
            plan.format,
            plan.stream or watch is not None or self._followed(),
            plan.timeouts,
            literal_tags=plan.literal_tags,
        )
        if self.said:
            self.said = False
            session.tell(self.call, Restart("asked again"))
        reply: Reply | None = None
        begun = False
        told: list[str] | None = [] if session.listeners else None
        try:
            stream = stream_of(plan.backend, session.id, request)
            async for delta in stream:
                if type(delta) is Completed:
                    reply = delta.reply
                    continue
                begun = True
                if type(delta) is Restart and told:
                    told.clear()
                if self._followed():
                    self.said = True
                    shown = session.tell(self.call, delta)
                    if told is not None:
                        told += [one.text for one in shown if type(one) is TextDelta]
                if watch is not None and watch.stuck(delta):
                    reply = watch.reply(plan.model_name)
                    await _close(stream)
                    break
        except LLMError as error:
            return self._fault(error, told, begun)
        except PLUG_IN as error:  # a backend that breaks its contract is a fault like any other
            fault = ProviderError(f"backend of '{plan.model}' raised {_told(error)}")
            fault.__cause__ = error
            return self._fault(fault, told, begun)
        if reply is None:
            fault = ProviderError(f"backend of '{plan.model}' ended without a reply", retryable=True)
            return self._fault(fault, told, begun)
        try:
            reply = checked(reply)
        except ProviderError as error:
            error.usage = getattr(reply, "usage", None)
            return self._fault(error, told, begun=True)
        if not isinstance(reply.finish_reason, str) or reply.finish_reason not in finish.OURS:
            if (meant := finish.meaning(reply.finish_reason)) is None:
                fault = finish.fault(reply.finish_reason, reply.content)
                fault.usage, fault.model = reply.usage, reply.model
                return self._fault(fault, told, begun=True)
            reply = reply.with_(finish_reason=meant)
        if watch is not None:
            reply = watch.judged(reply)
        if plan.format is not None and reply.enforced is None:
            reply = reply.with_(enforced="validation")
        if self._followed():
            session.tell(self.call, Completed(reply))
        if reply.tool_calls:
            reply = with_ids(reply)
        if reply.thinking == "" or reply.logprobs is not None or reply.token_ids is not None:
            reply = as_recorded(reply)
        # with the log off and no secret to look for, nobody reads the record
        data = reply.record() if session.logs or session.redactor else {}
        if reply.source is not None:
            data["cost"] = "0"  # nobody was asked, and nobody is paid
        elif (
            plan.price is not None
            and (priced := plan.price(reply.model, plan.model_name, reply.usage)) is not None
        ):
            data["cost"], data["prices"] = priced
        return Outcome(ev.MODEL_REPLIED, data, reply)

    def _sent(self, head: Node) -> tuple[Message, ...]:
        """A dialog whose tools returned images or files, as the model takes it."""
        plan = self.plan
        can = capabilities(plan.backend, plan.model)
        known = card(plan.model_name)
        if can.tool_parts not in PLACES:
            raise ConfigError(
                f"{backend_named(plan.backend, plan.model)}: capabilities: tool_parts must be 'tool', 'user' or '', "
                f"got {can.tool_parts!r}"
            )
        images = can.vision and (known is None or Modalities.IMAGE in known.reads)
        return sent(head.messages(), self.session.blob, Takes(can.tool_parts, images, can.files))

    def _followed(self) -> bool:
        return bool(self.session.followers or self.session.listeners)

    def tell_again(self, known: Event) -> None:
        """Tells the program what a recorded reply consists of. It was told so when the reply came, in more pieces."""
        if not self.session.listeners:
            return
        given: list[Delta] = []
        if self.said:
            given.append(Restart("asked again"))
        if known.kind == ev.MODEL_REPLIED:
            reply = Reply.from_record(known.data)
            parts = pieces(reply)
            given += [*parts, Completed(reply)]
            self.said = bool(parts)
        else:
            if known.data.get("told"):
                given.append(TextDelta(known.data["told"]))
            self.said = "told" in known.data
        for delta in given:
            self.session.tell(self.call, delta, again=True)

    def _fault(self, error: LLMError, told: list[str] | None, begun: bool = False) -> Outcome:
        data: records.ModelFailed = {"error": type(error).__name__, "message": error.message}
        if error.hint:
            data["hint"] = error.hint
        if isinstance(error, ProviderError):
            _add_answer(data, error)
            self._add_broken_off(data, error, begun)
        rest = self.session.told(self.call)
        if told is not None and self.said:  # also where it was thinking alone, of which the log has nothing
            told += [one.text for one in rest if type(one) is TextDelta]
            data["told"] = "".join(told)
        if error.retryable:
            data["retryable"] = True
        if isinstance(error, (*FATAL, ConfigError)):
            data["fatal"] = True
        if self.session.left_open(error):
            raise self.session.halted or error
        return Outcome(ev.MODEL_FAILED, data, error)

    def _add_broken_off(self, data: records.ModelFailed, error: ProviderError, begun: bool) -> None:
        """Adds tokens and cost of a reply that broke off: what was reported of them, else that there are some."""
        plan, usage = self.plan, error.usage
        if not isinstance(usage, Usage):
            usage = None
            if not (begun or error.partial):
                return  # nothing of a reply came: nothing was used
            data["unmetered"] = True
        else:
            data["usage"] = cast("record_parts.Usage", usage.record())
        if plan.price is not None and (priced := plan.price(error.model, plan.model_name, usage)) is not None:
            data["cost"], data["prices"] = priced

    # --- reading

    async def parse(self, effect: Parse) -> Outcome:
        plan, reply = self.plan, effect.reply
        if reply.tool_calls and plan.execute:
            if self.rules >= 1 and (reason := withheld(reply)) is not None:
                refused: records.ReplyRejected = {
                    "errors": [reason],
                    "calls": {call.id: f"not run: {reason}" for call in reply.tool_calls},
                    "unreadable": [call.id for call in reply.tool_calls if not is_readable(call, self.rules)],
                }
                return Outcome(ev.REPLY_REJECTED, refused)
            return self._read_calls(reply, effect.tools)
        # a call whose tool calls are given back (an LLM) gives every reply back as it is, unless something reads it
        judged = plan.read is not None or (plan.execute and self.rules >= 1)
        if judged and (problem := unusable(reply, self.rules)) is not None:
            return Outcome(ev.REPLY_REJECTED, {"errors": [problem]})
        if plan.read is None:
            self.accepted = reply.content
            return Outcome(ev.REPLY_ACCEPTED, {})
        if plan.user_code:
            await self.session.flush()
        try:
            with self._own_code() if plan.user_code else _NOTHING:
                value = plan.read(reply)
                if inspect.isawaitable(value):
                    value = await value
            # the reply itself is in the log already: a payload that is the same text is not written twice
            data = {} if value is reply.content else {"value": self._payload(value)}
        except ParseError as error:
            errors = list(error.errors)
            if cut := CUT.get(reply.finish_reason):
                errors.append(cut)
            return Outcome(ev.REPLY_REJECTED, {"errors": errors})
        except RecursionError as error:
            if plan.user_code or self.rules < 1:
                return _handler_failed("parser", error)
            return Outcome(ev.REPLY_REJECTED, {"errors": [TOO_DEEP]})
        except PLUG_IN as error:
            return _handler_failed("parser", error)
        self.accepted = value
        return Outcome(ev.REPLY_ACCEPTED, data)

    def _payload(self, value: Any) -> Any:
        """A payload as the log writes it. One that is nested too deeply is shown as text, where the project's own parser
        made it; where it is the reply's JSON, that is rejected."""
        if self.rules < 1:
            return jsonable(value)
        try:
            return bounded(value, DEEPEST)
        except RecursionError:
            if not self.plan.user_code:
                raise ParseError(TOO_DEEP) from None
            return unshown(value)

    def _read_calls(self, reply: Reply, offered: bool) -> Outcome:
        tools = self.plan.tools
        if tools and not offered:
            return Outcome(ev.REPLY_ACCEPTED, {})  # the machine ends the call: nothing to validate
        problems: dict[str, str] = {}
        unreadable: list[str] = []
        for call in reply.tool_calls:
            tool = tools.get(call.name)
            if tool is None:
                known = f"the tools are: {', '.join(sorted(tools))}" if tools else "there are no tools"
                problems[call.id] = f"error: there is no tool named '{call.name}'; {known}"
                if not is_readable(call, self.rules):
                    unreadable.append(call.id)
                continue
            try:
                arguments = read_arguments(call, self.rules)
            except ValueError as error:
                unreadable.append(call.id)
                problems[call.id] = (
                    f"error: the arguments of '{call.name}' are not a JSON object ({error}): {call.arguments[:500]}"
                )
                continue
            if wrong := _wrong(tool, arguments):
                problems[call.id] = f"error: wrong arguments for '{call.name}': {'; '.join(wrong)}"
        if not problems:
            return Outcome(ev.REPLY_ACCEPTED, {})
        data: records.ReplyRejected = {
            "errors": [text.removeprefix("error: ") for text in problems.values()],
            "calls": problems,
        }
        if unreadable:
            data["unreadable"] = unreadable
        return Outcome(ev.REPLY_REJECTED, data)

    async def handle(self, effect: Handle) -> Outcome:
        context = HandlerContext(
            effect.kind, effect.errors, effect.reply, effect.results, self.plan.args, effect.attempt
        )
        if self.plan.user_code:
            await self.session.flush()
        try:
            with self._own_code() if self.plan.user_code else _NOTHING:
                given = self.plan.handle(context)
                if inspect.isawaitable(given):
                    given = await given
            messages = [Message("user", given)] if isinstance(given, str) else list(given)
            data = {"handler": effect.kind, "add": [message.record() for message in messages]}
        except PLUG_IN as error:
            return _handler_failed(f"{effect.kind} handler", error)
        return Outcome(ev.HANDLER_RETURNED, data)

    def _own_code(self) -> AbstractContextManager[None]:
        return own_code(self.session, Place(within=self.call))

    # --- tools

    async def run_tool(self, effect: RunTool, *, again: bool = False) -> Outcome:
        """Runs a tool, unless its result is known. `again`: in any case, and without a time limit: an agent is driven along
        its record."""
        call = effect.call
        tool = self.plan.tools[call.name]
        if self.session.answers and not again:
            known = self.session.recorded(self.call, ev.TOOL_RETURNED, call.id)
            # an agent that a fork does not know is run all the same: its own calls are answered, or refused
            if known is not None and (tool.agent is None or "unmatched" not in known.data):
                return Outcome(known.kind, known.data)
        if self.late and (late := self.late.pop(effect.number, None)) is not None:
            return Outcome(ev.TOOL_RETURNED, {"id": call.id, **late, "late": True})
        key = f"{self.session.id}/{self.call}/{effect.number}"
        thread = Thread() if tool.threaded and tool.timeout is not None else None
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()  # a call may be made while its caller cleans up
        token = current.set(Scope(self.session, self.call, call.id))
        left = self._time_left()
        timed = tool.timeout is not None and not self.session.replaying
        until = time.monotonic() + tool.timeout if timed and tool.timeout is not None else None
        limited = None if until is None else enclosing.set(Bounds(enclosing.get(), until=until))
        try:
            info = {"id": call.id, "key": key, "deadline": left, "thread": thread}
            work = tool.invoke(call.parsed(), info)
            content = await run_tool(work, None if again else tool.timeout)
            data = self._returned(call, content)
        except TimeLimit as limit:
            data = _given_up(call, tool, running=limit.hear(partial(self._returned_late, effect), thread))
        except asyncio.CancelledError as error:
            halted = self.session.halted is not None
            if task is None or task.cancelling() > before or halted or self.is_over():
                raise
            if until is not None and time.monotonic() >= until:  # a blocking call in it has noticed that
                data = _given_up(call, tool, running=False)
            else:  # nobody cancelled this call: something within the tool was
                data = _tool_failed(call, error)
        except SystemExit as error:
            data = _tool_failed(call, error, f"'{call.name}' called sys.exit({error.code!r})")
        except Exception as error:
            if self.session.halted is not None and _comes_of(error, self.session.halted):
                raise  # the tool has not failed: an agent that it asked was stopped
            data = _tool_failed(call, error)
        finally:
            current.reset(token)
            if limited is not None:
                enclosing.reset(limited)
        return Outcome(ev.TOOL_RETURNED, data)

    def _returned(self, call: FunctionCall, value: str | Rich) -> records.ToolReturned:
        """What ToolReturned says of a tool's value. The bytes of its parts are kept."""
        if isinstance(value, str):
            return {"id": call.id, "content": value}
        parts = recorded(value, self.session.keep_bytes)
        return {"id": call.id, "content": content_text(parts), "parts": parts}

    def _time_left(self) -> float | None:
        """Seconds that are left for the call, and for all that it is made within; None for no limit."""
        left = time_left(enclosing.get())
        if self.deadline_at is None:
            return left
        own = max(0.0, (self.deadline_at - self.session.clock()) / 1_000_000)
        return own if left is None else min(own, left)

    def _returned_late(self, effect: RunTool, content: Any, error: BaseException | None) -> None:
        """Notes what came of a tool that had been given up. An equal call later on gets it."""
        session, call = self.session, effect.call
        if self.plan.tools[call.name].rule.counts_as == "pure" or session.replaying:
            return
        if error is not None and not isinstance(error, PLUG_IN):
            return  # it wanted to end the program, and nobody waits for it any more
        data: dict[str, Any] = {}
        with suppress(LLMError):  # a log that cannot be written stops what comes next
            data = {**(self._returned(call, content) if error is None else _tool_failed(call, error))}
        data.pop("id", None)
        self.late[effect.number] = data
        words = f"'{call.name}' {'returned' if error is None else 'failed'} after its time limit"
        with suppress(LLMError):  # a log that cannot be written stops what comes next
            session.note(words, of="tool", call=self.call, n=effect.number, result=data)
            storing = asyncio.ensure_future(_stored(session))
            _STORING.add(storing)
            storing.add_done_callback(_STORING.discard)

    async def reuse(self, effect: Reuse) -> Outcome:
        given = {"id": effect.call.id, "reused": effect.of}
        if effect.unknown:
            if (known := self.session.late(self.call, effect.call.id)) is not None:
                return Outcome(known.kind, known.data)
            if (late := self.late.pop(effect.unknown, None)) is not None:
                return Outcome(ev.TOOL_RETURNED, {**given, **late, "late": True})
        return Outcome(ev.TOOL_RETURNED, given)

    async def ask_approval(self, effect: AskApproval) -> Outcome:
        call = effect.call
        if (
            self.session.answers
            and (known := self.session.recorded(self.call, ev.APPROVAL_GIVEN, call.id)) is not None
        ):
            return Outcome(known.kind, known.data)
        approve = self.plan.approve or self.session.approve
        if approve is None:
            answer: Any = "nobody can be asked: this call was made without approve="
        else:
            try:
                with own_code(self.session, Place(self.call, call.id)):
                    # who answers may take a while: not in the loop
                    answer = await maybe_async(approve, call)
            except PLUG_IN as error:
                answer = f"asking failed: {text_of(error)}"
        data: records.ApprovalGiven = {"id": call.id, "approved": answer is True}
        if isinstance(answer, str):
            data["note"] = answer
        return Outcome(ev.APPROVAL_GIVEN, data)

    async def wait(self, effect: Wait) -> Outcome:
        if self.session.watchers:
            self.session.watched(Event(WAITING, {"seconds": effect.seconds}, call=self.call))
        await self.session.sleep(effect.seconds)
        return Outcome(ev.WAIT_ENDED, {"seconds": effect.seconds})


_PROGRAM: Final = frozenset((Parse, Handle, Reuse))
"""Effects that the program's own code performs: what it arms there is its own."""

_DO: Final[Mapping[type, Callable[[Performer, Any], Coroutine[Any, Any, Outcome]]]] = {
    CallModel: Performer.call_model,
    Parse: Performer.parse,
    Handle: Performer.handle,
    RunTool: Performer.run_tool,
    Reuse: Performer.reuse,
    AskApproval: Performer.ask_approval,
    Wait: Performer.wait,
}


class _Watch:
    """Looks for a reply that has got stuck, while its pieces come. Text, thinking and the arguments of each call are
    texts of their own."""

    __slots__ = ("_deltas", "_limit", "_texts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._texts: dict[Any, Repetition] = {}
        self._deltas: list[Delta] = []

    def stuck(self, delta: Delta) -> bool:
        self._deltas.append(delta)
        if isinstance(delta, Restart):
            self._texts.clear()
        if isinstance(delta, ToolCallDelta):
            return self._grew(delta.index, delta.arguments)
        return isinstance(delta, TextDelta | ThinkingDelta) and self._grew(type(delta), delta.text)

    def _grew(self, key: Any, piece: str) -> bool:
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = Repetition(self._limit)
        return text.grew(piece)

    def reply(self, model: str) -> Reply:
        """What was said until it was stopped. How many tokens that took is unknown: the backend was not asked."""
        return aggregate(self._deltas).with_(finish_reason="repetition", model=model)

    def judged(self, reply: Reply) -> Reply:
        """A reply that came in one piece: nobody could stop it, but it reads the same."""
        if self._deltas or not any(
            stuck(text, self._limit)
            for text in (reply.content, reply.thinking or "", *(call.arguments for call in reply.tool_calls))
        ):
            return reply
        return reply.with_(finish_reason="repetition")


async def _close(stream: Any) -> None:
    """Ends a stream early. What it raises then is no fault of the reply."""
    with suppress(*PLUG_IN):
        await close_stream(stream)


def _wrong(tool: BoundTool, arguments: dict[str, Any]) -> Sequence[str]:
    """All that is wrong with arguments."""
    try:
        return tool.validate(arguments)
    except RecursionError:
        return ["they are nested too deeply to be checked"]
    except LLMError:
        raise
    except PLUG_IN as error:  # a validator of the project's own types
        return [f"they could not be checked: {_told(error)}"]


def _add_answer(data: records.ModelFailed, error: ProviderError) -> None:
    """Adds what the provider answered. A backend of others may put anything there: what has another type is left out."""
    if isinstance(error.status, int) and not isinstance(error.status, bool):
        data["status"] = int(error.status)
    if isinstance(error.body, str) and error.body:
        data["body"] = error.body
    after = error.retry_after
    if isinstance(after, int | float) and not isinstance(after, bool) and math.isfinite(after):
        data["retry_after"] = after
    if isinstance(error.partial, str) and error.partial:
        data["partial"] = error.partial


def _tool_failed(call: FunctionCall, error: BaseException, text: str | None = None) -> records.ToolReturned:
    content = f"error: {text or text_of(error)}"
    return {"id": call.id, "ok": False, "content": content, "error": type(error).__name__}


def _given_up(call: FunctionCall, tool: BoundTool, *, running: bool) -> records.ToolReturned:
    """The result of a tool that has not returned in time."""
    content = f"error: '{call.name}' did not return within {tool.timeout:g} s"
    data: records.ToolReturned = {"id": call.id, "ok": False, "content": content, "error": "TimeoutError"}
    acts = tool.rule.counts_as
    if acts != "pure":
        state = "and is still running. Whether it takes" if running else "and was stopped. Whether it took"
        data["content"] = f"{content} {state} effect is not known. {UNKNOWN[acts]}"
        data["uncertain"] = "timeout"
    return data


_NOTHING: Final = nullcontext()
_STORING: Final[set[asyncio.Future[None]]] = set()


async def _stored(session: Session) -> None:
    with suppress(LLMError):
        await session.flush()


def _comes_of(error: BaseException | None, cause: BaseException) -> bool:
    """Whether an exception is that one, or was raised from it."""
    while error is not None and error is not cause:
        error = error.__cause__ or error.__context__
    return error is not None


def _handler_failed(what: str, error: BaseException) -> Outcome:
    return Outcome(
        ev.HANDLER_FAILED, {"handler": what, "message": f"the {what} raised {_told(error)}"}, error
    )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"
