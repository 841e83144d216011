"""How an endpoint's further pages are found: the notation of `paginate=`.

    paginate={"cursor": "meta.next", "param": "cursor", "items": "data"}     a cursor in the answer goes into a parameter
    paginate={"page": "page", "items": "rows"}                               page numbers, from 1, until a page is empty
    paginate={"offset": "offset", "items": "rows"}                           the number of items so far
    paginate={"next": "links.next", "items": "results"}                      the URL of the next page in the answer
    paginate="link"                                                          ... in the header `Link` (rel=next)

`items` is the path of the list in an answer; by default the answer is the list. `pages` (10) and `max_items` limit what one
call fetches. `more`: path of a truth value, `total`: of a number, that say when the last page has come. `first`: the number of
the first page, where it is not 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, UnknownKeyError, listing

KINDS: Final = ("cursor", "page", "offset", "next", "link")
_OTHERS: Final = ("param", "items", "pages", "max_items", "more", "total", "first")


class Paginate(NamedTuple):
    """See above. `source` is the path of cursor or URL in an answer, `param` the parameter that changes."""

    kind: str
    source: tuple[str, ...] = ()
    param: str = ""
    items: tuple[str, ...] = ()
    pages: int = 10
    max_items: int | None = None
    more: tuple[str, ...] = ()
    total: tuple[str, ...] = ()
    first: int = 1


def parse_paginate(value: Any, where: str, effect: str) -> Paginate | None:
    """Reads the notation.

    Raises:
        ConfigError, UnknownKeyError: it cannot be read, or the endpoint is not `pure`: each page is a request.
    """
    if value is None:
        return None
    where = f"{where}: paginate"
    if value == "link":
        value = {"link": True}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping or 'link', got {value!r}")
    for key in value:
        if key not in KINDS and key not in _OTHERS:
            raise UnknownKeyError(str(key), (*KINDS, *_OTHERS), where=where)
    kinds = [key for key in KINDS if key in value]
    if len(kinds) != 1:
        raise ConfigError(f"{where} must have one of {listing(KINDS)}, got {listing(kinds) or 'none'}")
    kind = kinds[0]
    if effect != "pure":
        raise ConfigError(
            f"{where}: each page is a request, so the endpoint must be 'pure', and is {effect!r}",
            hint="Where its requests only read, write effect='pure'.",
        )
    named = value[kind]
    if kind != "link" and (not isinstance(named, str) or not named):
        raise ConfigError(f"{where}: {kind} must be a name, got {named!r}")
    if kind == "cursor" and not isinstance(value.get("param"), str):
        raise ConfigError(f"{where}: a cursor needs param, the parameter that it goes into")
    first = value.get("first", 1)
    if isinstance(first, bool) or not isinstance(first, int):
        raise ConfigError(f"{where}: first must be a whole number, got {first!r}")
    return Paginate(
        kind,
        _path(value[kind], where) if kind in ("cursor", "next") else (),
        value["param"] if kind == "cursor" else named if kind in ("page", "offset") else "",
        _path(value.get("items", ""), where),
        _count(value.get("pages", 10), f"{where}: pages"),
        None if value.get("max_items") is None else _count(value["max_items"], f"{where}: max_items"),
        _path(value.get("more", ""), where),
        _path(value.get("total", ""), where),
        first,
    )


def _path(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise ConfigError(f"{where} has a path that is not text: {value!r}")
    return tuple(value.split(".")) if value else ()


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where} must be a whole number of at least 1, got {value!r}")
    return value
