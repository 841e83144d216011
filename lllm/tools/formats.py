"""Formats: the form that a reply must have, from a Python type or a JSON schema."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Final

from lllm.core.parsing import parse_json
from lllm.errors import ConfigError, ParseError
from lllm.tools import schema as schemas
from lllm.tools.types import Shape

_WRAP: Final = "value"


@dataclass(frozen=True)
class Format:
    """What a structured reply looks like, and how it is read.

    Attributes:
        name: for the provider; 1 to 64 letters, digits, `_` and `-`.
        schema: JSON schema of the reply, always of an object (providers want that): another type stands under the key
            `value` of one. In strict form (closed objects, everything required) where that is possible.
        strict: whether it is.
        source: the type or schema that it was made of.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool
    source: Any = field(repr=False)
    _checked: Mapping[str, Any] = field(repr=False)
    _wrapped: bool = field(repr=False)
    _shape: Shape | None = field(repr=False, compare=False)
    _validator: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, source: Any, name: str | None = None) -> Format | None:
        """A format from a pydantic model, dataclass, TypedDict, any other type (`list[Foo]`, `int | None`, Literal), a
        JSON schema, or the `response_format` of an OpenAI request. None gives None, a Format itself.

        Raises:
            ConfigError: neither a type with a JSON form nor a JSON schema.
        """
        if source is None or isinstance(source, Format):
            return source
        wanted = None
        if isinstance(source, Mapping):
            inner, given, wanted = _of_mapping(source)
            name, shape = name or given or "reply", None
            checked: dict[str, Any] = dict(inner)
        else:
            if isinstance(source, str) or not (
                isinstance(source, type) or typing.get_origin(source) or hasattr(source, "__supertype__")
            ):
                raise ConfigError(
                    f"{source!r} is not a format",
                    hint="Give a type (pydantic model, dataclass, TypedDict, list[int] ...) or a JSON schema.",
                )
            name = name or _name(source)
            shape = Shape(source, f"format '{name}'")
            checked = schemas.tidy(shape.schema())
        name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name)[:64].strip("_") or "reply"
        checked = _rooted(checked)
        validator = schemas.compile_schema(checked, f"format '{name}'")
        wrapped = not _is_object(checked)
        wire = _wrap(checked) if wrapped else checked
        strict = None if wanted is False else schemas.strict(wire)
        told = wire if strict is None else strict
        return cls(name, told, strict is not None, source, checked, wrapped, shape, validator)

    def wire(self) -> dict[str, Any]:
        """The format as a Request carries it: `{"name", "schema", "strict"}`."""
        return {"name": self.name, "schema": self.schema, "strict": self.strict}

    def asked(self) -> dict[str, Any]:
        """The format as a backend gets it: `wire()`, and as `whole` the schema with all that strict providers refuse to
        be told, where that is more: a grammar of ours can hold a reply to it."""
        whole = _wrap(dict(self._checked)) if self._wrapped else dict(self._checked)
        return self.wire() if whole == self.schema else {**self.wire(), "whole": whole}

    def load(self, reply: Any) -> Any:
        """The object that a reply's text (or its JSON value) means: of the type, or plain JSON for a schema.

        The same strictness as for a tool's arguments: "3" is no integer, true is none, 3 is a number.

        Raises:
            ParseError: with every problem, one sentence each with its JSON path.
        """
        value = parse_json(reply) if isinstance(reply, str) else reply
        if (is_dataclass(value) or hasattr(value, "model_dump")) and isinstance(value, self.source):
            return value
        if self._wrapped and isinstance(value, Mapping) and set(value) == {_WRAP}:
            value = value[_WRAP]
        found = schemas.problems(self._validator, value, self._checked.get("properties", ()))
        if not found and self._shape is not None:
            value, found = self._shape.read(value)
        if found:
            raise ParseError(found)
        return value

    def dump(self, value: Any) -> Any:
        """The object as the JSON value that `load` reads. ParseError when it does not fit."""
        if self._shape is not None:
            return self._shape.dump(value)
        if found := schemas.problems(self._validator, value):
            raise ParseError(found)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return Format.of, (self.source, self.name)  # what was compiled stays behind

    def __hash__(self) -> int:
        return hash((self.name, self.schema_hash))

    @property
    def schema_hash(self) -> str:
        """`sha256:...` of what the provider is told."""
        from lllm.core.canonical import digest_of

        return digest_of(self.wire())


def _of_mapping(source: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None, bool | None]:
    """Schema, name and strictness of a JSON schema or a `response_format`."""
    if source.get("type") == "json_schema":
        source = source.get("json_schema", source)
    if isinstance(source.get("schema"), Mapping) and not source.keys() & {
        "properties",
        "anyOf",
        "$ref",
        "$defs",
    }:
        return source["schema"], source.get("name"), source.get("strict")
    if source.get("type") in ("json_object", "text"):
        raise ConfigError(
            f"response format '{source['type']}' says nothing of the reply's form",
            hint="Give a JSON schema or a type.",
        )
    title = source.get("title")
    return source, title if isinstance(title, str) else None, None


def _name(source: Any) -> str:
    if isinstance(source, type) and typing.get_origin(source) is None:
        return source.__name__
    return "reply"


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with a reference at its root resolved: providers want to see the object."""
    reference = schema.get("$ref", "")
    if not reference.startswith("#/$defs/"):
        return schema
    target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
    if not isinstance(target, Mapping):
        return schema
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key not in ("$defs", "$schema")}
    outer: dict[str, Any] = {
        "type": "object",
        "properties": {_WRAP: inner},
        "required": [_WRAP],
        "additionalProperties": False,
    }
    if "$defs" in schema:
        outer["$defs"] = schema["$defs"]
    return outer
