"""Python functions as tools: a signature becomes a JSON schema, a model's arguments become Python objects.

What a signature may hold: everything pydantic knows (scalars, unions, Optional, generics, Literal, enums, dataclasses,
TypedDict, NamedTuple, pydantic models, dates, Annotated with Field or a plain text as description), defaults, and
annotations written as text. The rules besides:

- a parameter without an annotation takes any JSON value;
- a default of None makes its parameter nullable;
- a parameter annotated ToolContext, or named `context` without an annotation, is given by the runtime;
- what `functools.partial` binds by name is hidden from the model;
- `*args` and `**kwargs` have no schema: ConfigError.

Arguments are checked against the schema, strictly, before they become objects: 3 passes for a float, and 3.0 for an
int (JSON has one kind of number); true is no int, and "3" is neither.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from types import FrameType
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, ToolError
from lllm.models.function import Effect, Function, ToolContext, data_of
from lllm.tools import docstring
from lllm.tools.references import Unportable, portable
from lllm.tools.schema import compile_schema, problems, tidy
from lllm.tools.strict import strict
from lllm.tools.types import Shape, modern

_SIMPLE: Final = (str, int, float, bool)


def function_from(
    function: Callable[..., Any],
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
    agent: str | None = None,
) -> Function:
    """A tool from a function, method, partial, class or callable object, plain or async.

    Raises:
        ConfigError: the signature cannot be a schema; says which parameter and why.
    """
    if isinstance(function, Function) and function.call is not None:
        function = function.call
    name = name or _name(function)
    reading = _read(function, name)
    doc = docstring.read(_documented(function))
    parameters = _parameters(reading, doc.parameters, name, strict)
    made = Function(
        name=name,
        description=doc.description if description is None else inspect.cleandoc(description).strip(),
        parameters=parameters,
        call=function,
        effect=effect,
        timeout=timeout,
        approval=approval,
        concurrent=concurrent,
        repeatable=repeatable,
        stateful=stateful,
        agent=agent,
        strict=strict,
        deferred=deferred,
        data=data_of(data, f"tool '{name}'"),
        typed=True,
        method=_is_method(function),
    )
    made.__dict__["plan"] = Plan(name, parameters, reading)
    return made


def sent_parameters(function: Function) -> tuple[Mapping[str, Any], bool]:
    """The parameters as sent to a provider, and whether they are in strict form. They are an explicit object: a reference
    that stands for the whole schema is replaced by its target. The same arguments are valid; in strict form every
    parameter is required. A tool that asks for strict mode but has no strict form is sent without."""
    try:
        function.plan  # noqa: B018
        made, wrapped = portable(function.parameters, "arguments")
    except ConfigError:
        return function.parameters, function.strict  # of an unchecked tool
    except Unportable:
        return {"type": "object"}, False  # validated only
    if function.strict and not wrapped and (closed := strict(made, fill=True)) is not None:
        return closed, True
    if not wrapped:
        return made, False
    body = made["properties"]["arguments"]
    rest = {key: value for key, value in made.items() if key in ("$schema", "$defs", "definitions")}
    if set(body) == {"$ref"}:  # it refers to itself
        holder, name = body["$ref"].split("/")[1:]
        body = rest[holder][name]
    return {"type": "object", **body, **rest}, False


def validate_arguments(function: Function, arguments: Mapping[str, Any]) -> list[str]:
    """Every problem of a model's arguments, one sentence each with its JSON path; empty when they fit."""
    return function.validate(arguments)


