"""An endpoint: one thing that an API, or a plain Python method, can do. Declared by `BaseProxy.endpoint`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, listing
from lllm.models.function import EFFECTS, Effect, Function, data_of, tool_from
from lllm.proxies.paginate import Paginate, parse_paginate
from lllm.proxies.parameters import Parameter, Place, arguments_schema, laid_over, read
from lllm.proxies.shared_schemas import with_shared

METHODS: Final[Mapping[str, Effect]] = {
    "GET": "pure",
    "HEAD": "pure",
    "OPTIONS": "pure",
    "TRACE": "pure",
    "PUT": "idempotent",
    "DELETE": "idempotent",
    "POST": "ask",
    "PATCH": "ask",
}
"""HTTP methods, and the effect policy of an endpoint that declares none (RFC 9110, section 9.2)."""
BODILESS: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "DELETE")
_IN_PATH: Final = re.compile(r"\{([^{}]+)\}")


class Declared(NamedTuple):
    """A method that `BaseProxy.endpoint` marked, with its options."""

    function: Callable[..., Any]
    options: Mapping[str, Any]


class Cutoff(NamedTuple):
    """The place of dates in the entries of an answer: keys from the outermost, and the format (`strptime`; "" is ISO
    8601, or seconds since 1970)."""

    path: tuple[str, ...]
    format: str = ""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint.

    Attributes:
        proxy: path of its proxy. key: the method's name. title, description: for people and models.
        category, sub_category: where catalogues list it. path: the part of the URL behind the proxy's `base_url`, or a
            whole URL. method: of HTTP; "" for a plain Python method.
        parameters: what it takes. response: an example of its answer, or None. response_schema: JSON schema of it, or None.
        effect, timeout, approval: as for a tool; a timeout of None is the proxy's.
        remove_keys: keys (nested: `a.b`) that are taken out of every answer. cutoff: see Cutoff.
        hooks: functions, or names of methods, that get the answer and give what takes its place.
        content: media type of the body. accept: of the answer.
        errors: keys (nested: `a.b`) that hold an error in an answer with status 2xx. strict: whether an answer that does not
            fit `response_schema` is an error. cache: seconds that an answer may be kept, or None.
        paginate: how the pages of an answer are found, or None.
        local: whether the method does it itself; else it prepares the request, or does nothing.
        data: what it does with data, as for a tool. By default the answers of an API are `untrusted`, and a request that may
            change something is `outward`; a plain Python method is neither.
        source: where the texts about it come from; "" for the author of the proxy. See `trusted`.
        shared: the schemas that parameters and answers refer to, by name.
        function: the method. tool: the method as a tool, where it has a typed signature.
    """

    proxy: str
    key: str
    title: str
    description: str
    category: str = ""
    sub_category: str = ""
    path: str = ""
    method: str = ""
    parameters: tuple[Parameter, ...] = ()
    response: Any = None
    response_schema: Mapping[str, Any] | None = None
    effect: Effect = "ask"
    timeout: float | None = None
    approval: bool = False
    remove_keys: tuple[str, ...] = ()
    cutoff: tuple[Cutoff, ...] = ()
    hooks: tuple[Callable[..., Any] | str, ...] = ()
    content: str = "application/json"
    accept: str = "application/json"
    errors: tuple[str, ...] = ()
    strict: bool = False
    cache: float | None = None
    paginate: Paginate | None = None
    local: bool = False
    source: str = ""
    data: frozenset[str] = frozenset()
    shared: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    function: Callable[..., Any] = field(default=lambda: None, repr=False, compare=False)
    tool: Function | None = field(default=None, repr=False, compare=False)

    @cached_property
    def address(self) -> str:
        """Its address: `weather.forecast`."""
        return f"{self.proxy}.{self.key}"

    @property
    def trusted(self) -> bool:
        """True if its description was written by the author of the proxy, rather than taken from a document."""
        return not self.source

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The arguments that are sent where a call does not give them."""
        return {one.name: one.schema["default"] for one in self.parameters if one.sent_default}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of its arguments."""
        return with_shared(arguments_schema(self.parameters, sent=not self.local), self.shared)

    @cached_property
    def checker(self) -> Function:
        """A tool with its schema alone: validates arguments. ConfigError where the schema is not one."""
        made = Function(self.key[:64] if len(self.key) <= 64 else "endpoint", parameters=self.schema)
        made.plan  # noqa: B018
        return made

    @cached_property
    def declarative(self) -> bool:
        """True if its method does nothing: it need not be called."""
        code = getattr(self.function, "__code__", None)
        return code is not None and (code.co_code, code.co_flags & 0x2A0) in _EMPTY

    def misfits(self, value: Any) -> list[str]:
        """Returns the problems of an answer that does not fit `response_schema`, one sentence each."""
        return [] if self._answers is None else self._answers.validate({"answer": value})

    @cached_property
    def _answers(self) -> Function | None:
        schema = dict(self.response_schema or {})
        whole: dict[str, Any] = {"type": "object", "properties": {"answer": schema}}
        whole |= {key: schema.pop(key) for key in ("$defs", "definitions", "components") if key in schema}
        made = Function("response", parameters=with_shared(whole, self.shared))
        try:
            made.plan  # noqa: B018
        except ConfigError:  # not a schema: it says nothing about answers
            return None
        return made

    def example(self) -> dict[str, Any]:
        """Arguments to try it with: the required ones, and those that have an example."""
        found = {one.name: one.example for one in self.parameters}
        wanted = {one.name for one in self.parameters if one.required}
        return {name: value for name, value in found.items() if value is not None or name in wanted}


