"""Function and MCP: the tools that a model may call. `tool` makes a Function of a Python function."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from types import MethodType
from typing import Any, ClassVar, Final, Literal, overload

from lllm.errors import ConfigError, ToolError, UnknownKeyError, listing
from lllm.plug_ins import guarded

Effect = Literal["pure", "idempotent", "ask", "never"]
EFFECTS: Final = ("pure", "idempotent", "ask", "never")
DATA: Final[Mapping[str, str]] = {
    "private": "reads data that not everybody may see",
    "untrusted": "brings in text that others wrote",
    "outward": "sends something out of the system",
}
"""What a tool may do with data. `lllm check` warns where agents can do all three without somebody's approval."""
MOST: Final = 64
"""Tools that a model is offered without anybody naming them: it chooses badly among more."""
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS: Final[Mapping[str, tuple[Any, str]]] = {
    "description": (str, "a text"),
    "source": (str, "a text"),
    **dict.fromkeys(
        ("approval", "concurrent", "repeatable", "stateful", "strict", "handoff"), (bool, "True or False")
    ),
    "deferred": ((bool, type(None)), "True, False or None"),
    **dict.fromkeys(("agent", "endpoint"), ((str, type(None)), "a name or None")),
}
"""Fields of a Function with their types."""
_REFUSED: Final = frozenset("$ref $dynamicRef $recursiveRef allOf anyOf oneOf not enum const".split())
"""Keywords that providers refuse next to the outermost type of a schema."""
_PARAMETERS: Final = ("parameters", "input_schema", "inputSchema")
_SCHEMA_KEYS: Final = (
    *("type", "name", "description", *_PARAMETERS, "strict"),
    # keys that other programs add: MCP servers, caches of a provider
    *("title", "annotations", "outputSchema", "icons", "_meta", "cache_control"),
)
_OUTER_KEYS: Final = ("type", "function", "cache_control", "_meta")
_MACHINERY: Final = "lllm.tools.functions"
"""Signatures and schemas are read with pydantic and jsonschema_rs, which this floor does not know: what needs them is
looked up by name when it is first used, as a plug-in is."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Information for a tool about the call that runs it. A parameter annotated with this class, or one named `context`
    without an annotation, receives it; the model does not see the parameter.

    Attributes:
        session, call: ids of the session and agent call in the log.
        tool_call_id: the model's id of this tool call.
        idempotency_key: the same when the tool runs again after a crash, or for an equal call of an `idempotent` tool; pass
            it to external services.
        deadline: seconds left for the agent call when the tool started, at least 0; None for no limit. If the call was made
            within another one, or within a tool with a time limit, the shortest counts. The tool's own `timeout` does not.
        effect: the number of the effect that the function is, if it is one.
    """

    session: str | None = None
    call: str | None = None
    tool_call_id: str | None = None
    idempotency_key: str | None = None
    deadline: float | None = None
    effect: int | None = None