def coerce(function: Function, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments as the Python objects that the signature names. ToolError with all problems."""
    return function.coerce(arguments)


def plan_of(function: Function) -> Plan:
    """Compiles a Function's schema and signature. ConfigError when the schema is not one."""
    if function.call is None:
        return Plan(function.name, function.parameters, None)
    if function.typed:
        return Plan(function.name, function.parameters, _read(function.call, function.name))
    return Plan(function.name, function.parameters, _calling(function.call))


class Plan:
    """A tool's compiled schema and signature. Holds nothing of the callable, so instances of a class share it."""

    __slots__ = ("_floats", "_known", "_required", "_simple", "_validator", "name", "reading")

    def __init__(self, name: str, parameters: Mapping[str, Any], reading: Reading | None) -> None:
        self.name = name
        self.reading = reading or Reading()
        self._validator = compile_schema(parameters, f"tool '{name}'")
        self._known = tuple(parameters.get("properties", ()))
        self._required = frozenset(parameters.get("required", ()))
        self._simple = self.reading.simple
        if self._simple is None and self.reading.shape is None:
            self._simple = _simple_types(parameters)
        self._floats = tuple(key for key, kind in (self._simple or {}).items() if kind is float)

    def validate(self, arguments: Mapping[str, Any]) -> list[str]:
        """See `Function.validate`."""
        if self._fits(arguments):
            return []
        found = problems(self._validator, arguments, self._known)
        if not found and self.reading.shape is not None:
            found = self.reading.shape.read(arguments)[1]
        return found

    def coerce(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See `Function.coerce`."""
        if self._fits(arguments):
            typed = dict(arguments)
            for key in self._floats:
                if key in typed:
                    typed[key] = float(typed[key])
            return typed
        found = problems(self._validator, arguments, self._known)
        value: Any = arguments
        if not found and self.reading.shape is not None:
            value, found = self.reading.shape.read(arguments)
        if found:
            raise ToolError(f"the arguments of '{self.name}' do not fit: {'; '.join(found)}")
        return dict(value)

    def bind(
        self, arguments: Mapping[str, Any], context: ToolContext | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of the call. ToolError when the arguments do not fit."""
        kwargs = self.coerce(arguments)
        reading = self.reading
        for key in reading.injected:
            kwargs[key] = context or ToolContext()
        args: list[Any] = []
        if reading.positional:
            given = [index for index, (key, _) in enumerate(reading.positional) if key in kwargs]
            # a positional-only parameter cannot be skipped: those before the last given one take their defaults
            for key, default in reading.positional[: given[-1] + 1 if given else 0]:
                args.append(kwargs.pop(key) if key in kwargs else default)
        return args, kwargs

    def _fits(self, arguments: Mapping[str, Any]) -> bool:
        """Whether arguments of plain types fit; False may also mean that it takes a closer look."""
        simple = self._simple
        if simple is None:
            return False
        for key, value in arguments.items():
            wanted = simple.get(key)
            kind = type(value)
            if kind is not wanted and not (wanted is float and kind is int):
                return False
        return self._required <= arguments.keys()


_SCALARS: Final[Mapping[str, type]] = {"string": str, "integer": int, "boolean": bool}
_SAYS_NOTHING: Final = frozenset(("type", "title", "description", "default", "examples"))


def _simple_types(schema: Mapping[str, Any]) -> dict[str, type] | None:
    """Type by name, where a schema says no more of each argument; None where it does. Numbers are not among them: NaN fits no
    schema."""
    each: Mapping[str, Any] = schema.get("properties", {})
    if not schema.keys() <= {"type", "properties", "required", "additionalProperties"}:
        return None
    if not all(isinstance(one, Mapping) and one.keys() <= _SAYS_NOTHING for one in each.values()):
        return None
    types = {name: one.get("type") for name, one in each.items()}
    return {
        name: _SCALARS[kind] for name, kind in types.items() if isinstance(kind, str) and kind in _SCALARS
    }


class Field(NamedTuple):
    """One parameter that the model sees. `schema_default` is the default as JSON, or None for none."""

    annotation: Any
    required: bool
    schema_default: tuple[Any, ...] = ()


class Reading(NamedTuple):
    """What a signature says.

    Attributes:
        fields: the parameters that the model sees.
        shape: reads arguments into Python objects; None where they stay JSON.
        simple: type by name, when every parameter is a plain scalar.
        injected: parameters that receive the ToolContext.
        positional: positional-only parameters with their defaults, in order.
    """

    fields: Mapping[str, Field] = {}
    shape: Shape | None = None
    simple: Mapping[str, type] | None = None
    injected: tuple[str, ...] = ()
    positional: tuple[tuple[str, Any], ...] = ()


# --- signatures ------------------------------------------------------------------------------------------------------


def _read(function: Callable[..., Any], name: str) -> Reading:
    """Reads a signature whose annotations are the schema."""
    from pydantic.fields import FieldInfo

    hints = _hints(function, name)
    fields: dict[str, Field] = {}
    injected: list[str] = []
    positional: list[tuple[str, Any]] = []
    for parameter in _visible(function, name):
        key, default = parameter.name, parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ConfigError(
                f"tool '{name}': {stars}{key} has no JSON schema",
                hint="Name the parameters, or take one list or mapping.",
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append((key, default))
        annotation = hints.get(key, parameter.annotation)
        if _is_context(key, annotation):
            injected.append(key)
            continue
        if annotation is parameter.empty:
            annotation = Any
        if isinstance(default, FieldInfo):
            # pydantic gives this default, and Python's own call would give the FieldInfo
            info, required = default, default.is_required()
            annotation, default = typing.Annotated[annotation, info], parameter.empty if required else ...
        annotation = _described(annotation)
        if default is None:
            annotation = typing.Optional[annotation]  # noqa: UP045 - the annotation is a value here
        fields[key] = Field(annotation, default is parameter.empty, _json_default(default, parameter.empty))
    annotations = {key: modern(field.annotation) for key, field in fields.items()}
    shape = Shape.of_fields(name, annotations, {key for key, field in fields.items() if field.required})
    plain = all(annotation in _SIMPLE for annotation in annotations.values())
    return Reading(fields, shape, annotations if plain else None, tuple(injected), tuple(positional))


def _calling(function: Callable[..., Any]) -> Reading:
    """How to call a function whose schema was given: arguments stay JSON, a ToolContext is injected."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Reading()
    try:
        hints = typing.get_type_hints(_hinted(function))
    except Exception:
        hints = {}  # the schema does not depend on them; an injected parameter that is missed, Python itself reports
    injected = tuple(p.name for p in parameters if _is_context(p.name, hints.get(p.name, p.annotation)))
    positional = tuple((p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_ONLY)
    return Reading(injected=injected, positional=positional)


def _visible(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    if isinstance(function, classmethod | staticmethod):
        raise ConfigError(
            f"tool '{name}': a {type(function).__name__} is not a tool",
            hint="Write the function outside the class, or as a method.",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigError(
            f"tool '{name}': Python does not know its signature",
            hint="Wrap it in a function with annotations.",
        ) from None
    parameters = list(signature.parameters.values())
    if _is_method(function):
        parameters = parameters[1:]
    hidden: set[str] = set()
    inner: Any = function
    while isinstance(inner, functools.partial):
        hidden |= inner.keywords.keys()
        inner = inner.func
    return [parameter for parameter in parameters if parameter.name not in hidden]


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    target = _hinted(function)
    try:
        return typing.get_type_hints(target, localns=_locals(target), include_extras=True)
    except Exception as error:
        raise ConfigError(
            f"tool '{name}': an annotation cannot be read: {error}",
            hint="Types must be importable at run time, not only under TYPE_CHECKING.",
        ) from error


def _locals(target: Any) -> dict[str, Any]:
    """Names of the function in which `target` is being defined: annotations written as text may mean them."""
    outer = getattr(target, "__qualname__", "").rpartition(".<locals>.")[0]
    if not outer:
        return {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_qualname == outer and frame.f_globals is getattr(target, "__globals__", None):
            return dict(frame.f_locals)
        frame = frame.f_back
    return {}


def _hinted(function: Any) -> Any:
    """The function that carries the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function):
        return function.__init__
    if not inspect.isroutine(function):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def _documented(function: Any) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return inspect.getdoc(function)
    return inspect.getdoc(type(function).__call__) or inspect.getdoc(type(function))


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", None) or type(function).__name__
    if name == "<lambda>":
        raise ConfigError("a lambda has no name", hint="Give one: tool(name='...')(...).")
    return name


def _is_method(function: Any) -> bool:
    """Whether this is a method as its class body defines it: the instance is still to come."""
    if not inspect.isfunction(function) or "." not in function.__qualname__:
        return False
    first = next(iter(inspect.signature(function).parameters), None)
    return first == "self" and not function.__qualname__.rpartition(".")[0].endswith("<locals>")


def _is_context(name: str, annotation: Any) -> bool:
    if name == "context" and annotation is inspect.Parameter.empty:
        return True
    return annotation is ToolContext or ToolContext in typing.get_args(annotation)


def _described(annotation: Any) -> Any:
    """`Annotated[int, "how many"]`: a plain text is the parameter's description."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation
    from pydantic import Field as describe

    base, *metadata = typing.get_args(annotation)
    told = [describe(description=item) if isinstance(item, str) else item for item in metadata]
    return typing.Annotated[(base, *told)]


def _json_default(default: Any, empty: Any) -> tuple[Any, ...]:
    """The default as JSON, in a tuple; an empty one when there is none or JSON cannot say it."""
    if default is empty or default is ...:
        return ()
    import pydantic_core

    try:
        value = pydantic_core.to_jsonable_python(default)
    except (ValueError, TypeError):
        return ()
    # NaN and infinities have no JSON
    return () if isinstance(value, float) and value - value != 0.0 else (value,)


# --- schemas ---------------------------------------------------------------------------------------------------------


def _parameters(reading: Reading, texts: Mapping[str, str], name: str, want_strict: bool) -> dict[str, Any]:
    assert reading.shape is not None
    schema = tidy(reading.shape.schema())
    properties = schema.setdefault("properties", {})
    for key, field in reading.fields.items():
        if key not in properties:
            continue  # renamed by an alias
        if key in texts:
            properties[key].setdefault("description", texts[key])
        if field.schema_default:
            properties[key]["default"] = field.schema_default[0]
    ordered = {"type": "object", "properties": properties}
    if schema.get("required"):
        ordered["required"] = schema["required"]
    ordered["additionalProperties"] = False
    if "$defs" in schema:
        ordered["$defs"] = schema["$defs"]
    if not want_strict:
        return ordered
    made = strict(ordered, fill=True)  # our default is as good as one that the model writes
    if made is None:
        raise ConfigError(
            f"tool '{name}': its parameters cannot be a strict schema",
            hint="Strict schemas have no free-form mappings, tuples or unannotated parameters. Leave strict=False.",
        )
    return made