def compile_endpoint(
    declared: Declared,
    key: str,
    proxy: str,
    http: bool,
    shared: Mapping[str, Any] | None = None,
    source: str = "",
    data: Any = None,
) -> Endpoint:
    """Reads a declaration. `http`: whether the proxy has a `base_url`. `shared`, `source`: as in Endpoint; `data`: the
    proxy's, for endpoints that declare none.

    Raises:
        ConfigError: an option or parameter that cannot be read, or path parameters that do not fit the path.
    """
    function, options = declared
    where = f"endpoint '{proxy}.{key}'"
    path = str(options.get("endpoint") or "")
    method = str(options.get("method") or "").upper()
    local = options.get("local")
    if local is None:
        local = not (http or "://" in path)
    if not local:
        method = method or "GET"
    if method and method not in METHODS:
        raise ConfigError(f"{where}: unknown method {method!r}", hint=f"Known: {listing(METHODS)}.")
    usual: Place = "query" if method in BODILESS or local else "body"
    takes_all = takes_mapping(function)
    typed: Function | None = None
    if takes_all or _takes_nothing(function):
        parameters = read(options.get("params"), where, usual)
    else:
        typed = tool_from(function, name=_tool_name(key), description=options.get("description") or None)
        parameters = laid_over(_of_signature(typed, usual), options.get("params"), where)
    in_path = _IN_PATH.findall(path)
    declared_there = {one.wire for one in parameters if one.place == "path"}
    parameters = [
        _placed(one, [name for name in in_path if name not in declared_there]) for one in parameters
    ]
    if not local:
        _check_path(where, in_path, parameters)
    _check_names(where, parameters)
    effect = options.get("effect") or METHODS.get(method, "ask")
    if effect not in EFFECTS:
        raise ConfigError(f"{where}: unknown effect {effect!r}", hint=f"Known: {listing(EFFECTS)}.")
    description = (
        options.get("description") or (typed.description if typed else inspect.getdoc(function)) or ""
    )
    response, schema = _answer(options.get("response"))
    return Endpoint(
        proxy=proxy,
        key=key,
        title=options.get("name") or key.replace("_", " "),
        description=description,
        category=options.get("category") or "",
        sub_category=options.get("sub_category") or "",
        path=path,
        method=method,
        parameters=tuple(parameters),
        response=response,
        response_schema=schema,
        effect=effect,
        timeout=_seconds(where, options.get("timeout")),
        approval=bool(options.get("approval", False)),
        remove_keys=_names(options.get("remove_keys"), where, "remove_keys"),
        cutoff=_cutoffs(options.get("dt_cutoff"), where),
        hooks=tuple(_hooks(options.get("postcall"), where)),
        content=options.get("content") or "application/json",
        accept=options.get("accept") or "application/json",
        errors=_names(options.get("errors"), where, "errors"),
        strict=bool(options.get("strict", False)),
        cache=_kept(where, options.get("cache"), effect, bool(local)),
        paginate=parse_paginate(options.get("paginate"), where, effect),
        local=bool(local),
        source=source,
        data=_data(where, options.get("data", data), effect, bool(local)),
        shared=shared or {},
        options={name: value for name, value in options.items() if name in FURTHER},
        function=function,
        tool=typed,
    )


def _data(where: str, declared: Any, effect: str, local: bool) -> frozenset[str]:
    if declared is not None:
        return data_of(declared, where)
    if local:
        return frozenset()
    return frozenset(("untrusted",) if effect == "pure" else ("untrusted", "outward"))


FURTHER: Final = (
    "auth",
    "base_url",
    "headers",
    "idempotency_header",
    "concurrent",
    "operation",
    "empty_body",
)
"""Options that are passed on to what sends requests."""

OPTIONS: Final = (
    *(
        "category",
        "sub_category",
        "endpoint",
        "name",
        "description",
        "params",
        "response",
        "method",
        "remove_keys",
    ),
    *("dt_cutoff", "data", "effect", "timeout", "approval", "content", "accept", "postcall", "local"),
    *("errors", "strict", "cache", "paginate"),
    *FURTHER,
)


def takes_mapping(function: Callable[..., Any]) -> bool:
    """True if a method takes all arguments as one mapping: `def search(self, params)`."""
    names = _parameters(function)
    return (
        len(names) == 1 and names[0].name == "params" and names[0].kind is not inspect.Parameter.VAR_KEYWORD
    )


