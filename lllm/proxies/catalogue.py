"""Texts about proxies, for prompts and for people. Every address in them is callable as it is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lllm.core.visible import visible, visible_json, visible_line
from lllm.errors import UnknownNameError
from lllm.proxies.base import BaseProxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.fitting import Item, fit, fits
from lllm.proxies.parameters import Parameter
from lllm.proxies.shared_schemas import inlined

FOUND: Final = 20
"""Endpoints that a catalogue by search lists at most."""
FIRST: Final = 5
"""Of them, those whose parameters are told before others are named."""
MORE: Final = "Not all endpoints are listed: name a category, or search."


_Chosen = Sequence[tuple[BaseProxy, Sequence[tuple[str, Sequence[Endpoint]]]]]


def overview(proxies: Iterable[BaseProxy], max_tokens: int | None = None) -> str:
    """One line for each proxy: its path, name and what it is for."""
    each = [Item((_about(one), one.path())) for one in proxies]
    return fit(each, max_tokens, "the overview")


def directory(
    proxies: Iterable[BaseProxy], *, categories: str | Sequence[str] = (), max_tokens: int | None = None
) -> str:
    """The proxies with their categories and addresses; see `catalog` for the arguments."""
    items: list[Item] = []
    chosen = _chosen(proxies, categories)
    for proxy, groups in chosen:
        items.append(Item(_headings(proxy, groups, "", 2), even=True))
        for category, endpoints in groups:
            listed = "\n".join([f"  {category}:", *(f"    {one.address}" for one in endpoints)])
            items.append(Item((listed, f"  {category}: {_count(endpoints)}", "", "", "")))
    return fit([*items, _more(chosen, 1, 4)], max_tokens, "the directory")


def catalog(
    proxies: Iterable[BaseProxy], *, categories: str | Sequence[str] = (), max_tokens: int | None = None
) -> str:
    """The proxies with a line for each endpoint: address, parameters, and the first sentence about it.

    Where that is too long, lines are shorter: first they lose the sentence, then the additional documents are left out, then
    the parameters, and then categories only say how many endpoints they have. With what room is left, the first categories
    say more.

    Arguments:
        categories: those that are listed, as `issues` or `issues/comments`; all where none is named. max_tokens: how long it
            may be, at one token per 4 bytes.

    Raises:
        UnknownNameError: no such category. ConfigError: a `max_tokens` in which nothing fits.
    """
    items: list[Item] = []
    chosen = _chosen(proxies, categories)
    for proxy, groups in chosen:
        items.append(Item(_headings(proxy, groups, "# ", 5), even=True))
        for category, endpoints in groups:
            lines = [_lines(one) for one in endpoints]
            full, takes, bare = ("\n".join([f"## {category}", *texts]) for texts in zip(*lines, strict=True))
            counted = f"## {category}: {_count(endpoints)}"
            items.append(Item((full, takes, takes, bare, counted, "", "", "")))
        for title, text in proxy.additional_docs.items():
            said = f"## {title}\n{text}"
            items.append(Item((said, said, "", "", "", "", "", ""), even=True))
    return fit([*items, _more(chosen, 4, 7)], max_tokens, "the catalogue")


def ranked(found: Sequence[Endpoint], query: str, max_tokens: int | None = None) -> str:
    """Endpoints that a search found, the best first: those at the end in fewer words, or only counted, where there is no
    room for all. What the first ones take is said before others are named at all."""
    for takes in (True, False):
        for shown in range(len(found), 0 if takes else -1, -1):
            items = [Item(_lines(one)[: 2 if takes else 3]) for one in found[:shown]]
            if shown < len(found):
                note = f"{len(found) - shown} more match {visible_line(query)[:100]!r}."
                items.append(Item((note,) * (2 if takes else 3), even=True))
            if fits(items, max_tokens) and (shown >= min(FIRST, len(found)) or not takes):
                return fit(items, max_tokens, "the catalogue")
    return fit(items, max_tokens, "the catalogue")


def unmatched(
    proxies: Iterable[BaseProxy], query: str, categories: str | Sequence[str], max_tokens: int | None
) -> str:
    """Returns the answer to a search that found nothing: the categories, to look in one of them."""
    note = f"No endpoint matches {visible_line(query)[:100]!r}."
    items = [Item((f"{note} There are:", note, note), even=True)]
    for proxy, groups in _chosen(proxies, categories):
        about = f"# {_about(proxy)}"
        items.append(Item((about, "", ""), even=True))
        items += [Item((f"## {category}: {_count(each)}", "", "")) for category, each in groups]
    return fit(items, max_tokens, "the catalogue")


def addresses(proxies: Iterable[BaseProxy], categories: str | Sequence[str]) -> set[str]:
    """The addresses of some categories."""
    return {one.address for _, groups in _chosen(proxies, categories) for _, each in groups for one in each}


def _chosen(proxies: Iterable[BaseProxy], categories: str | Sequence[str]) -> _Chosen:
    """The proxies with their endpoints by category, of which only those that are named."""
    found = [(one, _by_category(one.endpoints().values())) for one in proxies]
    wanted = [categories] if isinstance(categories, str) and categories else list(categories or ())
    if not wanted:
        return found
    known = list(dict.fromkeys(category for _, groups in found for category, _ in groups))
    parents = {one.partition("/")[0] for one in known}
    for name in wanted:
        if name not in known and name not in parents:
            raise UnknownNameError("category", str(name), known)
    chosen = [
        (proxy, [one for one in groups if one[0] in wanted or one[0].partition("/")[0] in wanted])
        for proxy, groups in found
    ]
    return [(proxy, groups) for proxy, groups in chosen if groups]


def _headings(
    proxy: BaseProxy, groups: Sequence[tuple[str, Sequence[Endpoint]]], mark: str, listed: int
) -> tuple[str, ...]:
    """Returns the variants of the heading of a proxy: `listed` times the description alone, then with the number of its
    endpoints, then the number alone."""
    count = _count([one for _, each in groups for one in each])
    about = f"{mark}{_about(proxy)}"
    return (*[about] * listed, f"{about} ({count})", f"{mark}{proxy.path()}: {count}", "")


def _more(chosen: _Chosen, listed: int, named: int) -> Item:
    """The line below a catalogue: nothing where all is listed, and all where there is no room for the names of proxies."""
    count = _count([one for _, groups in chosen for _, each in groups for one in each])
    proxies = "1 proxy" if len(chosen) == 1 else f"{len(chosen)} proxies"
    return Item(("",) * listed + (MORE,) * (named - listed) + (f"{proxies}, {count}. {MORE}",), even=True)


def _count(endpoints: Sequence[Endpoint]) -> str:
    return "1 endpoint" if len(endpoints) == 1 else f"{len(endpoints)} endpoints"


def line_of(endpoint: Endpoint) -> str:
    """`weather.daily(city: string, days: integer = 3): The forecast.`"""
    return _lines(endpoint)[0]


def _lines(endpoint: Endpoint) -> tuple[str, str, str]:
    """Returns the variants of an endpoint in a catalogue: all, its address and parameters, its address."""
    known: tuple[str, str, str] | None = endpoint.__dict__.get("_lines")
    if known is None:
        taken = ", ".join(_short(one) for one in endpoint.parameters)
        first = visible((endpoint.description or endpoint.title).strip().partition("\n")[0].rstrip())
        takes = f"{endpoint.address}({taken})"
        known = (f"{takes}: {first}", takes, endpoint.address)
        # an endpoint never changes, and a catalogue of thousands is written again and again
        endpoint.__dict__["_lines"] = known
    return known


def docs(
    endpoints: Iterable[Endpoint], proxies: Mapping[str, BaseProxy], max_tokens: int | None = None
) -> str:
    """All that is known of endpoints. Where that is too long: without examples and answers, then a line for each, then only
    the address; the first endpoints say more than others."""
    items, last = [], None
    for one in endpoints:
        full, short = _doc(one)
        if one.proxy != last:
            heading = f"# {_about(proxies[one.proxy])}\n"
            items.append(Item((heading, heading, heading.rstrip(), "", ""), even=True))
            last = one.proxy
        items.append(Item((f"{full}\n", f"{short}\n", *_lines(one)[::2], "")))
    if items:
        items.append(Item(("", "", "", "", "Not all are listed: name some endpoints."), even=True))
    return fit(items, max_tokens, "the documentation").rstrip("\n")


def _doc(one: Endpoint) -> tuple[str, str]:
    """Returns the documentation of an endpoint: all of it, and without example and answer."""
    lines = [f"## {one.address}", visible(one.description or one.title)]
    for parameter in one.parameters:
        about = parameter.schema.get("description")
        lines.append(f"- {_short(parameter)}" + (f": {visible(about)}" if about else ""))
    short = "\n".join(lines)
    example = one.example()
    if all(example.get(parameter.name) is not None for parameter in one.parameters if parameter.required):
        lines.append(f"Example: {one.address} {_json(example)}")
    if one.response is not None:
        lines.append(f"Answer, for example: {_json(one.response)}")
    if one.response_schema is not None:
        lines.append(f"Answer, as a schema: {_json(inlined(one.response_schema, one.shared))}")
    return "\n".join(lines), short


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
