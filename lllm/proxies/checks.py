"""Problems in the declarations of a proxy: all of them at once, each with the line of its method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lllm.config.layer import shown
from lllm.config.problems import placed
from lllm.errors import ConfigError, LLMError, describe_error
from lllm.models.function import Function
from lllm.proxies.base import BaseProxy, declared_in
from lllm.proxies.endpoint import Endpoint, compile_endpoint


def declaration_problems(kind: type[BaseProxy], *, http: bool | None = None) -> Iterator[ConfigError]:
    """The endpoints of a class that cannot be read, or whose schemas are none. `http`: whether there is a `base_url`; by
    default whether the class has one."""
    if kind.endpoints is not BaseProxy.endpoints:
        return  # its endpoints are not, or not only, its marked methods
    sends = bool(kind.base_url) if http is None else http
    for key, declared in declared_in(kind).items():
        try:
            _check_schemas(compile_endpoint(declared, key, kind.path(), sends, kind.schemas, kind.source))
        except Exception as error:
            yield _located(error, f"{kind.path()}.{key}", declared.function)


def schema_problems(proxy: BaseProxy) -> Iterator[ConfigError]:
    """The endpoints of an active proxy whose schemas are none."""
    for one in proxy.endpoints().values():
        try:
            _check_schemas(one)
        except ConfigError as error:
            yield _located(error, one.address, one.function)


def _located(error: Exception, address: str, function: Callable[..., Any]) -> ConfigError:
    """The error with its endpoint and the line of that. It may be anything: annotations are the project's own code."""
    words = describe_error(error)
    if f"'{address}'" not in words:
        words = f"endpoint '{address}': {words}"
    hint = error.hint if isinstance(error, LLMError) else None
    return placed(ConfigError(words, hint=hint), line_of(function))


def _check_schemas(one: Endpoint) -> None:
    own = dict(one.response_schema or {})
    answer = {"type": "object", "properties": {"answer": own}}
    answer |= {key: own.pop(key) for key in ("$defs", "definitions", "components") if key in own}
    for what, schema in (("parameters", one.schema), ("answer", answer)):
        try:
            _ = Function("endpoint", parameters=schema).plan
        except ConfigError as error:
            words = error.message.partition(": ")[2] or error.message
            raise ConfigError(f"the schema of its {what} is wrong: {words}", hint=error.hint) from error


def line_of(function: Callable[..., Any]) -> str | None:
    """`file:line` of a function; None where that is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return None if code is None else f"{shown(Path(code.co_filename))}:{code.co_firstlineno}"
