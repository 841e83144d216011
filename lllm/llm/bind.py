"""Binds an agent's settings into the Plan of one call: tools, parser, handlers, hashes. Nothing is computed twice for the
same agent and prompt."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final

from lllm import const
from lllm.backends.openai.families import family
from lllm.core import handlers
from lllm.core.canonical import digest, digest_of, encode
from lllm.core.jsonable import jsonable
from lllm.core.long_results import READER
from lllm.core.spec import ToolRule
from lllm.core.text_forms import CodeForm, form_for
from lllm.errors import ConfigError
from lllm.handles import capabilities
from lllm.llm.find_tools import FINDER, tool_finder
from lllm.llm.measuring import fitting_of
from lllm.llm.own_tools import Deferred, decided, result_reader
from lllm.llm.project import project
from lllm.llm.settings import ProjectTools, Settings
from lllm.models.function import Function, ToolContext, as_functions
from lllm.models.message import Message
from lllm.models.parts import Offers, Rich
from lllm.models.prompt import Prompt
from lllm.models.render import render_value
from lllm.models.reply import Reply, Usage
from lllm.plan import BoundTool, Plan
from lllm.ports import HandlerContext
from lllm.session import current
from lllm.sync import in_thread, is_async
from lllm.tools.dialects import PLAIN, adapted, dialect_of


class Binding:
    """One agent's settings with one invocation prompt (or none): everything about a call that does not depend on its
    arguments."""

    def __init__(
        self,
        settings: Settings,
        prompt: Prompt | None = None,
        system: Prompt | None = None,
        read: Callable[[Reply], Any] | None = None,
    ) -> None:
        from lllm.tools.formats import Format

        self.settings = settings
        self.prompt = prompt
        self.price = Pricer(local=capabilities(settings.backend).local)
        own = prompt.tools_with(_not_held(settings)) if prompt is not None else ()
        # a prompt may name a tool that its agent has too: that is one tool, not two
        functions = as_functions(
            [*settings.tools, *(item for item in own if item not in settings.tools), *settings.handoffs],
            check=False,
        )
        functions = self.functions = settings.approval.applied(functions)
        functions, self.further, self.deferred = with_own(functions, settings.limits.max_result_chars)
        tools = {function.name: function for function in functions}
        self.tools = {name: bind_tool(function) for name, function in {**tools, **self.further}.items()}
        self.text_tools = form_for(
            settings.tool_style,
            settings.code_tags,
            {function.name: function.parameters for function in functions},
            capabilities(settings.backend).tools,
        )
        self.adapted: dict[str, list[str]] = {}
        self.specs = tuple(self._spec(function) for function in functions)
        self.format = Format.of(settings.format) if settings.format is not None else None
        if self.format is None and prompt is not None:
            self.format = prompt.reply_format
        if isinstance(self.text_tools, CodeForm) and self.format is not None:
            raise ConfigError(
                f"agent '{settings.name}': tool_style 'code' cannot be used with an output schema: a reply that has to be "
                "JSON holds no code",
                hint="Remove the format, or the tool_style.",
            )
        self.wire_format = None if self.format is None else self.format.wire()
        self.asked_format = None if self.format is None else self.format.asked()
        self.read = read or reader(prompt, self.format)
        self.user_code = bool(
            read is not None
            or (prompt and (callable(prompt.parser) or callable(prompt.exception_prompt)))
            or (prompt and (callable(prompt.interrupt_prompt) or callable(prompt.final_prompt)))
        )
        ours = type(settings.backend).__module__.partition(".")[0] == __name__.partition(".")[0]
        self.foreign = self.user_code or settings.approve is not None or not ours
        self.opening, self.blobs = self._describe(tools, system)
        self._plan = Plan(
            agent=settings.name,
            backend=settings.backend,
            model=settings.model,
            model_name=settings.model_name,
            handle=_Handlers(prompt),
            tools=self.tools,
            tool_specs=self.specs,
            further_specs={name: self._spec(function) for name, function in self.further.items()},
            text_tools=self.text_tools,
            native_tools=capabilities(settings.backend).tools,
            adapted=self.adapted,
            deferred=None if self.deferred is None else self.deferred.blob,
            finder=None if self.deferred is None else FINDER,
            fitting=fitting_of(settings.window, settings.backend, settings.model),
            sampling=settings.sampling,
            format=self.asked_format,
            timeouts=settings.timeouts,
            read=self.read,
            user_code=self.user_code,
            approve=settings.approve,
            price=self.price,
            opening=self.opening,
            limits=settings.limits,
            retry=settings.retry,
            interrupt=prompt is not None and prompt.interrupt_prompt is not None,
            execute=settings.execute,
            blobs=self.blobs,
            foreign=self.foreign,
            literal_tags=() if prompt is None else prompt.literal_tags,
            output=self.format,
        )
        _ = self._plan.spec_record, self._plan.rules  # once for all calls

    def with_overrides(self, names: Sequence[str]) -> Binding:
        """This binding, whose calls say in the log which sampling values and limits were given for them alone: where the
        program is not known, a replay gives them again."""
        if names:
            self.opening = {**self.opening, "overrides": sorted(names)}
            self._plan = self._plan.with_(opening=self.opening)
        return self

    def resampled(self, settings: Settings) -> Binding | None:
        """A copy for settings that differ in sampling and limits alone: all that is made of tools and prompts is shared. None
        where more differs."""
        before = self.settings
        if any(getattr(settings, name) is not getattr(before, name) for name in _SHARED) or (
            settings.limits.max_result_chars != before.limits.max_result_chars
        ):
            return None
        twin: Binding = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.settings = settings
        opening = {name: value for name, value in self.opening.items() if name != "sampling"}
        if settings.sampling:
            opening["sampling"] = jsonable(settings.sampling)
        twin.opening = opening
        twin._plan = self._plan.with_(sampling=settings.sampling, limits=settings.limits, opening=opening)
        if settings.limits is not before.limits:
            twin._plan.__dict__.pop("spec_record", None)
        return twin

    def _spec(self, function: Function) -> Mapping[str, Any]:
        """A tool in the wire form, its schema as the model's provider takes it. Notes what was changed."""
        spec = function.spec()
        dialect = dialect_of(family(self.settings.model_name))
        if dialect is PLAIN:
            return spec
        made = adapted(spec["function"]["parameters"], dialect)
        if not made.changes:
            return spec
        if not function.deferred:
            self.adapted[function.name] = list(made.changes)
        return {**spec, "function": {**spec["function"], "parameters": made.schema}}

    def _describe(
        self, tools: Mapping[str, Function], system: Prompt | None
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        settings, prompt = self.settings, self.prompt
        opening: dict[str, Any] = {"model": settings.model}
        if prompt is not None and prompt.path:
            opening["prompt"] = {"path": prompt.path, "parts": prompt.fingerprint()}
        if system is not None and system.path:
            opening["system"] = {"path": system.path, "parts": system.fingerprint()}
        if settings.sampling:
            opening["sampling"] = jsonable(settings.sampling)
        if settings.window is not None:
            opening["window"] = settings.window.record()
        if self.format is not None:
            opening["format"] = digest_of(self.wire_format)
        blobs: tuple[bytes, ...] = ()
        if self.text_tools is not None:
            opening["text_tools"] = self.text_tools.record
            if settings.code_tags is not None and isinstance(self.text_tools, CodeForm):
                opening["code_tags"] = list(settings.code_tags)
        if tools:
            opening["tools"] = {name: function.schema_hash for name, function in tools.items()}
            if described := {name: function.source for name, function in tools.items() if function.source}:
                opening["described"] = described
            blobs = (encode([function.spec() for function in tools.values()]),)
            opening["specs"] = digest(blobs[0])
            if endpoints := {name: one.endpoint for name, one in tools.items() if one.endpoint is not None}:
                opening["endpoints"] = endpoints
        if self.deferred is not None:
            opening["deferred"] = self.deferred.digest
        return opening, blobs

    def plan(
        self,
        args: Mapping[str, Any],
        *,
        follow: Callable[..., None] | None = None,
        parser_args: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> Plan:
        """The plan of one call. `follow`: receives its deltas. `texts`: arguments that the agent gives itself, of which the log
        has the outcome only."""
        prompt = self.prompt
        opening = self.opening
        if args:
            opening = {**opening, "args": jsonable(args)}
        read = self.read
        if prompt is not None and callable(prompt.parser):
            named = {name: args[name] for name in prompt.parser_args if name in args}
            if parser_args:
                opening = {**opening, "parser_args": jsonable(parser_args)}
            read = reader(prompt, self.format, {**named, **(parser_args or {})})
        if texts:
            args = {**texts, **args}
        if not args and follow is None and read is self.read:
            return self._plan  # all such calls share one: each would be a large object more
        return self._plan.with_(
            args=args, opening=opening, read=read, stream=follow is not None, follow=follow
        )


class _Handlers:
    """The handlers of a prompt, as `Plan.handle`. Not a method of Binding: what refers to itself is freed by the garbage
    collector alone."""

    __slots__ = ("_prompt",)

    def __init__(self, prompt: Prompt | None) -> None:
        self._prompt = prompt

    def __call__(self, context: HandlerContext) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        """The messages of the handler that the context asks for."""
        handler = getattr(self._prompt, f"{context.kind}_prompt", None)
        if callable(handler) and not is_async(handler):
            return _in_thread(handler, context)
        given = _HANDLERS[context.kind](handler, context)
        return _messages(given) if inspect.isawaitable(given) else given


def with_own(
    functions: Sequence[Function], limit: int | None
) -> tuple[tuple[Function, ...], dict[str, Function], Deferred | None]:
    """The tools that are offered from the beginning, those that may be later, and which of those have to be found.

    ConfigError where a tool has the name of one of the runtime's."""
    if not functions:
        return (), {}, None
    functions = decided(functions)
    shown = tuple(one for one in functions if not one.deferred)
    further: dict[str, Function] = {}
    deferred: Deferred | None = None
    names = {one.name for one in functions}
    if len(shown) < len(functions):
        if FINDER in names:
            raise ConfigError(
                f"a tool is named '{FINDER}', and others are deferred: they are found by a tool of this name",
                hint="Rename yours.",
            )
        deferred = Deferred.of(functions)
        further = dict(deferred.tools)
        shown = (*shown, tool_finder(list(further.values())))
    if READER not in names and limit is not None:
        further[READER] = result_reader(limit)
    return shown, further, deferred


def _not_held(settings: Settings) -> Callable[[str], tuple[Function, ...]]:
    """Finds the tools that a prompt names, without endpoints that its agent has already."""
    held = {tool.endpoint for tool in settings.tools if tool.endpoint is not None}
    find = settings.find_tool or ProjectTools()
    return lambda name: () if name in held else tuple(one for one in find(name) if one.endpoint not in held)


_SHARED: Final = tuple(field.name for field in fields(Settings) if field.name not in ("sampling", "limits"))
"""Settings that tools, prompts and formats are bound with."""


class Bindings:
    """The most recently used bindings of one agent, by prompt. Bounded: a program may create a Prompt for every call.
    Safe for use from several threads: each step is one dict operation, and a race costs at most one binding, which is
    built again."""

    MOST: Final = 64

    def __init__(self) -> None:
        # by identity: equal prompts may hold schemas that differ although Python compares them equal (1 and True)
        self._found: dict[int, Binding] = {}  # most recently used last

    def get(self, prompt: Prompt | None) -> Binding | None:
        """Returns the binding of exactly this prompt object, or None."""
        found = self._found.pop(id(prompt), None)
        if found is None or found.prompt is not prompt:
            return None
        self._found[id(prompt)] = found
        return found

    def keep(self, binding: Binding) -> None:
        """Stores a binding, and evicts the least recently used ones above the limit."""
        found = self._found
        found[id(binding.prompt)] = binding
        while len(found) > self.MOST:
            with suppress(RuntimeError, StopIteration):  # another thread changed it concurrently
                found.pop(next(iter(found)), None)

    def __len__(self) -> int:
        return len(self._found)


_HANDLERS: Mapping[str, Callable[..., Any]] = {
    "exception": handlers.exception_message,
    "interrupt": handlers.interrupt_message,
    "final": handlers.final_message,
}


async def _in_thread(handler: Callable[..., Any], context: HandlerContext) -> Sequence[Message]:
    return handlers.messages(await in_thread(handler, context))


async def _messages(given: Awaitable[Any]) -> Sequence[Message]:
    return handlers.messages(await given)


def bind_tool(function: Function) -> BoundTool:
    """A Function as the runtime runs it."""
    rule = ToolRule(
        function.approval,
        function.concurrent,
        function.repeatable,
        function.effect,
        function.agent is not None,
        function.handoff,
        function.stateful,
    )
    asynchronous = function.call is not None and is_async(function.call)

    async def invoke(arguments: dict[str, Any], info: Mapping[str, Any]) -> str | Rich | Offers:
        scope = current.get()
        context = ToolContext(
            session=scope.session.id if scope else None,
            call=scope.call if scope else None,
            tool_call_id=info["id"],
            idempotency_key=info["key"],
            deadline=info["deadline"],
        )
        if asynchronous:
            value = await function.invoke(arguments, context)
            return value if function.handoff else render_value(value)

        def plain() -> Any:
            value = function.invoke(arguments, context)
            return value if inspect.isawaitable(value) else render_value(value)

        thread = info.get("thread")
        value = await (in_thread(plain) if thread is None else in_thread(thread.call, plain))
        return render_value(await value) if inspect.isawaitable(value) else value

    read = getattr(function.call, "read", None) if function.handoff else None
    return BoundTool(
        rule,
        function.validate,
        invoke,
        function.timeout,
        function.agent,
        not asynchronous,
        read,
        _origin(function),
    )


def _origin(function: Function) -> Mapping[str, Any] | None:
    if "untrusted" not in function.data:
        return None
    return {"source": function.endpoint or function.name, "trusted": False}


def reader(
    prompt: Prompt | None, format: Any, parser_args: Mapping[str, Any] | None = None
) -> Callable[[Reply], Any] | None:
    """What turns a reply into the payload: the prompt's own parser (after its tags, where it has some), the schema of
    `format`, or the tags. None when any text will do, and nothing was asked."""
    parser = prompt.parser if prompt is not None else None
    if prompt is not None and callable(parser):
        given = dict(parser_args or {})
        direct = is_async(parser)

        def parsed(reply: Reply) -> Any:
            prompt.parse(reply.content)
            return parser(reply.content, **given) if direct else in_thread(parser, reply.content, **given)

        return parsed
    if format is not None:
        return lambda reply: format.load(reply.content)
    if prompt is not None and prompt.has_parser:
        return lambda reply: prompt.parse(reply.content)
    return None if prompt is None else plain_text


def plain_text(reply: Reply) -> str:
    """The payload of a reply that may be any text."""
    return reply.content


PROJECT_PRICES: Final = "lllm.toml"
"""Source of a price that the project set, logged instead of the price table's version."""


class Pricer:
    """Computes the cost of an agent's replies: see `lllm.plan.Plan`. `local`: tokens cost nothing, unless the user has
    set a price."""

    def __init__(self, *, local: bool) -> None:
        self._local = local
        self._own = _project_prices()

    def __call__(self, answered: str | None, asked: str, usage: Usage | None) -> tuple[str, str] | None:
        """Returns the cost in US dollars and the source of the price; None if model or usage is unknown."""
        if usage is not None:
            for name in (answered, asked) if answered and answered != asked else (asked,):
                if self._own and (found := const.find_price(name, self._own)) is not None:
                    return str(const.amount(found, usage)), PROJECT_PRICES
                found = const.registered_price(name) if self._local else const.price(name)
                if found is not None:
                    return str(const.amount(found, usage)), const.PRICES_VERSION
        return ("0", const.PRICES_VERSION) if self._local else None


def _project_prices() -> Mapping[str, Any]:
    try:
        return project().prices
    except ConfigError:  # do not lose a received reply because a file was edited meanwhile
        return {}
