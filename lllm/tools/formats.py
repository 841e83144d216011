"""Formats: the form that a reply must have, from a Python type or a JSON schema."""

from __future__ import annotations

import re
import reprlib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from lllm.core.parsing import parse_json
from lllm.errors import ConfigError, ParseError
from lllm.tools import schema as schemas
from lllm.tools.references import Unportable, portable
from lllm.tools.strict import strict
from lllm.tools.types import Shape

_WRAP: Final = "value"


@dataclass(frozen=True)
class Format:
    """An output schema, with the code that parses and validates a reply.

    Attributes:
        name: for the provider; 1 to 64 letters, digits, `_` and `-`.
        schema: JSON schema of the reply as sent to the provider: always an object (another kind of value is put under the
        key
            `value`), with references only to its own definitions. In strict form (closed objects, everything required) if
            that
            is equivalent.
        strict: whether it is in strict form.
        sent: whether the provider is asked to enforce it. False for a schema that cannot be written in the sent form: the
            reply is only validated.
        source: the type or schema it was made from.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool
    source: Any = field(repr=False)
    _whole: Mapping[str, Any] = field(repr=False)
    _wrapped: bool = field(repr=False)
    _shape: Shape | None = field(repr=False, compare=False)
    _validator: Any = field(repr=False, compare=False)
    sent: bool = True

    @classmethod
    def of(cls, source: Any, name: str | None = None) -> Format | None:
        """A Format for a pydantic model, dataclass, TypedDict, any other type (`list[Foo]`, `int | None`, Literal), a
        JSON schema, or the `response_format` of an OpenAI request. None returns None; a Format returns itself.

        Raises:
            ConfigError: neither a type with a JSON form nor a JSON schema; or a schema that refers to something outside
            itself.
        """
        if source is None or isinstance(source, Format):
            return source
        if isinstance(source, Mapping):
            schema, given, wanted = _of_mapping(source)
            return cls._made(source, name or given or "reply", schema, schema, wanted, None)
        if not _is_type(source):
            raise ConfigError(
                f"{reprlib.repr(source)} cannot be used as a format",
                hint="Give a type (pydantic model, dataclass, TypedDict, list[int] ...) or a JSON schema.",
            )
        name = name or _name(source)
        kept = isinstance(source, type) and type(source).__hash__ is not None
        return _of_class(source, name) if kept else cls._of_type(source, name)

    @classmethod
    def _of_type(cls, source: Any, name: str) -> Format:
        shape = Shape(source, f"format '{name}'")
        checked, filled = (schemas.tidy(shape.schema(filled=filled)) for filled in (False, True))
        return cls._made(source, name, checked, filled, None, shape)

    @classmethod
    def _made(
        cls,
        source: Any,
        name: str,
        checked: dict[str, Any],
        filled: dict[str, Any],
        wanted: bool | None,
        shape: Shape | None,
    ) -> Format:
        """Makes a Format from the checked schema. `filled`: the same schema with every default field required. `wanted`:
        strict mode, if set explicitly."""
        name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name)[:64].strip("_") or "reply"
        validator = schemas.compile_schema(checked, f"format '{name}'")
        try:
            whole, wrapped = portable(checked, _WRAP)
            sent = whole if filled is checked else portable(filled, _WRAP).schema
        except Unportable:
            return cls(name, checked, False, source, checked, False, shape, validator, sent=False)
        closed = None if wanted is False else strict(sent, fill=wanted is True)
        schema = whole if closed is None else closed
        return cls(name, schema, closed is not None, source, whole, wrapped, shape, validator)

    def wire(self) -> dict[str, Any]:
        """The format as part of a Request: `{"name", "schema", "strict"}`, plus `"sent": False` if it is not sent."""
        said = {"name": self.name, "schema": self.schema, "strict": self.strict}
        return said if self.sent else {**said, "sent": False}

    def asked(self) -> dict[str, Any]:
        """The format as a backend gets it: `wire()`, and as `whole` the schema with all that strict providers refuse to
        be told, where that is more: a grammar of ours can hold a reply to it."""
        return self.wire() if self._whole == self.schema else {**self.wire(), "whole": self._whole}

    def load(self, reply: Any) -> Any:
        """The object that a reply's text (or its JSON value) means: of the type, or plain JSON for a schema.

        The same strictness as for a tool's arguments: "3" is no integer, true is none, 3 is a number.

        Raises:
            ParseError: with every problem, one sentence each with its JSON path.
        """
        value = parse_json(reply) if isinstance(reply, str) else reply
        if self._is_made(value):
            return value
        if self._wrapped and isinstance(value, Mapping) and set(value) == {_WRAP}:
            value = value[_WRAP]
        found = self._problems(value)
        if not found and self._shape is not None:
            value, found = self._shape.read(value)
        if found:
            raise ParseError(found)
        return value

    def dump(self, value: Any) -> Any:
        """The object as the JSON value that `load` reads. ParseError when it does not fit."""
        if self._shape is not None:
            value = self._shape.dump(value)
        if found := self._problems(value):
            raise ParseError(found)
        return value

    def _is_made(self, value: Any) -> bool:
        """True if the value is an instance of the format's own class."""
        if not (is_dataclass(value) or hasattr(value, "model_dump")):
            return False
        own = typing.get_origin(self.source) or self.source
        return isinstance(own, type) and isinstance(value, own)

    def _problems(self, value: Any) -> list[str]:
        return schemas.problems(self._validator, value, self._known)

    @cached_property
    def _known(self) -> tuple[str, ...]:
        """The keys of the reply, for "did you mean" hints."""
        schema = self._whole
        if self._wrapped:
            schema = schema["properties"][_WRAP]
        names = schema.get("properties")
        return tuple(map(str, names)) if isinstance(names, Mapping) else ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Format.of, (self.source, self.name)  # what was compiled stays behind

    def __hash__(self) -> int:
        return hash((self.name, self.schema_hash))

    @property
    def schema_hash(self) -> str:
        """`sha256:...` of what the provider is told."""
        from lllm.core.canonical import digest_of

        return digest_of(self.wire())


