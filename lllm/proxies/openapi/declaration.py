"""An operation as the options of `@BaseProxy.endpoint`: what the module says, and what is checked before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.proxies.endpoint import BODILESS, Declared, compile_endpoint
from lllm.proxies.openapi.keywords import is_sendable
from lllm.proxies.openapi.parts import Argument, Operation
from lllm.proxies.openapi.problems import Unusable, shown
from lllm.proxies.parameters import KEYWORDS

EXAMPLE: Final = 200
"""Characters of JSON of an argument's example."""


def options(operation: Operation) -> dict[str, Any]:
    """The options, but for credentials. Values are JSON."""
    found: dict[str, Any] = {
        "category": operation.tag,
        "sub_category": operation.sub_category,
        "endpoint": operation.path,
        "method": "" if operation.method == "GET" else operation.method,
        "name": operation.title,
        "operation": operation.id,
        "base_url": operation.base_url,
        "params": {key_of(one): entry(one, operation.method) for one in operation.arguments},
        "content": "" if operation.content == "application/json" else operation.content,
        "accept": "" if operation.accept == "application/json" else operation.accept,
        "response": operation.response,
        "paginate": operation.paginate,
    }
    found = {key: value for key, value in found.items() if value or (key == "response" and value is not None)}
    if operation.optional_body and operation.content.partition(";")[0].endswith("json"):
        found["empty_body"] = False
    return found


def key_of(one: Argument) -> str:
    """The argument's key in `params`: `$owner*`."""
    return f"{'$' if one.place == 'path' else ''}{one.name}{'*' if one.required else ''}"


def entry(one: Argument, method: str) -> dict[str, Any]:
    """The argument's value in `params`."""
    usual = "query" if method in BODILESS else "body"
    schema = dict(one.schema) if isinstance(one.schema, Mapping) else {} if one.schema else {"not": {}}
    examples = schema.pop("examples", None)
    example = one.example if one.example is not None else examples[0] if examples else None
    found: dict[str, Any] = {}
    if one.place not in ("path", usual):
        found["place"] = one.place
    if one.wire != one.name and one.place != "content":
        found["name"] = one.wire
    text = schema.pop("description", None)
    flat = schema.keys() <= KEYWORDS | {"type"}
    if flat:
        found |= schema
    elif schema:
        found["schema"] = schema
    if text:
        found["description"] = text
    if example is not None and is_sendable(example) and len(json.dumps(example)) <= EXAMPLE:
        found["example"] = example
    for key in ("style", "explode", "allow_reserved", "media_type"):
        value = getattr(one, key)
        if value or (key == "explode" and value is False):
            found[key] = value
    return found


def check_operation(operation: Operation, shared: Mapping[str, Any]) -> None:
    """Unusable where a proxy could not have the operation."""
    declared = Declared(lambda self: None, options(operation))
    try:
        found = compile_endpoint(declared, "operation", "document", True, shared, "document")
        found.checker.plan  # noqa: B018
    except ConfigError as error:
        raise Unusable(shown(error.message, 300)) from None