def _takes_nothing(function: Callable[..., Any]) -> bool:
    return not _parameters(function)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if found and found[0].name == "self" else found


def _tool_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)[:64]


def _of_signature(typed: Function, usual: Place) -> list[Parameter]:
    schema = typed.parameters
    required = schema.get("required", ())
    shared = schema.get("$defs")
    found = []
    for name, one in schema.get("properties", {}).items():
        own = {**one, "$defs": shared} if shared else dict(one)
        wire = name.removesuffix("_") if name.endswith("_") else name
        sent = own.get("default") is not None
        found.append(Parameter(name, wire, own, name in required, usual, sent_default=sent))
    return found


def _placed(one: Parameter, in_path: Sequence[str]) -> Parameter:
    """A parameter whose name stands in the path belongs there."""
    if (
        one.place != "path"
        and (one.wire in in_path or one.name in in_path)
        and one.place in ("query", "body")
    ):
        wire = one.wire if one.wire in in_path else one.name
        return replace(one, place="path", wire=wire, required=True)
    return one


def _check_path(where: str, in_path: Sequence[str], parameters: Sequence[Parameter]) -> None:
    declared = [one.wire for one in parameters if one.place == "path"]
    for name in in_path:
        if name not in declared:
            raise ConfigError(
                f"{where}: its path has {{{name}}}, and no such parameter is declared",
                hint=f'Add "${name}*": (str, EXAMPLE) to params, or the argument {name}: str.',
            )
    for name in declared:
        if name not in in_path:
            raise ConfigError(
                f"{where}: the path parameter '{name}' does not stand in its path",
                hint=f"Write {{{name}}} into endpoint=.",
            )


def _check_names(where: str, parameters: Sequence[Parameter]) -> None:
    seen: set[str] = set()
    for one in parameters:
        if one.name in seen:
            raise ConfigError(
                f"{where}: two parameters are named '{one.name}'",
                hint='Name one differently: {"other": {"name": "WIRE-NAME", ...}}.',
            )
        seen.add(one.name)


def _answer(declared: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Example and schema of an answer, as `response=` declares them: either, or a schema with `examples`."""
    if not _is_schema(declared):
        return declared, None
    examples = declared.get("examples")
    if not isinstance(examples, list) or not examples:
        return None, declared
    return examples[0], {key: value for key, value in declared.items() if key != "examples"}


def _is_schema(value: Any) -> bool:
    """True if a response is declared by a schema; anything else is an example."""
    return isinstance(value, Mapping) and (
        "$ref" in value
        or (isinstance(value.get("type"), str) and value["type"] in _JSON)
        or any(isinstance(value.get(key), list) and value[key] for key in ("anyOf", "oneOf", "allOf"))
    )


_JSON: Final = ("object", "array", "string", "integer", "number", "boolean", "null")


def _seconds(where: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
        raise ConfigError(f"{where}: timeout must be seconds above 0, or None, got {value!r}")
    return value


def _kept(where: str, value: Any, effect: str, local: bool) -> float | None:
    """Seconds that an answer may be kept."""
    if value is None or value is False:
        return None
    seconds = 3600.0 if value is True else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"{where}: cache must be seconds above 0, or True, got {value!r}")
    if effect != "pure" or local:
        raise ConfigError(
            f"{where}: only requests with effect 'pure' can be cached, and this "
            + ("is a method of its own" if local else f"is {effect!r}")
        )
    return float(seconds)


def _names(value: Any, where: str, what: str) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value or ())
    if not all(isinstance(one, str) and one for one in found):
        raise ConfigError(f"{where}: {what} must be a list of names, got {value!r}")
    return found


def _cutoffs(value: Any, where: str) -> tuple[Cutoff, ...]:
    """`"date"`, `("results.date", "%Y-%m-%d")`, or a list of such."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (Cutoff(tuple(value.split("."))),)
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(one, str) for one in value):
        return (Cutoff(tuple(value[0].split(".")), value[1]),)
    if isinstance(value, list):
        return tuple(found for one in value for found in _cutoffs(one, where))
    raise ConfigError(f"{where}: dt_cutoff must be a key, or (key, format), or a list of such, got {value!r}")


def _hooks(value: Any, where: str) -> list[Callable[..., Any] | str]:
    found = [] if value is None else [value] if callable(value) or isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(callable(one) or isinstance(one, str) for one in found):
        raise ConfigError(
            f"{where}: postcall must be a function or the name of a method, or a list of them, got {value!r}"
        )
    return list(found)


def _nothing() -> None: ...
def _documented() -> None:
    """Says what it does."""


_EMPTY: Final = tuple(
    (one.__code__.co_code, one.__code__.co_flags & 0x2A0) for one in (_nothing, _documented)
)
"""The code of functions without one, and that they are no generators and not async."""
