"""Python types as JSON schemas, and JSON as Python objects: pydantic behind one small door."""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing
from collections.abc import Mapping, Set
from typing import Any

from lllm.errors import ConfigError, ParseError
from lllm.tools.schema import capped, json_path


class Shape:
    """A Python type as JSON knows it: its schema, and a reader that gives objects of the type."""

    __slots__ = ("_adapter", "what")

    def __init__(self, annotation: Any, what: str) -> None:
        """ConfigError when the type has no JSON form. `what` names the thing in messages."""
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        self.what = what
        try:
            self._adapter: Any = TypeAdapter(modern(annotation))
        except (PydanticUserError, NameError, TypeError, RecursionError) as error:
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

    def schema(self) -> dict[str, Any]:
        """The JSON schema, as pydantic writes it. ConfigError when a part of the type has none."""
        from pydantic.errors import PydanticUserError

        try:
            schema: dict[str, Any] = self._adapter.json_schema()
        except (PydanticUserError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self.what}: {_first(error)}", hint=_HINT) from error
        return schema

    def read(self, value: Any) -> tuple[Any, list[str]]:
        """The object, and no problems; or None, and every problem with its JSON path. `value` has passed the schema."""
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(value), []
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            return None, capped(
                f"{json_path(_within(value, item['loc']))}: {item['msg']}" for item in details
            )
        except Exception as error:  # a validator of the project's own
            return None, [f"$: {type(error).__name__}: {error}"]

    def dump(self, value: Any) -> Any:
        """The object as JSON. ParseError when it is not of the type."""
        from pydantic_core import PydanticSerializationError

        try:
            return self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        except PydanticSerializationError as error:
            raise ParseError(f"{self.what}: {error}") from error


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
    if typing.is_typeddict(annotation) and type(annotation).__module__ == "typing":
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


@functools.lru_cache(maxsize=256)
def _modern_dict(form: Any) -> Any:
    import typing_extensions as te

    fields: dict[str, Any] = {}
    for key, hint in typing.get_type_hints(form, include_extras=True).items():
        required = key in form.__required_keys__
        if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
            # of annotations written as text, __required_keys__ does not know this
            required = typing.get_origin(hint) is typing.Required
            (hint,) = typing.get_args(hint)
        fields[key] = (te.Required if required else te.NotRequired)[modern(hint)]
    newer = _typed_dict(form.__name__, fields)
    newer.__doc__, newer.__module__, newer.__qualname__ = form.__doc__, form.__module__, form.__qualname__
    return newer
