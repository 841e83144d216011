"""Endpoints as tools of a model."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from lllm.core.canonical import digest
from lllm.models.function import Function, ToolContext
from lllm.proxies.endpoint import Endpoint

LONGEST: Final = 64
"""Characters of a tool's name."""

Perform = Callable[[Endpoint, Mapping[str, Any], ToolContext], Awaitable[Any]]


def offered(tools: tuple[Function, ...]) -> tuple[Function, ...]:
    """Tools that nobody named one by one: where an agent has too many of them, the model finds them by `find_tools`."""
    return tuple(tool.with_(deferred=None) for tool in tools)


def tool_name(proxy: str, key: str) -> str:
    """`proxy__endpoint` in letters, digits, `_` and `-`; what is longer than 64 characters is cut, with a hash that stays
    the same."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{proxy}__{key}")
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}_{digest(f'{proxy}.{key}'.encode()).removeprefix('sha256:')[:8]}"


def tool_of(endpoint: Endpoint, perform: Perform, timeout: float) -> Function:
    """The tool that calls an endpoint by `perform`. `timeout`: seconds for one that is plain Python and has none of its own."""

    # a name that no argument has: an endpoint may well take a `context`
    async def call(lllm_tool_context: ToolContext, **arguments: Any) -> Any:
        return await perform(endpoint, arguments, lllm_tool_context)

    call.__name__ = call.__qualname__ = endpoint.key
    return Function(
        tool_name(endpoint.proxy, endpoint.key),
        endpoint.description or endpoint.title,
        endpoint.schema,
        call,
        effect=endpoint.effect,
        timeout=None if not endpoint.local else endpoint.timeout or timeout,
        approval=endpoint.approval,
        concurrent=bool(endpoint.options.get("concurrent", True)),
        endpoint=endpoint.address,
        data=endpoint.data,
        source=endpoint.source,
    )