@dataclass(frozen=True)
class Function:
    """A tool. A value: equal when its fields are equal. Calling it calls the Python function it was made from.

    Attributes:
        name: 1 to 64 letters, digits, `_` and `-`.
        description: what the model reads about it.
        parameters: JSON schema of the arguments, an object. Must not be changed.
        call: the callable, plain or async; None for a tool that is declared only.
        effect: what to do if a crash or a time limit leaves open whether the tool ran. `pure`: run it again.
        `idempotent`:
            run it again with the same idempotency key. `ask`: ask a person. `never`: do not run it again. Any effect but
            `pure` may change the results of other tools.
        timeout: seconds, or None for no limit. A tool that does not return in time has an unknown outcome, unless it is
            `pure`.
        approval: whether a person must approve each run.
        concurrent: whether it may run in parallel with other tools of the same reply.
        repeatable: whether a call with equal arguments always runs it again; see `lllm.core.guard`.
        stateful: whether what it returns depends on what it did before in the session. The live part of a fork runs it again
            even where its arguments are recorded; its effects (`Session.effect`) are answered from the record.
        agent: the name of the agent that answers, if the tool is an agent.
        handoff: whether that agent takes over: its answer ends the agent call. See `lllm.llm.handoff`.
        endpoint: the address of the endpoint that it calls (`weather.daily`), if it is one of a proxy.
        strict: whether the provider is asked to enforce the schema. Every parameter is then required.
        data: what it does with data, of DATA. source: where its description comes from, if not from its author; such a text
            is not trusted.
        deferred: whether the model is offered it only once `find_tools` has found it: for tools by the hundred. None: where
            an agent has more than 64 such tools.
        typed: whether arguments are converted to the Python types of `call`'s signature; set when the signature is read.
        method: whether `call` takes the instance that the Function is looked up on; set by `tool` within a class.
    """

    __lllm_kind__: ClassVar[str] = "tool"

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    call: Callable[..., Any] | None = None
    effect: Effect = "ask"
    timeout: float | None = 60.0
    approval: bool = False
    concurrent: bool = True
    repeatable: bool = False
    stateful: bool = False
    agent: str | None = None
    endpoint: str | None = None
    strict: bool = False
    deferred: bool | None = False
    handoff: bool = False
    data: frozenset[str] = frozenset()
    source: str = ""
    typed: bool = field(default=False, repr=False, compare=False)
    method: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is not a tool name",
                hint="A tool's name has 1 to 64 letters, digits, '_' and '-'. Give one: tool(name='...').",
            )
        if self.effect not in EFFECTS:
            raise ConfigError(
                f"tool '{self.name}': unknown effect {self.effect!r}", hint=f"Known: {listing(EFFECTS)}."
            )
        for key, (kinds, meaning) in _KINDS.items():
            if not isinstance(getattr(self, key), kinds):
                raise ConfigError(f"tool '{self.name}': {key} must be {meaning}, got {getattr(self, key)!r}")
        object.__setattr__(self, "data", data_of(self.data, f"tool '{self.name}'"))
        seconds = self.timeout
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0
        ):
            raise ConfigError(
                f"tool '{self.name}': timeout is {self.timeout!r}; it is seconds above 0, or None"
            )
        if self.call is not None and not callable(self.call):
            raise ConfigError(f"tool '{self.name}': call must be a function, got {self.call!r}")
        if not isinstance(self.parameters, Mapping) or self.parameters.get("type", "object") != "object":
            raise ConfigError(f"tool '{self.name}': parameters is not the JSON schema of an object")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the Python function as if it had never been a tool."""
        if self.call is None:
            raise ToolError(f"tool '{self.name}' is only declared: there is nothing to call")
        return self.call(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Function:
        """A tool defined in a class is bound to the instance that it is looked up on, as any method is."""
        if instance is None or not self.method or self.call is None:
            return self
        bound = replace(self, call=self.call.__get__(instance, owner), method=False)
        bound.__dict__["plan"] = self.plan  # the compiled signature is the same for every instance
        return bound

    def __hash__(self) -> int:
        return hash((self.name, self.schema_hash))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name where the name leads back here (a decorated function hides behind its tool), else by value;
        what was compiled stays behind."""
        module = getattr(self.call, "__module__", None) or ""
        qualname = getattr(self.call, "__qualname__", "")
        try:
            if attrgetter(qualname)(sys.modules[module]) is self:
                return _named, (module, qualname)
        except (KeyError, AttributeError):
            pass
        return _rebuilt, ({item.name: getattr(self, item.name) for item in fields(self)},)

    def spec(self) -> dict[str, Any]:
        """The tool in the chat-completions form. The same object each time: not to be changed."""
        return self._spec

    @cached_property
    def _spec(self) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"], strict = self._sent
        if strict:
            function["strict"] = True
        return {"type": "function", "function": function}

    @cached_property
    def _sent(self) -> tuple[Mapping[str, Any], bool]:
        plain = "type" in self.parameters and not self.parameters.keys() & _REFUSED
        if self.typed or (plain and not self.strict):
            return self.parameters, self.strict
        sent: tuple[Mapping[str, Any], bool] = import_module(_MACHINERY).sent_parameters(self)
        return sent

    @cached_property
    def schema_hash(self) -> str:
        """`sha256:...` of what the model is told about the tool."""
        from lllm.core.canonical import digest_of

        return digest_of(self._spec)

    @cached_property
    def plan(self) -> Any:
        """The compiled signature: a `lllm.tools.functions.Plan`. ConfigError when the schema is not one."""
        return import_module(_MACHINERY).plan_of(self)

    def validate(self, arguments: Mapping[str, Any]) -> list[str]:
        """Every problem of a model's arguments, one sentence each; empty when they fit."""
        problems: list[str] = self.plan.validate(arguments)
        return problems

    def coerce(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A model's arguments as the Python objects that the signature names. ToolError with all problems."""
        typed: dict[str, Any] = self.plan.coerce(arguments)
        return typed

    def invoke(self, arguments: Mapping[str, Any], context: ToolContext | None = None) -> Any:
        """Runs the tool on a model's arguments; an async one gives an awaitable. ToolError when they do not fit."""
        if self.call is None:
            raise ToolError(f"tool '{self.name}' is only declared: there is nothing to call")
        args, kwargs = self.plan.bind(arguments, context)
        return self.call(*args, **kwargs)

    def with_(self, **changes: Any) -> Function:
        """A copy with some fields changed."""
        return replace(self, **changes)


def data_of(value: Any, where: str) -> frozenset[str]:
    """The names of DATA that a tool or an endpoint declares: one, or several. ConfigError for others."""
    if value.__class__ is frozenset and value <= DATA.keys():
        return value
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Collection) or not all(isinstance(one, str) and one in DATA for one in given):
        raise ConfigError(f"{where}: data must be of {', '.join(DATA)}, got {value!r}")
    return frozenset(given)


