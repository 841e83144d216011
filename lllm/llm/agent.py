"""Agent: a model with a system prompt, tools, limits and a format, that can be called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, overload

from lllm.composing import Composable
from lllm.core.spec import Limits
from lllm.core.window import SUMMARISE
from lllm.errors import CallError, ConfigError, LLMError
from lllm.fixed import Fixed
from lllm.llm.approval_rules import Rules
from lllm.llm.assembled_sandbox import sandbox_tools
from lllm.llm.bind import Bindings
from lllm.llm.checks import (
    limits_of,
    name_of,
    parse_code_tags,
    parse_count,
    parse_tool_style,
    sampling_of,
    timeouts_of,
)
from lllm.llm.classify import Classifies
from lllm.llm.connect import made_by
from lllm.llm.dialog import Dialog, Turn, settings_of
from lllm.llm.exported import Exports
from lllm.llm.handoff import handoffs_of
from lllm.llm.inputs import WORKERS, batch, shape
from lllm.llm.measuring import parse_window
from lllm.llm.memory import Memory, Remembered, Remembers, has_system, parse_memory, with_past
from lllm.llm.preparing import Prepares
from lllm.llm.prompts import find_prompt, system_prompt_of
from lllm.llm.proxies import Access, access_of_code
from lllm.llm.retrying import parse_retry, with_limits
from lllm.llm.sessions import fail, open_session, running
from lllm.llm.settings import (
    OF_AGENT,
    OTHERS,
    Settings,
    approver_of,
    debug_of,
    no_slips,
    open_model,
    tools_of,
    unreserved,
    without_later,
)
from lllm.llm.streaming import Stream, stream_of
from lllm.llm.summaries import with_summary
from lllm.llm.tool_changes import ChangesTools
from lllm.models.function import Function
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply
from lllm.plug_ins import secrets_of
from lllm.ports import Backend, LogStore, Timeouts
from lllm.runtime import Call
from lllm.session import Session
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.llm.model import LLM

Input = str | Prompt | Dialog | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]] | None
"""What an agent can be called with. Text is a user message (or the path of a registered prompt), a Prompt is rendered
with the call's arguments, a Dialog or a list of messages is gone on with."""
Args = Mapping[str, Any] | None
Batch = list[str] | list[Dialog] | list[list[Message | Mapping[str, Any]]]
"""A list of texts or of dialogs: one call each, in its own session if none is running."""
_ONE = (str, Prompt, Turn, Message, Mapping, type(None))
_NO_TOOLS: Final[Sequence[Any]] = ()


around: Callable[[Coroutine[Any, Any, Reply]], Awaitable[Reply]] | None = None
"""Set by a replay, which looks at the program's code and not at an agent call's."""


