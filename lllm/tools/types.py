"""Python types as JSON schemas, and JSON as Python objects: pydantic behind one small door."""

from __future__ import annotations

import functools
import json
import operator
import sys
import threading
import types
import typing
from collections.abc import Mapping, Set
from copy import deepcopy
from typing import Any

from lllm.errors import ConfigError, ParseError
from lllm.tools.schema import capped, json_path


class Shape:
    """A Python type as JSON knows it: its schema, and a reader that gives objects of the type."""

    __slots__ = ("_adapter", "_members", "what")

    def __init__(self, annotation: Any, what: str) -> None:
        """ConfigError when the type has no JSON form. `what` names the thing in messages."""
        from pydantic import TypeAdapter

        self.what = what
        self._members: Mapping[str, list[Any]] | None = None
        try:
            self._adapter: Any = TypeAdapter(modern(annotation))
        except Exception as error:  # pydantic's errors, a missing name, a hook of the type itself
            raise ConfigError(f"{what}: {_first(error)}", hint=_HINT) from error

    @classmethod
    def of_fields(cls, name: str, annotations: Mapping[str, Any], required: Set[str]) -> Shape:
        """An object with these keys and no others; read as a dict that holds the keys that were given."""
        import typing_extensions as te
        from pydantic import ConfigDict

        fields = {key: hint if key in required else te.NotRequired[hint] for key, hint in annotations.items()}
        form: Any = _typed_dict(name, fields)
        form.__pydantic_config__ = ConfigDict(extra="forbid")
        try:
            return cls(form, f"tool '{name}'")
        except ConfigError:
            for key, hint in annotations.items():
                Shape(hint, f"tool '{name}', parameter '{key}'")  # says which one it is
            raise

    def schema(self, *, filled: bool = False) -> dict[str, Any]:
        """The JSON schema, as pydantic writes it. Raises ConfigError if a part of the type has none.

        `filled`: fields with a default are required, as in a complete object, instead of optional.
        """
        members: dict[str, list[Any]] = {}
        try:
            schema: dict[str, Any] = self._adapter.json_schema(schema_generator=_generator(filled, members))
        except Exception as error:  # as above
            raise ConfigError(f"{self.what}: {_first(error)}", hint=_HINT) from error
        self._members = members
        return schema

    def read(self, value: Any) -> tuple[Any, list[str]]:
        """The object, and no problems; or None, and every problem with its JSON path. `value` has passed the schema."""
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(value), []
        except ValidationError as error:
            wrong = error
        except Exception as error:  # a validator of the project's own
            return None, [f"$: {type(error).__name__}: {error}"]
        given = value
        for _ in range(_ROUNDS):
            given = self._with_members(given, wrong)
            if given is None:
                break
            try:
                return self._adapter.validate_python(given), []
            except ValidationError as error:
                wrong = error
            except Exception as error:
                return None, [f"$: {type(error).__name__}: {error}"]
        details = wrong.errors(include_url=False, include_input=False, include_context=False)
        return None, capped(f"{json_path(_within(value, item['loc']))}: {item['msg']}" for item in details)

    def _with_members(self, value: Any, error: Any) -> Any:
        """The value with JSON forms replaced by enum members and other Python objects that pydantic accepts only as such
        (`Literal[Colour.RED]`, an enum of dates). None if there is no such place."""
        if self._members is None:
            self.schema()
        out: Any = None
        for item in error.errors(include_url=False):
            path = _within(value, item["loc"])
            context = item.get("ctx", {})
            if item["type"] == "union_tag_invalid":
                path = (*path, str(context["discriminator"]).strip("'"))
            elif item["type"] not in ("literal_error", "enum"):
                continue
            try:
                found = functools.reduce(operator.getitem, path, value)
                candidates = (self._members or {}).get(json.dumps(found), [])
            except (TypeError, ValueError, LookupError, RecursionError):
                continue  # already an object, or a key of a mapping
            if item["type"] == "literal_error":
                candidates = [member for member in candidates if repr(member) in str(context["expected"])]
            if not candidates:
                continue
            if not path:
                return candidates[0]
            try:
                out = deepcopy(value) if out is None else out
            except RecursionError:
                return None
            functools.reduce(operator.getitem, path[:-1], out)[path[-1]] = candidates[0]
        return out

    def dump(self, value: Any) -> Any:
        """The object as JSON. ParseError when it is not of the type."""
        try:
            return self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        except ValueError as error:  # pydantic's error is a ValueError, and so is that of undecodable bytes
            raise ParseError(f"{self.what}: {error}") from error


