"""Fetches the pages of an answer, and puts their items together.

What comes back is the last page with the items of all: where a limit stopped it, its cursor says where to go on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ToolError
from lllm.proxies.answer import at
from lllm.proxies.encoding import encode, scalar
from lllm.proxies.exchange import within
from lllm.proxies.request import HttpRequest

if TYPE_CHECKING:
    from lllm.proxies.client import Call, Page
    from lllm.proxies.paginate import Paginate

_LINKS: Final = re.compile(
    r'<([^<>]*)>((?:\s*;\s*[\w!#$&+.^`|~*-]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;<>]*))?)*)'
)
_OPTION: Final = re.compile(r';\s*([\w!#$&+.^`|~*-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;<>]*)))?')


async def all_pages(
    call: Call,
    arguments: Mapping[str, Any],
    fetch: Callable[[Call, HttpRequest], Awaitable[Page]],
) -> Any:
    """The answer with the items of all its pages, up to the limits that `paginate` declares.

    Raises:
        What a single request raises, of any page: an answer with half of the items would look like a whole one.
    """
    paginate = call.endpoint.paginate
    assert paginate is not None
    given = dict(arguments)
    name = _argument(call, paginate.param)
    if paginate.kind in ("page", "offset") and given.get(name) is None:
        given[name] = _default(call, name, paginate.first if paginate.kind == "page" else 0)
    request = _request(call, given, name)
    items: list[Any] = []
    last: Any = None
    last_items: list[Any] = []
    seen: set[str] = set()
    size, n = 0, 0
    while True:
        page = await fetch(call, request)
        n, size = n + 1, size + page.size
        found = at(page.value, paginate.items)
        if not isinstance(found, list):
            if n > 1:
                _note(
                    call,
                    f"page {n} has no list at '{'.'.join(paginate.items) or '.'}': it was left out",
                    n,
                    items,
                )
                break
            if page.value is not None:
                _note(
                    call,
                    f"the answer has no list at '{'.'.join(paginate.items) or '.'}', so it has one page",
                    n,
                    items,
                )
            return page.value
        if n > 1 and found and found == last_items and paginate.kind in ("page", "offset"):
            _note(call, "the same page came twice: the server ignores its number", n, items)
            break
        last, last_items = page.value, found
        items += found
        stop = _stop(call, paginate, n, items, size)
        following = _next(call, paginate, page, request, given, name, found, items)
        if following is None:
            break
        if stop is not None:
            _note(call, stop, n, items)
            break
        place = following if isinstance(following, str) else f"{name}={following[0]}"
        if place in seen:
            _note(call, "the next page was there before: the server does not go on", n, items)
            break
        seen.add(place)
        if isinstance(following, str):
            request = HttpRequest(request.method, request.origin, following, request.headers, request.body)
        else:
            given[name] = following[0]
            request = _request(call, given, name)
    most = paginate.max_items
    return _with(last, paginate.items, items if most is None else items[:most])


def _stop(call: Call, paginate: Paginate, n: int, items: Sequence[Any], size: int) -> str | None:
    """Why no further page is fetched, though there may be one."""
    if n >= paginate.pages:
        return f"there may be more than the {n} pages that one call fetches"
    if paginate.max_items is not None and len(items) >= paginate.max_items:
        return f"there may be more than the {paginate.max_items} items that one call fetches"
    if size >= call.proxy.max_bytes:
        return f"there may be more than the {call.proxy.max_bytes:,} bytes that one call fetches"
    return None


def _next(
    call: Call,
    paginate: Paginate,
    page: Page,
    request: HttpRequest,
    given: Mapping[str, Any],
    name: str,
    found: Sequence[Any],
    items: Sequence[Any],
) -> str | tuple[Any] | None:
    """The target of the next page, or the value of its parameter; None where this is the last."""
    if paginate.more and not at(page.value, paginate.more):
        return None
    total = at(page.value, paginate.total) if paginate.total else None
    if isinstance(total, int) and len(items) >= total:
        return None
    if paginate.kind in ("link", "next"):
        link = next_link(page.headers) if paginate.kind == "link" else at(page.value, paginate.source)
        if not isinstance(link, str) or not link:
            return None
        target = within(request, link)
        if target is None:
            _note(call, "the next page is on another server, and is not fetched", 0, items)
        return target
    if paginate.kind == "cursor":
        cursor = at(page.value, paginate.source)
        usable = isinstance(cursor, str | int) and not isinstance(cursor, bool) and cursor != ""
        return (cursor,) if usable else None
    if not found:
        return None
    before = given[name]
    if isinstance(before, bool) or not isinstance(before, int):
        raise ToolError(f"'{call.endpoint.address}': '{name}' must be a whole number, got {before!r}")
    return (before + (1 if paginate.kind == "page" else len(found)),)


def next_link(headers: Mapping[str, str]) -> str | None:
    """The URL with rel=next in the header `Link` (RFC 8288)."""
    values = headers.getall("Link", ()) if hasattr(headers, "getall") else [headers.get("Link", "")]
    for value in values:
        for url, options in _LINKS.findall(value[:16_384]):
            for name, quoted, plain in _OPTION.findall(options):
                if name.lower() == "rel" and "next" in (quoted or plain).lower().split():
                    return str(url).strip()
    return None


def _argument(call: Call, param: str) -> str:
    """The argument of a parameter that is named as in the request, or as in a call."""
    for one in call.endpoint.parameters:
        if param in (one.name, one.wire):
            return one.name
    return param


def _default(call: Call, name: str, otherwise: int) -> Any:
    for one in call.endpoint.parameters:
        if one.name == name:
            found = one.schema.get("default")
            return otherwise if found is None else found
    return otherwise


def _request(call: Call, given: Mapping[str, Any], name: str) -> HttpRequest:
    """The request of a page. A parameter that the endpoint does not declare, so that no caller sees it, is one of the query."""
    request = call.plan.build(given)
    if name and name in given and all(one.name != name for one in call.endpoint.parameters):
        mark = "&" if "?" in request.target else "?"
        request.target += f"{mark}{encode(name)}={encode(scalar(given[name]))}"
    return request


def _with(answer: Any, path: Sequence[str], items: list[Any]) -> Any:
    if not path:
        return items
    if isinstance(answer, list):
        return [_with(one, path[1:], items) if str(n) == path[0] else one for n, one in enumerate(answer)]
    return {**answer, path[0]: _with(answer[path[0]], path[1:], items)}


def _note(call: Call, text: str, pages: int, items: Sequence[Any]) -> None:
    address = call.endpoint.address
    call.note(
        f"'{address}': {text}",
        of="proxy",
        address=address,
        items=len(items),
        **({"pages": pages} if pages else {}),
    )