class Agent(Remembers, Exports, ChangesTools, Classifies, Prepares, Fixed, Composable):
    """A model with a role.

    Args:
        name: its name in the log, and as a tool.
        model: `provider/model`, a backend's name, a backend, or an LLM (a VLLMModel), whose settings are taken over; None
            uses the configured model (the embedded one if nothing is configured). A model may also be the first argument:
            `Agent(llm, tools=[...])`.
        system_prompt: text, a Prompt, or the path of a registered one.
        prompt: the invocation prompt for calls that pass only arguments.
        handoffs: agents that it may pass the conversation to; their answer is then its own. See `lllm.llm.handoff`.
        tools: functions, Functions, schemas, other agents, which it asks and whose replies it reads, proxies, endpoints of them
            (methods, `proxy.tools(...)`), and names: of registered tools, of endpoints (`"weather.daily"`, `"weather.*"`).
        activate_proxies: names or classes of proxies, or a Proxy, that it may use. If `tools` has no endpoint, it has all of
            theirs. `{api_catalog}` (and the rest of `lllm.llm.proxies.TEXTS_OF`) in its prompts is what they can do.
        sandbox: where code that the model writes runs: a JupyterSession, or the name of a registered sandbox ("jupyter"), of
            which each session has its own. The agent has the tools python, shell and files then.
        tool_style: how the model calls tools: `auto` (as its provider has them, else in text between tags), `tags`, or `code`:
            it writes blocks of code, which the tool python runs. code_tags: what stands around code instead of fences.
        format: pydantic model, dataclass, TypedDict or JSON schema of the reply.
        approval: which tools need approval besides those that say so: names, `weather.*`, `effect:ask`, True for all; see
            `lllm.llm.approval_rules`.
        memory: whether a call goes on with the conversation of the calls before: True, or `session` for a conversation of its
            own in each session; by default each call stands by itself. See `lllm.llm.memory`.
        window: what is done where a request is longer than the model's window: `drop` leaves out the oldest turns,
            `summarise` has a summary in their place; a mapping has `policy`, `tokens` (the window, where the model's own is
            not to be used) and `reserve` (for the reply). By default the request is sent as it is. See `lllm.core.window`.
        retry: how requests that fail are tried again: a RetryPolicy, a dict of its parts, or an object of tenacity. By default
            the limits say it: max_provider_retry, backoff_base, backoff_cap.
        approve: called with the FunctionCall of a tool that needs approval; True lets it run, a text is the reason for
            refusing.
        model_args: sampling values (temperature, max_tokens, ...), also as keywords.
        options: arguments of the backend's constructor: base_url, api_key, ...
        timeouts: connect, first_token, idle, total: seconds.
        store: the store for sessions that calls open for themselves; by default the configured log.
        debug: shows what the session of a call does on stderr, as panels, from the call on; see `lllm.utils.Panels`.
        Limits as in `lllm.core.spec.Limits`: max_exception_retry, max_interrupt_times, max_cost, deadline, ...

    Attributes:
        why: why this model was chosen, if it was not given explicitly.

    `approve`, `store` and `description` can be set later, and `add_tool` and `remove_tool` change the tools; both hold for
    calls that begin then. Setting anything else raises FixedSettingError: `with_` makes a copy with other settings.

    Safe to call from many threads and tasks at once; one with memory answers one call at a time in each session, and a
    second one raises DialogBusyError.
    """

    _settable = frozenset(("approve", "description", "store"))
    _fixed = OF_AGENT
    _instead = OTHERS

    def __init__(
        self,
        name: str | Backend | LLM = "agent",
        model: str | Backend | LLM | None = None,
        system_prompt: str | Prompt | None = None,
        *,
        prompt: str | Prompt | None = None,
        tools: Sequence[Any] = _NO_TOOLS,
        handoffs: Sequence[Any] = (),
        activate_proxies: Any = None,
        sandbox: Any = None,
        tool_style: str | None = None,
        code_tags: Sequence[str] | None = None,
        approval: Any = None,
        format: Any = None,
        memory: bool | str | None = None,
        window: Any = None,
        retry: Any = None,
        approve: Callable[..., Any] | None = None,
        model_args: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        description: str = "",
        store: LogStore | None = None,
        debug: bool = False,
        **more: Any,
    ) -> None:
        if not isinstance(name, str) and callable(getattr(name, "stream", None)):
            if model is not None:
                raise ConfigError("an agent has one model, got two", hint='Write Agent("NAME", model, ...).')
            name, model = "agent", name
        name = name_of(name)
        self.store = store
        self.description = description
        remembers = parse_memory(memory)
        self._memory = None if remembers is None else Memory(name, remembers)
        more = without_later(more)
        limits = {key: more.pop(key) for key in list(more) if key in Limits._fields}
        no_slips(more)
        sampling = {**unreserved(model_args), **more}
        self._system = system_prompt_of(name, system_prompt)
        self._prompt = find_prompt(prompt) if isinstance(prompt, str) else prompt
        opened = open_model("auto" if model is None else model, options, name)._asdict()
        if (made := made_by(model)) is not None:  # an LLM: arguments given here override its own
            brought: Settings = made._settings
            sampling = {**brought.sampling, **sampling}
            own = limits
            limits = {**brought.limits._asdict(), **limits}
            tools = brought.tools if tools is _NO_TOOLS else tools
            tool_style = brought.tool_style if tool_style is None else tool_style
            code_tags = brought.code_tags if code_tags is None else code_tags
            format = brought.format if format is None else format
            window = brought.window if window is None else window
            if retry is None and brought.retry is not None:
                retry = with_limits(brought.retry, own)
            timeouts = brought.timeouts if timeouts is None else timeouts
            self._system = made.system_prompt if system_prompt is None else self._system
            opened["why"] = brought.why
        access = None if activate_proxies is None else access_of_code(activate_proxies)
        found = tools_of(tools, None if access is None else access.find)
        if access is not None and (tools is _NO_TOOLS or found):
            found = access.with_own(found)
        style = parse_tool_style(tool_style)
        if sandbox:
            found = (*found, *sandbox_tools(sandbox, name, style, access))
        self._settings = Settings(
            name=name,
            **opened,
            tools=found,
            handoffs=handoffs_of(handoffs),
            approval=Rules.of(approval),
            sampling=sampling_of(sampling),
            format=format,
            timeouts=timeouts_of(timeouts),
            limits=limits_of(limits),
            tool_style=style,
            code_tags=parse_code_tags(code_tags),
            window=parse_window(window),
            retry=parse_retry(retry, limits=limits),
            approve=approver_of(approve),
            debug=debug_of(debug),
        )
        self._bindings = Bindings()
        self._access: Access | None = None
        if access is not None:
            self._allow(access)
        self._said: tuple[Prompt, Message] | None = None
        self._prompts: tuple[Prompt, ...] = ()  # beside `prompt`, the only ones allowed in calls

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def approve(self) -> Callable[..., Any] | None:
        """Who is asked about tools that need approval. Calls that have begun keep the one that they began with."""
        return self._settings.approve

    @approve.setter
    def approve(self, approve: Callable[..., Any] | None) -> None:
        found = approver_of(approve)
        self._change(lambda settings: replace(settings, approve=found))

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._settings.model

    @property
    def why(self) -> str | None:
        return self._settings.why

    @property
    def system_prompt(self) -> Prompt | None:
        return self._system

    @property
    def prompt(self) -> Prompt | None:
        """The invocation prompt that is used when a call gives only arguments."""
        return self._prompt

    @property
    def tools(self) -> tuple[Function, ...]:
        return self._settings.tools

    @property
    def handoffs(self) -> tuple[Function, ...]:
        """The tools that hand over to other agents."""
        return self._settings.handoffs

    @property
    def limits(self) -> Limits:
        return self._settings.limits

    def with_(self, **changes: Any) -> Self:
        """A copy with other settings: `agent.with_(model="openai/gpt-4o", temperature=0, tools=[])`. `model="auto"` is what
        the configuration says. A copy with memory begins with what this agent remembers, and has it for itself from then on."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._bindings = Bindings()
        remembers = None if self._memory is None else self._memory.scope
        if "memory" in changes:
            remembers = parse_memory(changes.pop("memory"))
        twin._settings = self._overridden(changes)
        if "system_prompt" in changes:
            twin._system = system_prompt_of(self.name, changes["system_prompt"])
        if remembers is None:
            twin._memory = None
        elif self._memory is None:
            twin._memory = Memory(twin.name, remembers)
        else:
            twin._memory = self._memory.copy(twin.name, remembers, system="system_prompt" not in changes)
        return twin

    def _allow(self, access: Access) -> None:
        """Says which proxies its prompts may name tools of, and describe."""
        self._access = access
        self._change(lambda settings: replace(settings, find_tool=access.find))

    def _entry(self) -> dict[str, str]:
        """What the session of a single agent says of it."""
        return {"kind": "agent", "agent": self.name, **({"why": self.why} if self.why else {})}

    # --- calls

    @overload
    async def acall(self, input: Input = None, args: Args = None, **more: Any) -> Reply: ...
    @overload
    async def acall(self, input: Batch, args: Args = None, **more: Any) -> list[Reply | LLMError]: ...
    async def acall(
        self,
        input: Any = None,
        args: Args = None,
        *,
        session: Session | None = None,
        parser_args: Args = None,
        follow: Callable[..., None] | None = None,
        key: str | None = None,
        **overrides: Any,
    ) -> Reply | list[Reply | LLMError]:
        """Calls the agent and returns its reply: `reply.parsed` is the payload, `reply.messages` the dialog. A list of
        texts or of dialogs is a batch: the result is a list of as many replies, with the error of a failed call in place
        of its reply.

        The call belongs to `session`, else to the running session, else to a new one. `overrides` replace any setting for
        this call (model, tools, format, temperature, limits ...), and `workers` is the concurrency of a batch.
        `follow(call, delta)` receives the reply as it streams. `key` tells calls with the same words apart that run side by
        side in threads: by it, before the words, a replay knows which one was which.

        Raises:
            CallError: the call ended without a result; the subclass says why. The caller's dialog is unchanged.
            PromptError, ConfigError: before any request is sent. DialogBusyError: another call on this dialog is running.
            LogWriteError: the log could not be written.
        """
        turn = Turn(input) if isinstance(input, Dialog) else None
        if (
            turn is None
            and not isinstance(input, _ONE)
            and shape(input, f"the agent '{self.name}'") == "batch"
        ):
            if self._memory is not None:
                raise ConfigError(
                    f"the agent '{self.name}' remembers one conversation, and was called with a batch",
                    hint="Ask one thing at a time, or an agent without memory: agent.with_(memory=False)([...]).",
                )
            if key is not None:
                raise ConfigError(
                    "a batch has no key", hint="Its calls are told apart by their places in it."
                )
            more = {"args": args, "session": session, "parser_args": parser_args, "follow": follow}
            return await self._batch(input, more, overrides)
        if key is not None and (not isinstance(key, str) or not 0 < len(key) <= 200):
            raise ConfigError(
                f"agent '{self.name}': key must be text of 1 to 200 characters, got {key!r:.80}"
            )
        told = input  # what the call says
        if turn is None and self._memory is not None and isinstance(input, _ONE):
            dialog = await self._memory.of_call(session)
            turn = Turn(
                dialog.fork() if "read" in overrides else dialog
            )  # a classification is not remembered
        elif turn is None:
            call = self._call(input, None, args, session, parser_args, follow, key, overrides)
            return await (call if around is None else around(call))
        else:
            told = turn
        with turn:
            call = self._call(told, turn, args, session, parser_args, follow, key, overrides)
            return await (call if around is None else around(call))

    def _is_batch(self, input: Any) -> bool:
        return not isinstance(input, _ONE) and shape(input, f"the agent '{self.name}'") == "batch"

    async def _batch(
        self, items: Sequence[Any], more: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> list[Reply | LLMError]:
        """The calls of a batch. An error in the batch as a whole, or in one of its dialogs, is raised before any call
        starts."""
        if more["follow"] is not None:
            raise ConfigError("a batch cannot be streamed", hint="Stream one question or one dialog.")
        changes = dict(overrides)
        workers = parse_count("workers", changes.pop("workers", WORKERS))
        read = {"read": changes.pop("read")} if "read" in changes else {}
        agent = self.with_(**changes) if changes else self
        for item in items:
            if not isinstance(item, Dialog):
                agent._prepare(item, more["args"] or {}, {})
        return await batch(lambda item: agent.acall(item, **more, **read), items, workers)

    async def _call(
        self,
        input: Any,
        turn: Turn | None,
        args: Mapping[str, Any] | None,
        session: Session | None,
        parser_args: Mapping[str, Any] | None,
        follow: Callable[..., None] | None,
        key: str | None,
        overrides: Mapping[str, Any],
    ) -> Reply:
        began = None if turn is None or input is turn else turn.head  # what it remembers
        opened = (
            began is not None
            and "system_prompt" not in overrides
            and (self._system is None or has_system(began))
        )
        binding, base, add, render_args = self._prepare(input, args or {}, overrides, opened=opened)
        if began is not None:
            base, add = with_past(began, add, opened=opened)
        dialog = None if turn is None else turn.dialog
        if parser_args and not callable(binding.prompt and binding.prompt.parser):
            raise ConfigError(
                f"agent '{self.name}': parser_args were given, but this call's prompt has no parser",
                hint="Define one: Prompt(..., parser=FUNCTION).",
            )
        texts = self._texts(binding.prompt, render_args)
        plan = binding.plan(render_args, follow=follow, parser_args=parser_args, texts=texts)
        scope = running("agent")
        own = session is None and scope is None
        secrets = secrets_of(plan.backend)
        live = session or (scope.session if scope is not None else None)
        if live is None:
            live = open_session(self.name, store=self.store, secrets={"backend": secrets})
        elif secrets:
            live.learn("backend", secrets)
        if binding.settings.debug:
            from lllm.utils.panels import watch

            watch(live)
        if own:
            await live.start({"name": self.name, "entry": self._entry()})
        elif not live.started:
            await live.start({"name": self.name})
        if dialog is not None and dialog.id is None:
            dialog.id = live.new_dialog()
        named = dialog.id if dialog is not None else None
        if began is not None and base is not None and live.logs and base.id not in live.dialogs:
            base, add = None, (*began.messages(), *add)  # the session has not heard of it
        if plan.fitting is not None and plan.fitting.window.policy == SUMMARISE:
            try:
                plan = await with_summary(self, plan, live, dialog, base, add)
            except BaseException as error:
                if own:
                    await fail(live, error)
                raise
        call = Call(plan, live, parent=scope, dialog=named, add=add, key=key)
        if follow is not None:
            live.listeners[call.id] = follow
        try:
            work = call.run(base, add)
            del (
                add
            )  # the call has them; held here, they were one thing more for the garbage collector to look at
            await work
            reply = call.result()
        except BaseException as error:
            if own:
                await fail(live, error)
            elif isinstance(error, CallError):
                await live.hand_back(call.id)  # a call that failed says so in the log, like one that is done
            raise
        finally:
            if follow is not None:
                live.listeners.pop(call.id, None)
        if own:
            await live.end("done")
        else:
            await live.hand_back(call.id)
        if turn is not None:
            turn.done(call.state.trunk, settings_of(binding.settings))
            if self._memory is not None and isinstance(turn.dialog, Remembered):
                self._memory.advanced(live, turn.dialog, began, keeps_system="system_prompt" not in overrides)
        return reply

    @overload
    def call(self, input: Input = None, args: Args = None, **more: Any) -> Reply: ...
    @overload
    def call(self, input: Batch, args: Args = None, **more: Any) -> list[Reply | LLMError]: ...
    def call(self, input: Any = None, args: Args = None, **more: Any) -> Any:
        """`acall` for blocking code. Works within a running loop too (a notebook)."""
        return run(self.acall(input, args, **more))

    @overload
    def __call__(self, input: Input = None, args: Args = None, **more: Any) -> Reply: ...
    @overload
    def __call__(self, input: Batch, args: Args = None, **more: Any) -> list[Reply | LLMError]: ...
    def __call__(self, input: Any = None, args: Args = None, **more: Any) -> Any:
        return run(self.acall(input, args, **more))

    def astream(self, input: Input = None, args: Mapping[str, Any] | None = None, **more: Any) -> Stream:
        """The deltas of a call as they come (`lllm.ports.Delta`), of tool rounds and repairs too. Ends with
        `Completed` of the whole call's reply. Closing it early cancels the call."""
        return stream_of(self.acall, input, args, more)

    def stream(self, input: Input = None, args: Mapping[str, Any] | None = None, **more: Any) -> Stream:
        """`astream` for blocking code."""
        return stream_of(self.acall, input, args, more)

    # --- as a part of others

    def as_tool(self, description: str = "") -> Function:
        """This agent as a tool of another: it takes `task` and answers with its reply."""

        from lllm.llm.team import agent_tool

        about = description or self.description
        return agent_tool(self.name, lambda: self, about, concurrent=self._memory is None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self._settings.model!r})"

    def __getattr__(self, name: str) -> Any:
        from lllm.porting import AGENT, no_attribute

        raise no_attribute(self, name, AGENT)
