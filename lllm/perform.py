"""Effects happen here and nowhere else: the only file that awaits a plug-in.

`perform(effect)` does one effect and says what came of it, as the kind, data and value of an event. It never raises for
what a plug-in does wrong: a provider's fault, a tool that raises or hangs, a parser that refuses are events too.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from lllm import inputs
from lllm.bounds import Bounds, enclosing, time_left
from lllm.budgets import Ledger
from lllm.callers import Caller, approver, calling
from lllm.const import Modalities, card
from lllm.core import events as ev
from lllm.core import text_tools
from lllm.core.choice import freed
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, Reuse, RunTool, Wait
from lllm.core.embedded_bytes import taken_out
from lllm.core.events import Event
from lllm.core.jsonable import bounded, jsonable, unshown
from lllm.core.long_results import READER, shown_parts, shown_text
from lllm.core.parts import PLACES, Takes, sent
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
from lllm.core.retry_policy import RetryPolicy, Try
from lllm.core.spec import RULES
from lllm.core.state import BLANK
from lllm.core.text_forms import CodeForm
from lllm.deltas import pieces
from lllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    LLMError,
    ModelNotFoundError,
    ParseError,
    ProviderError,
    UnsupportedError,
    comes_of,
    text_of,
)
from lllm.handles import capabilities, close_stream, stream_of
from lllm.models import finish
from lllm.models.checks import DEEPEST
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import Offers, Rich, content_text, recorded
from lllm.models.reply import Reply, Usage
from lllm.outcomes import Outcome, add_answer, given_up, handler_failed, raised, tool_failed, wrong_arguments
from lllm.plan import BoundTool, Plan
from lllm.plug_ins import PLUG_IN, backend_named
from lllm.ports import (
    Completed,
    Delta,
    HandlerContext,
    Request,
    Restart,
    TextDelta,
)
from lllm.repeats import RepeatWatch
from lllm.session import WAITING, Scope, Session, current, own_code
from lllm.session_effects import Place
from lllm.stream_inputs import Told, cut, cuts_of, inputs_of, joined_of, rest
from lllm.sync import maybe_async
from lllm.tool_run import Thread, TimeLimit, run_tool

if TYPE_CHECKING:
    from lllm.core import record_parts, records
    from lllm.core.dialog import Node

FATAL: Final = (AuthenticationError, ModelNotFoundError, BadRequestError, UnsupportedError)
"""Faults that asking again never mends: not even `max_llm_recall` does."""


class Performer:
    """Does the effects of one agent call."""

    __slots__ = (
        "accepted",
        "answer",
        "asked_in",
        "call",
        "counted",
        "deadline_at",
        "dialog",
        "is_over",
        "late",
        "ledger",
        "plan",
        "rules",
        "said",
        "session",
        "shown",
        "state",
    )

    def __init__(
        self, plan: Plan, session: Session, call: str, dialog: str | None, is_over: Callable[[], bool]
    ) -> None:
        self.plan = plan
        self.session = session
        self.call = call
        self.dialog = dialog
        self.accepted: Any = None  # the live payload; the log holds its JSON
        self.answer: Any = None  # of the agent that took over: its reply, or the error that ended its call
        self.state = BLANK  # when the last tool began
        self.asked_in = BLANK  # when the model was last asked
        self.said = False  # whether pieces of the present reply were shown
        self.shown: list[Delta] = []  # those that were, by their places in the record
        self.rules = RULES  # those of the call, see `lllm.core.spec`
        self.deadline_at: int | None = None  # when the call must have ended, by the session's clock
        self.is_over = is_over  # whether the call is cancelled, or late
        self.late: dict[int, Mapping[str, Any]] = {}  # what tools returned after their time limit
        self.ledger: Ledger | None = None  # of the call
        self.counted: set[str] = set()  # tool calls within which agents were counted while they ran

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
        watch = None if plan.limits.repeat_limit is None else RepeatWatch(plan.limits.repeat_limit)
        try:
            messages = self._sent(effect.head) if effect.head.has_parts else effect.head.messages()
        except LLMError as error:  # bytes that the log has not
            return self._fault(error, None)
        form = plan.text_tools
        held = None if form is None else form.held()
        build = partial(self._request, effect, watch is not None)
        if self.said:
            self.said, self.shown = False, []
            session.tell(self.call, Restart("asked again"))
        reply: Reply | None = None
        begun = False
        told = Told() if self.call in session.listeners else None
        try:
            if plan.fitting is None:
                stream = stream_of(plan.backend, session.id, build(messages))
            else:
                send = partial(stream_of, plan.backend, session.id)
                stream = plan.fitting.stream(
                    messages, build, send, partial(session.note, of="window", call=self.call)
                )
            async for delta in stream:
                if type(delta) is Completed:
                    reply = delta.reply
                    continue
                begun = True
                if type(delta) is Restart and told is not None:
                    told.clear()
                if (
                    self._followed()
                    and (visible := delta if held is None else held.visible(delta)) is not None
                ):
                    self.said = True
                    shown = session.tell(self.call, visible)
                    if told is not None:
                        told.add(shown, session.inputs.joined)
                if watch is not None and watch.stuck(delta):
                    reply = watch.reply(plan.model_name)
                    await _close(stream)
                    break
        except LLMError as error:
            return self._fault(error, told, begun)
        except PLUG_IN as error:  # a backend that breaks its contract is a fault like any other
            fault = ProviderError(f"backend of '{plan.model}' raised {raised(error)}")
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
        if form is not None:
            reply = form.read(reply, effect.tools)
            if held is not None and self._followed() and (kept_back := held.rest()):
                shown = session.tell(self.call, TextDelta(kept_back))
                if told is not None:
                    told.add(shown, session.inputs.joined)
        if plan.format is not None and reply.enforced is None:
            reply = reply.with_(enforced="validation")
        if self._followed():
            shown = session.tell(self.call, Completed(reply))
            if told is not None:
                told.add(shown, session.inputs.joined)
        if reply.tool_calls:
            reply = with_ids(reply)
        if reply.thinking == "" or reply.logprobs is not None or reply.token_ids is not None:
            reply = as_recorded(reply)
        # with the log off and no secret to look for, nobody reads the record
        data = reply.record() if session.logs or session.redactor else {}
        if told is not None:
            data["cuts"] = cuts_of(told.deltas, told.joined)
        if reply.source is not None:
            data["cost"] = "0"  # nobody was asked, and nobody is paid
        elif (
            plan.price is not None
            and (priced := plan.price(reply.model, plan.model_name, reply.usage)) is not None
        ):
            data["cost"], data["prices"] = priced
        return Outcome(ev.MODEL_REPLIED, data, reply)

    def _request(self, effect: CallModel, watched: bool, messages: Sequence[Message]) -> Request:
        """The request with these messages, as the model takes it."""
        plan = self.plan
        tools = self._offered(effect) if effect.tools else ()
        sampling = freed(plan.sampling) if effect.free else plan.sampling
        if plan.text_tools is not None:
            messages = plan.text_tools.written(tuple(messages), tools, sampling.get("tool_choice"))
            tools, sampling = (), text_tools.without_choice(sampling)
        elif not plan.native_tools and any(message.role == "tool" for message in messages):
            messages = text_tools.written(tuple(messages), ())
        return Request(
            plan.model_name,
            tuple(messages),
            tools,
            sampling,
            plan.format,
            plan.stream or watched or self._followed(),
            plan.timeouts,
            literal_tags=plan.literal_tags,
            finder=plan.finder,
        )

    def _offered(self, effect: CallModel) -> tuple[Mapping[str, Any], ...]:
        """The schemas of the tools: those of the beginning, and what was offered since, in that order."""
        plan = self.plan
        if not effect.head.offered:
            return plan.tool_specs
        further = plan.further_specs
        return (*plan.tool_specs, *(further[name] for name in effect.head.offered if name in further))

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
        # results that are written as text of the user have their images behind them
        where = "user" if plan.text_tools is not None and can.tool_parts else can.tool_parts
        return sent(head.messages(), self.session.blob, Takes(where, images, can.files))

    def _followed(self) -> bool:
        return bool(self.session.followers) or self.call in self.session.listeners

    def tell_again(self, known: Event) -> None:
        """Gives the program the deltas of a recorded reply, or what is left of them."""
        for _ in self.tell_by_turns(known):
            pass

    def tell_by_turns(self, known: Event, unread: int = 0) -> Iterator[None]:
        """As `tell_again`, one input after another, so that the program may do something about each. All but the last `unread`
        deltas."""
        if self.call not in self.session.listeners:
            return
        joined: Sequence[bool] = ()
        given: list[Delta] = []
        if self.said and not self.shown:
            given.append(Restart("asked again"))
        if known.kind == ev.MODEL_REPLIED:
            reply = Reply.from_record(known.data)
            parts = pieces(reply if self.plan.text_tools is None else self.plan.text_tools.shown(reply))
            if (cuts := known.data.get("cuts")) is not None:
                parts, joined = cut(parts, cuts), joined_of(cuts)
            if unread:
                parts, joined = parts[:-unread], joined[:-unread]
            given += rest(parts, self.shown)
            self.said = bool(parts)
        else:
            if known.data.get("told"):
                given += rest([TextDelta(known.data["told"])], self.shown)
            self.said = bool(self.shown) or "told" in known.data
        self.shown = []
        for one in inputs_of(given, joined):
            for delta in one:
                self.session.tell(self.call, delta, again=True)
            yield
        if known.kind == ev.MODEL_REPLIED:
            self.session.tell(self.call, Completed(reply), again=True)
            yield

    def show_again(self, deltas: Sequence[Delta]) -> None:
        """Gives the program deltas at their place in the record."""
        for delta in deltas:
            if type(delta) is Restart:
                self.shown = []
            self.shown.append(delta)
            self.said = True
            self.session.tell(self.call, delta, again=True)

    def _fault(self, error: LLMError, told: Told | None, begun: bool = False) -> Outcome:
        data: records.ModelFailed = {"error": type(error).__name__, "message": error.message}
        if error.hint:
            data["hint"] = error.hint
        if isinstance(error, ProviderError):
            add_answer(data, error)
            self._add_broken_off(data, error, begun)
        held = self.session.told(self.call)
        if told is not None and self.said:  # also where it was thinking alone, of which the log has nothing
            texts = [one.text for one in (*told.deltas, *held) if type(one) is TextDelta]
            data["told"] = "".join(texts)
        if isinstance(error, (*FATAL, ConfigError)):
            data["fatal"] = True
        if self.plan.retry is None:
            if error.retryable:
                data["retryable"] = True
        else:
            self._add_retry(data, error, self.plan.retry)
        if self.session.left_open(error):
            raise self.session.halted or error
        return Outcome(ev.MODEL_FAILED, data, error)

    def _add_retry(self, data: records.ModelFailed, error: LLMError, policy: RetryPolicy) -> None:
        """Adds what the functions of a retry policy decide: a replay takes it from there."""
        state = self.asked_in
        began = state.tried_at if state.faults else state.at
        tried = Try(state.faults + 1, error, (self.session.clock() - began) / 1_000_000)
        try:
            if not policy.wants(error) or (policy.stop is not None and policy.is_last(tried)):
                return
            if callable(policy.wait):
                asked = data.get("retry_after")
                data["wait"] = policy.seconds(tried.number, "", asked, tried)
        except PLUG_IN as broken:
            words = broken.message if isinstance(broken, LLMError) else f"it raised {raised(broken)}"
            error.add_note(f"the retry policy of '{self.plan.agent}' failed: {words}")
            data["message"] = f"{data['message']}; the retry policy of '{self.plan.agent}' failed: {words}"
            data["fatal"] = True
            return
        data["retryable"] = True

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
            return self._read_calls(reply, effect)
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
                return handler_failed("parser", error)
            return Outcome(ev.REPLY_REJECTED, {"errors": [TOO_DEEP]})
        except PLUG_IN as error:
            return handler_failed("parser", error)
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

    def _read_calls(self, reply: Reply, effect: Parse) -> Outcome:
        tools = self.plan.tools
        further = self.plan.further_specs
        if further:
            tools = {
                name: tool for name, tool in tools.items() if name not in further or name in effect.offered
            }
        if tools and not effect.tools:
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
                    f"error: the code was not run: {CUT[reply.finish_reason]}; write less code at a time"
                    if isinstance(self.plan.text_tools, CodeForm) and reply.finish_reason in CUT
                    else f"error: the arguments of '{call.name}' are not a JSON object ({error}): {call.arguments[:500]}"
                )
                continue
            if wrong := wrong_arguments(tool, arguments):
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
            return handler_failed(f"{effect.kind} handler", error)
        return Outcome(ev.HANDLER_RETURNED, data)

    def _own_code(self) -> AbstractContextManager[None]:
        return own_code(self.session, Place(within=self.call))

    # --- tools

    async def run_tool(self, effect: RunTool, *, again: bool = False) -> Outcome:
        """Runs a tool, unless its result is known. `again`: in any case, and without a time limit: an agent is driven along
        its record."""
        call = effect.call
        tool = self.plan.tools[call.name]
        begun: asyncio.Task[Outcome] | None = None
        if self.session.answers and not again:
            known = self.session.recorded(self.call, ev.TOOL_RETURNED, call.id)
            begun = self.session.under_way(self.call, effect.number)
            # an agent that a fork does not know is run all the same: its own calls are answered, or refused
            if known is not None and (tool.agent is None or "unmatched" not in known.data):
                if begun is not None:
                    begun.cancel()
                return Outcome(known.kind, known.data)
        if self.late and (late := self.late.pop(effect.number, None)) is not None:
            self.counted.add(call.id)
            return Outcome(ev.TOOL_RETURNED, {"id": call.id, **late, "late": True})
        key = f"{self.session.id}/{self.call}/{effect.number}"
        thread = Thread() if tool.threaded and tool.timeout is not None else None
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()  # a call may be made while its caller cleans up
        ledger = None
        if self.ledger is not None:
            ledger = Ledger(self.ledger)
            self.counted.add(call.id)
        token = current.set(Scope(self.session, self.call, call.id, ledger))
        within = None if tool.agent is None else calling.set(self._as_caller(call, tool))
        left = self._time_left()
        timed = tool.timeout is not None and not self.session.replaying
        until = time.monotonic() + tool.timeout if timed and tool.timeout is not None else None
        limited = None if until is None else enclosing.set(Bounds(enclosing.get(), until=until))
        try:
            info = {"id": call.id, "key": key, "deadline": left, "thread": thread}
            work = tool.invoke(call.parsed(), info) if begun is None else _rest(begun)
            content = await run_tool(work, None if again else tool.timeout)
            if type(content) is Outcome:
                self.answer = content.value
                if content.kind == ev.TOOL_RETURNED:
                    content = content._replace(data=_with_use(content.data, ledger))
                return content
            data = self._returned(call, content)
        except TimeLimit as limit:
            data = given_up(
                call, tool, running=limit.hear(partial(self._returned_late, effect, ledger), thread)
            )
        except asyncio.CancelledError as error:
            halted = self.session.halted is not None
            if task is None or task.cancelling() > before or halted or self.is_over():
                raise
            if until is not None and time.monotonic() >= until:  # a blocking call in it has noticed that
                data = given_up(call, tool, running=False)
            else:  # nobody cancelled this call: something within the tool was
                data = tool_failed(call, error)
        except SystemExit as error:
            data = tool_failed(call, error, f"'{call.name}' called sys.exit({error.code!r})")
        except Exception as error:
            if self.session.halted is not None and comes_of(error, self.session.halted):
                raise  # the tool has not failed: an agent that it asked was stopped
            data = tool_failed(call, error)
        finally:
            current.reset(token)
            if within is not None:
                calling.reset(within)
            if limited is not None:
                enclosing.reset(limited)
        if not data.get("ok", True):
            data = self._cut_error(call, data)
        if tool.origin is not None:
            data = cast("records.ToolReturned", {**data, **tool.origin})
        return Outcome(ev.TOOL_RETURNED, data if ledger is None else _with_use(data, ledger))

    def _as_caller(self, call: FunctionCall, tool: BoundTool) -> Caller:
        return Caller(self.plan, self.state, call.id, tool.rule.handoff, calling.get(), self.call)

    def _cut_error(self, call: FunctionCall, data: records.ToolReturned) -> records.ToolReturned:
        """The words of an error within the limit."""
        limit, text = self.plan.limits.max_result_chars, data["content"]
        if limit is None or len(text) <= limit:
            return data
        return {**data, **self._cut(call, text)}

    def _returned(self, call: FunctionCall, value: str | Rich | Offers) -> records.ToolReturned:
        """What ToolReturned says of a tool's value. The bytes of its parts are kept, and the whole of one that is cut."""
        if type(value) is Offers:
            data = self._cut(call, value.text)
            tools = self.plan.tools
            rules = {
                name: tools[name].rule.record() for name in value.names if name in self.plan.further_specs
            }
            if rules:
                data["offers"] = {**data.get("offers", {}), **rules}
            return data
        return self._cut(call, value)  # type: ignore[arg-type]

    def _cut(self, call: FunctionCall, value: str | Rich) -> records.ToolReturned:
        """A result within the limit of the call, with the tool that reads on where it was longer."""
        limit, keep = self.plan.limits.max_result_chars, self.session.keep_bytes
        if call.name == READER and READER in self.plan.further_specs:
            limit = None  # it keeps to it, and an image that was asked for by name would only be named again
        if isinstance(value, str):
            value = taken_out(value)
        if isinstance(value, str):
            if limit is None or len(value) <= limit:
                return {"id": call.id, "content": value}
            shown = shown_text(value, limit, keep)
            data: records.ToolReturned = {"id": call.id, "content": shown.content}
        else:
            shown = shown_parts(recorded(value, keep), limit, keep)
            data = {"id": call.id, "content": content_text(shown.content), "parts": shown.content}
        if shown.whole and (reads_on := self.plan.tools.get(READER)) is not None:
            data["whole"] = {name: dict(kept) for name, kept in shown.whole.items()}
            if READER in self.plan.further_specs:
                data["offers"] = {READER: reads_on.rule.record()}
        return data

    def _time_left(self) -> float | None:
        """Seconds that are left for the call, and for all that it is made within; None for no limit."""
        left = time_left(enclosing.get())
        if self.deadline_at is None:
            return left
        own = max(0.0, (self.deadline_at - self.session.clock()) / 1_000_000)
        return own if left is None else min(own, left)

    def _returned_late(
        self, effect: RunTool, ledger: Ledger | None, content: Any, error: BaseException | None
    ) -> None:
        """Notes what came of a tool that had been given up. An equal call later on gets it."""
        session, call = self.session, effect.call
        if self.plan.tools[call.name].rule.counts_as == "pure" or session.replaying:
            return
        if error is not None and not isinstance(error, PLUG_IN):
            return  # it wanted to end the program, and nobody waits for it any more
        data: dict[str, Any] = {}
        with suppress(LLMError):  # a log that cannot be written stops what comes next
            data = {**(self._returned(call, content) if error is None else tool_failed(call, error))}
            data |= self.plan.tools[call.name].origin or {}
        data = _with_use(data, ledger)
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
                self.counted.add(effect.call.id)
                return Outcome(ev.TOOL_RETURNED, {**given, **late, "late": True})
        return Outcome(ev.TOOL_RETURNED, given)

    async def ask_approval(self, effect: AskApproval) -> Outcome:
        call = effect.call
        if (
            self.session.answers
            and (known := self.session.recorded(self.call, ev.APPROVAL_GIVEN, call.id)) is not None
        ):
            return Outcome(known.kind, known.data)
        approve = self.plan.approve or approver() or self.session.approve
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


async def _close(stream: Any) -> None:
    """Ends a stream early. What it raises then is no fault of the reply."""
    with suppress(*PLUG_IN):
        await close_stream(stream)


async def _rest(begun: asyncio.Task[Outcome]) -> Any:
    """What comes of a tool that is at work already."""
    return await begun


def _with_use(data: Mapping[str, Any], ledger: Ledger | None) -> dict[str, Any]:
    """What ToolReturned says, with the use of agents within the tool where a budget counts it."""
    used = None if ledger is None else ledger.take()
    return {**data, "spent": used.record()} if used is not None and used.model_calls else {**data}


_NOTHING: Final = nullcontext()
_STORING: Final[set[asyncio.Future[None]]] = set()


async def _stored(session: Session) -> None:
    with suppress(LLMError):
        await session.flush()