def _generator(filled: bool, members: dict[str, list[Any]]) -> Any:
    """A schema generator that also collects, by their JSON form, values that have no other JSON form."""
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import to_jsonable_python

    def note(values: Any) -> None:
        for value in values:
            form = to_jsonable_python(value)
            if type(form) is not type(value):
                members.setdefault(json.dumps(form), []).append(value)

    class Generator(GenerateJsonSchema):
        def literal_schema(self, schema: Any) -> Any:
            note(schema["expected"])
            return super().literal_schema(schema)

        def enum_schema(self, schema: Any) -> Any:
            note(schema["members"])
            return super().enum_schema(schema)

        def field_is_required(self, field: Any, total: bool) -> bool:
            filling = filled and field["type"] != "typed-dict-field"
            return filling or super().field_is_required(field, total)

    return Generator


_ROUNDS = 4
"""Limit on attempts to replace members in a value: which alternative of a union applies is known only from its tag."""
_HINT = "Use types with a JSON form: scalars, lists, dicts, Literal, enums, dataclasses, pydantic models."


def _first(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _within(value: Any, loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """The steps of a pydantic location that lead into the value; it also names the alternatives of a union."""
    path: list[Any] = []
    for part in loc:
        within = part in value if isinstance(value, Mapping) else isinstance(part, int) and _has(value, part)
        if within:
            value = value[part]
        elif not (isinstance(value, Mapping) and part == loc[-1]):
            continue  # the name of an alternative; the last one may be a key that is missing
        path.append(part)
    return tuple(path)


def _has(value: Any, index: int) -> bool:
    return isinstance(value, list | tuple) and 0 <= index < len(value)


def modern(annotation: Any) -> Any:
    """The annotation with `typing.TypedDict` replaced by its newer self, which pydantic wants before Python 3.12."""
    if sys.version_info >= (3, 12):
        return annotation
    if _is_old_dict(typing.get_origin(annotation) or annotation):
        with _making:
            return _modern_dict(annotation)
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not args or origin is typing.Literal:
        return annotation
    if origin is typing.Annotated:
        return typing.Annotated[(modern(args[0]), *args[1:])]
    changed = tuple(modern(arg) if not isinstance(arg, list) else arg for arg in args)
    if all(new is old for new, old in zip(changed, args, strict=True)):
        return annotation
    if origin is types.UnionType or origin is typing.Union:
        return functools.reduce(operator.or_, changed)
    return origin[changed]


def _typed_dict(name: str, fields: dict[str, Any]) -> Any:
    import typing_extensions as te

    make: Any = te.TypedDict  # type checkers want literals
    return make(name, fields)


_newer: dict[Any, Any] = {}  # entered before the fields are converted: a TypedDict may refer to itself
_making = threading.RLock()


def _is_old_dict(form: Any) -> bool:
    return typing.is_typeddict(form) and type(form).__module__ == "typing"


def _modern_dict(annotation: Any) -> Any:
    """The converted form of a TypedDict, or of a generic one with its arguments."""
    if annotation in _newer:
        return _newer[annotation]
    import typing_extensions as te

    form = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    filled = dict(zip(form.__parameters__, arguments, strict=True)) if arguments else {}
    required: dict[str, bool] = {}
    hints: dict[str, Any] = {}
    for key, hint in typing.get_type_hints(form, include_extras=True).items():
        required[key] = key in form.__required_keys__
        if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
            # of annotations written as text, __required_keys__ does not know this
            required[key] = typing.get_origin(hint) is typing.Required
            (hint,) = typing.get_args(hint)
        hints[key] = _substituted(hint, filled)
    mark = {key: te.Required if needed else te.NotRequired for key, needed in required.items()}
    name = "_".join([form.__name__, *(getattr(item, "__name__", "") or "value" for item in arguments)])
    newer = _typed_dict(name, {key: mark[key][Any] for key in hints})
    newer.__doc__, newer.__module__, newer.__qualname__ = form.__doc__, form.__module__, name
    if hasattr(form, "__pydantic_config__"):
        newer.__pydantic_config__ = form.__pydantic_config__
    while len(_newer) >= 256:
        _newer.pop(next(iter(_newer)))
    _newer[annotation] = newer
    try:
        newer.__annotations__ = {key: mark[key][modern(hint)] for key, hint in hints.items()}
    except BaseException:
        _newer.pop(annotation, None)
        raise
    return newer


def _substituted(hint: Any, filled: Mapping[Any, Any]) -> Any:
    """The type hint with its type variables replaced."""
    if isinstance(hint, typing.TypeVar):
        return filled.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not filled or not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(filled.get(one, one) for one in parameters)]