@lru_cache(maxsize=64)
def _of_class(source: type, name: str) -> Format:
    """Cached, because the same class is passed with every call and pydantic takes milliseconds to read one."""
    return Format._of_type(source, name)


def _is_type(source: Any) -> bool:
    return not isinstance(source, str) and (
        isinstance(source, type)
        or typing.get_origin(source) is not None
        or hasattr(source, "__supertype__")  # NewType
        or hasattr(source, "__value__")  # a type alias
    )


def _of_mapping(source: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, bool | None]:
    """Schema, name and strictness of a JSON schema or a `response_format`, as plain dicts and lists."""
    schemas.check_json(source, "format")
    given: dict[str, Any] = _plain(source)
    kind = given.get("type")
    if kind in ("json_object", "text"):
        raise ConfigError(
            f"response format '{kind}' does not describe the reply",
            hint="Give a JSON schema or a type.",
        )
    if kind == "json_schema":
        given = given.get("json_schema", given)
        if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
            raise ConfigError(
                f"response format has no schema: {schemas.shown(source)}",
                hint='Write {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}.',
            )
    elif (
        kind is not None or not isinstance(given.get("schema"), dict) or not given.keys() <= _RESPONSE_FORMAT
    ):
        title = given.get("title")
        return given, title if isinstance(title, str) else None, None
    name, wanted = given.get("name"), given.get("strict")
    if not isinstance(name, str | None) or not isinstance(wanted, bool | None):
        raise ConfigError(
            f"response format has name {schemas.shown(name)} and strict {schemas.shown(wanted)}",
            hint="`name` must be text, `strict` true or false.",
        )
    return given["schema"], name, wanted


_RESPONSE_FORMAT: Final = frozenset(("name", "schema", "strict", "description", "type"))


def _plain(value: Any) -> Any:
    """A private copy of dicts and lists only."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _name(source: Any) -> str:
    if isinstance(source, type) and typing.get_origin(source) is None:
        return source.__name__
    return "reply"
