"""Texts about proxies, for prompts and for people. Every address in them is callable as it is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lllm.core.visible import visible, visible_json
from lllm.proxies.base import BaseProxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.parameters import Parameter


def overview(proxies: Iterable[BaseProxy]) -> str:
    """One line for each proxy: its path, name and what it is for."""
    return "\n".join(_about(one) for one in proxies)


def directory(proxies: Iterable[BaseProxy]) -> str:
    """The proxies with their categories and addresses."""
    lines = []
    for proxy in proxies:
        lines.append(_about(proxy))
        for category, endpoints in _by_category(proxy.endpoints().values()):
            lines.append(f"  {category}:")
            lines += [f"    {one.address}" for one in endpoints]
    return "\n".join(lines)


def catalog(
    proxies: Iterable[BaseProxy], *, categories: Sequence[str] = (), max_tokens: int | None = None
) -> str:
    """The proxies with a line for each endpoint: address, parameters, and the first sentence about it."""
    lines = []
    for proxy in proxies:
        lines.append(f"# {_about(proxy)}")
        for category, endpoints in _by_category(proxy.endpoints().values()):
            if categories and category not in categories:
                continue
            lines.append(f"## {category}")
            lines += [line_of(one) for one in endpoints]
        lines += [f"## {title}\n{text}" for title, text in proxy.additional_docs.items()]
    return "\n".join(lines)


def line_of(endpoint: Endpoint) -> str:
    """`weather.daily(city: string, days: integer = 3): The forecast.`"""
    taken = ", ".join(_short(one) for one in endpoint.parameters)
    first = visible(endpoint.description or endpoint.title).strip().partition("\n")[0]
    return f"{endpoint.address}({taken}): {first}"


def docs(endpoints: Iterable[Endpoint], proxies: Mapping[str, BaseProxy]) -> str:
    """All that is known of endpoints."""
    parts, last = [], None
    for one in endpoints:
        if one.proxy != last:
            parts.append(f"# {_about(proxies[one.proxy])}")
            last = one.proxy
        parts.append(_doc(one))
    return "\n\n".join(parts)


def _doc(one: Endpoint) -> str:
    lines = [f"## {one.address}", visible(one.description or one.title)]
    for parameter in one.parameters:
        about = parameter.schema.get("description")
        lines.append(f"- {_short(parameter)}" + (f": {visible(about)}" if about else ""))
    example = one.example()
    if all(example.get(parameter.name) is not None for parameter in one.parameters if parameter.required):
        lines.append(f"Example: {one.address} {_json(example)}")
    if one.response is not None:
        lines.append(f"Answer, for example: {_json(one.response)}")
    elif one.response_schema is not None:
        lines.append(f"Answer, as a schema: {_json(one.response_schema)}")
    return "\n".join(lines)


def _about(proxy: BaseProxy) -> str:
    about = visible(proxy.description()).strip().partition("\n")[0]
    title = proxy.title()
    name = proxy.path() if title == proxy.path() else f"{proxy.path()} ({title})"
    return f"{name}: {about}" if about else name


def _by_category(endpoints: Iterable[Endpoint]) -> list[tuple[str, list[Endpoint]]]:
    found: dict[str, list[Endpoint]] = {}
    for one in endpoints:
        found.setdefault("/".join(filter(None, (one.category, one.sub_category))) or "general", []).append(
            one
        )
    return list(found.items())


def _short(one: Parameter) -> str:
    kind = one.schema.get("type", "any")
    text = f"{one.name}: {'|'.join(map(str, kind)) if isinstance(kind, list) else kind}"
    if (values := one.schema.get("enum")) is not None:
        text = f"{one.name}: {'|'.join(_json(value) for value in values)}"
    if one.required:
        return text
    default: Any = one.schema.get("default")
    return f"{text} = {_json(default)}" if default is not None else f"{text}?"


def _json(value: Any) -> str:
    """JSON for people and models: no character of it acts on a terminal."""
    return visible_json(json.dumps(value, ensure_ascii=False, default=str))