def _named(module: str, qualname: str) -> Any:
    return attrgetter(qualname)(import_module(module))


def _rebuilt(values: dict[str, Any]) -> Function:
    return Function(**values)


@overload
def tool(function: Callable[..., Any], /) -> Function: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "ask",
    timeout: float | None = 60.0,
    approval: bool = False,
    concurrent: bool = True,
    repeatable: bool = False,
    stateful: bool = False,
    strict: bool = False,
    deferred: bool | None = False,
    data: Collection[str] = (),
) -> Callable[[Callable[..., Any]], Function]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a Python function a tool: `@tool`, or `@tool(effect="pure", timeout=5)`.

    Name, description and schema come from the function's name, docstring and signature; the result is a Function and
    can still be called as before. See `lllm.tools.functions.function_from` for what a signature may hold.
    """
    if function is None:
        return lambda function: tool_from(function, **options)
    return tool_from(function, **options)


def tool_from(function: Callable[..., Any], **options: Any) -> Function:
    """`lllm.tools.functions.function_from`, loaded when it is needed."""
    with guarded(f"the tool {getattr(function, '__name__', type(function).__name__)}"):
        made: Function = import_module(_MACHINERY).function_from(function, **options)
        return made


def as_function(value: Any, *, check: bool = True) -> Function:
    """Makes a Function from a Function, a callable, or a schema (a tool that is declared only).

    A schema may be in the form of chat completions `{"type": "function", "function": {...}}`, of the responses API
    `{"type": "function", "name": ...}`, or `{"name", "description", "parameters" | "input_schema" | "inputSchema"}`.

    Raises:
        ConfigError: none of these, or its parameters are not a JSON schema. Without `check` the latter is reported only
            when the tool is first called: for recorded tools.
        UnknownKeyError: an unknown key.
    """
    if isinstance(value, Function):
        if check:
            value.plan  # noqa: B018 - compiled here: a wrong schema is an error when the agent is made
        return value
    if isinstance(value, Mapping):
        inner = value.get("function", value)
        if not isinstance(inner, Mapping) or "name" not in inner:
            raise ConfigError(
                f"a tool's schema has no name: {str(dict(value))[:200]}",
                hint='Write {"type": "function", "function": {"name": ..., "parameters": {...}}}.',
            )
        outer = () if inner is value else value
        for key, known in (*((key, _OUTER_KEYS) for key in outer), *((key, _SCHEMA_KEYS) for key in inner)):
            if key not in known:
                raise UnknownKeyError(str(key), known, where=f"the schema of the tool '{inner['name']}'")
        given = [inner[key] for key in _PARAMETERS if inner.get(key) is not None]
        if len(given) > 1:
            raise ConfigError(
                f"the tool '{inner['name']}' has two schemas for its arguments", hint="Keep one."
            )
        parameters = given[0] if given and given[0] != {} else {"type": "object", "properties": {}}
        description, strict = inner.get("description"), inner.get("strict")
        return as_function(
            Function(
                name=inner["name"],
                description="" if description is None else description,
                parameters=parameters,
                strict=False if strict is None else strict,
            ),
            check=check,
        )
    if callable(value):
        return tool_from(value)
    raise ConfigError(
        f"{value!r} is not a tool",
        hint="A tool is a Python function, a Function, or a function schema (dict).",
    )


def tools_in(value: Any) -> list[Any] | None:
    """The tools that a value stands for, where it stands for several: a list of tools, or what has `as_tools()`: a Proxy, a
    BaseProxy, a method that is an endpoint. None for anything else."""
    if isinstance(value, list | tuple):
        each = ((item, tools_in(item)) for item in value)
        return [tool for item, found in each for tool in ([item] if found is None else found)]
    source = None if isinstance(value, Mapping | Function | str) else getattr(value, "as_tools", None)
    if not callable(source):
        return None
    return list(source(value.__self__) if isinstance(value, MethodType) else source())


def without_repeats(functions: Iterable[Function]) -> tuple[Function, ...]:
    """The functions without an endpoint of one proxy that stands there twice."""
    found: list[Function] = []
    known: set[tuple[str, int]] = set()
    for function in functions:
        if function.endpoint is not None:
            if (key := (function.endpoint, id(function.call))) in known:
                continue
            known.add(key)
        found.append(function)
    return tuple(found)


def as_functions(values: Sequence[Any], *, check: bool = True) -> tuple[Function, ...]:
    """Makes Functions from several values; see `as_function` and `tools_in`. Raises ConfigError if two have one name."""
    functions = without_repeats(as_function(value, check=check) for value in tools_in(list(values)) or ())
    seen: set[str] = set()
    for function in functions:
        if function.name in seen:
            from lllm.errors import NameTakenError

            raise NameTakenError(
                f"two tools are named '{function.name}'", hint="Rename one: tool(name='...')."
            )
        seen.add(function.name)
    return functions


@dataclass(frozen=True, slots=True)
class MCP:
    """A server of the Model Context Protocol whose tools a prompt offers: a command that is started, or a URL.

    Attributes:
        name: the prefix of its tools' names.
        command: the program to start (stdio).
        url: the endpoint (streamable HTTP).
        args: the program's arguments.
        env: names of environment variables that the program may see. Names only: values never stand in a prompt.
        tools: the tools that may be used; None for all.
    """

    name: str
    command: str | None = None
    url: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is not an MCP server's name",
                hint="Letters, digits, '_' and '-', 1 to 64 of them.",
            )
        if (self.command is None) == (self.url is None):
            raise ConfigError(f"MCP server '{self.name}': give either a command or a url")
        if not isinstance(self.command, str | None):
            raise ConfigError(
                f"MCP server '{self.name}': command must be the name of a program, got {self.command!r}"
            )
        if self.url is not None and not str(self.url).startswith(("http://", "https://")):
            raise ConfigError(f"MCP server '{self.name}': {self.url!r} is not a http(s) URL")
        for key in ("args", "env", "tools"):
            value = getattr(self, key)
            if value is None and key == "tools":
                continue
            if not isinstance(value, list | tuple | set | frozenset) or not all(
                isinstance(item, str) for item in value
            ):
                raise ConfigError(
                    f"MCP server '{self.name}': {key} must be a list of names, got {type(value).__name__}"
                )
            object.__setattr__(self, key, tuple(value))

    def record(self) -> dict[str, Any]:
        """The declaration as JSON; what is not set is left out."""
        pairs = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in pairs.items()
            if value not in (None, ()) or (name == "tools" and value == ())
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], *, where: str | None = None) -> MCP:
        """Reads a declaration. UnknownKeyError for a key that is none of the fields."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"an MCP server must be a mapping, got {value!r}")
        for key in value:
            if key not in cls.__slots__:
                raise UnknownKeyError(str(key), cls.__slots__, where=where)
        if "name" not in value:
            raise ConfigError("an MCP server has no name", hint="Write {'name': ..., ...}.")
        return cls(**value)
