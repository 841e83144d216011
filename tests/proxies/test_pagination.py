"""Pages of an answer, put together."""

from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

import lllm
from lllm.errors import ConfigError, EndpointAnswerInvalid, EndpointServerError, UnknownKeyError
from lllm.proxies import BaseProxy, Proxy, Query
from lllm.proxies.paginate import parse_paginate
from lllm.proxies.pagination import next_link
from tests.proxies.logged import notes
from tests.servers.api import Api, api

ALL = list(range(25))


def proxy_to(url: str, paginate: Any, **options: Any) -> Proxy:
    class Shop(BaseProxy, register=False):
        base_url = url
        auth = Query("key", env="PASS_A")

        @BaseProxy.endpoint(
            **{
                "endpoint": "rows",
                "paginate": paginate,
                "params": {"cursor": str, "page": int, "offset": int, "q": str},
                **options,
            }
        )
        def rows(self) -> None: ...

    return Proxy([Shop], variables={"PASS_A": "the-key-of-the-shop"})


def paged(kind: str, *, size: int = 10, total: int = 25) -> Any:
    """A server with one way of paging."""

    async def answer(request: web.Request) -> web.Response:
        given = request.query
        page = int(given.get("page", 1))
        start = {
            "cursor": int(given.get("cursor", "c0")[1:]),
            "page": (page - 1) * size,
            "offset": int(given.get("offset", 0)),
            "next": int(given.get("from", 0)),
            "link": int(given.get("from", 0)),
        }[kind]
        rows = list(range(start, min(start + size, total)))
        more = start + size < total
        url = f"/rows?from={start + size}&q={quote(given.get('q', ''))}&key={given.get('key', '')}"
        found: dict[str, Any] = {"data": {"rows": rows}, "more": more, "total": total}
        if kind == "cursor":
            found["meta"] = {"next": f"c{start + size}" if more else None}
        if kind == "next":
            found["meta"] = {"next": url if more else None}
        headers = {"Link": f'<{url}>; title="a, b; rel=x"; rel="last next", <x>; rel=prev'} if more else {}
        return web.json_response(found, headers=headers)

    return answer


@pytest.mark.parametrize(
    ("paginate", "requests"),
    [
        ({"cursor": "meta.next", "param": "cursor"}, 3),
        ({"page": "page"}, 4),
        ({"page": "page", "more": "more"}, 3),
        ({"page": "page", "total": "total"}, 3),
        ({"offset": "offset"}, 4),
        ({"offset": "offset", "total": "total"}, 3),
        ({"next": "meta.next"}, 3),
        ({"link": True}, 3),
    ],
)
async def test_every_way(server: Api, paginate: dict[str, Any], requests: int) -> None:
    server.answer = paged(next(iter(paginate)))
    found = await proxy_to(server.url, {**paginate, "items": "data.rows"}).acall("Shop.rows", q="x&y")
    assert found["data"]["rows"] == ALL
    assert found["total"] == 25
    assert len(server.asked) == requests
    for asked in server.asked:
        assert [pair for pair in asked.pairs if pair[0] in ("q", "key")] == [
            ("q", "x&y"),
            ("key", "the-key-of-the-shop"),
        ]


async def test_a_bare_list_with_links(server: Api) -> None:
    async def answer(request: web.Request) -> web.Response:
        n = int(request.query.get("n", 0))
        headers = {"Link": f"<{server.url}/rows?n={n + 1}>; rel=next"} if n < 2 else {}
        return web.json_response([n], headers=headers)

    server.answer = answer
    assert await proxy_to(server.url, "link").acall("Shop.rows") == [0, 1, 2]


async def test_it_begins_where_the_caller_says(server: Api) -> None:
    server.answer = paged("page")
    proxy = proxy_to(server.url, {"page": "page", "items": "data.rows"})
    assert (await proxy.acall("Shop.rows", page=3))["data"]["rows"] == [20, 21, 22, 23, 24]
    server.answer = paged("offset")
    proxy = proxy_to(server.url, {"offset": "start", "items": "data.rows", "pages": 2}, params={})
    await proxy.acall("Shop.rows")
    assert [asked.pairs[0] for asked in server.asked[-2:]] == [("start", "0"), ("start", "10")]


@pytest.mark.parametrize(
    ("limit", "rows", "requests", "said"),
    [
        ({"pages": 2}, 20, 2, "more than the 2 pages"),
        ({"pages": 1}, 10, 1, "more than the 1 pages"),
        ({"max_items": 15}, 15, 2, "more than the 15 items"),
        ({"max_items": 25}, 25, 3, ""),
    ],
)
async def test_limits_are_told(
    server: Api, limit: dict[str, int], rows: int, requests: int, said: str
) -> None:
    server.answer = paged("cursor")
    proxy = proxy_to(server.url, {"cursor": "meta.next", "param": "cursor", "items": "data.rows", **limit})
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        found = await proxy.acall("Shop.rows")
    assert found["data"]["rows"] == ALL[:rows]
    assert len(server.asked) == requests
    told = notes(store, session.id)
    assert [said in note["text"] for note in told] == ([True] if said else [])
    if said:
        assert found["meta"]["next"] == f"c{requests * 10}"  # where to go on


@pytest.mark.parametrize("kind", ["cursor", "page", "next", "link"])
async def test_a_server_that_does_not_go_on(server: Api, kind: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        found = {"rows": [1, 2], "next": "same" if kind == "cursor" else "/rows?n=1"}
        return web.json_response(found, headers={"Link": "</rows?n=1>; rel=next"})

    server.answer = answer
    source = {
        "cursor": {"cursor": "next", "param": "cursor"},
        "page": {"page": "page"},
        "next": {"next": "next"},
        "link": {"link": True},
    }
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        found = await proxy_to(server.url, {**source[kind], "items": "rows", "pages": 100}).acall("Shop.rows")
    assert len(server.asked) == 2
    assert found["rows"] == ([1, 2] if kind == "page" else [1, 2, 1, 2])
    assert len(notes(store, session.id)) == 1


async def test_no_page_of_another_server(server: Api) -> None:
    with api() as other:
        server.answer = [
            (200, {"Content-Type": "application/json", "Link": f"<{other.url}/rows>; rel=next"}, "[1]")
        ]
        assert await proxy_to(server.url, "link").acall("Shop.rows") == [1]
        assert other.asked == []


@pytest.mark.usefixtures("soon")
async def test_a_page_that_fails(server: Api) -> None:
    page = {"rows": [1], "next": "a"}
    server.answer = [page, 503, {**page, "next": "b"}, 500]
    proxy = proxy_to(server.url, {"cursor": "next", "param": "cursor", "items": "rows"})
    with pytest.raises(EndpointServerError):  # half of the items would look like all of them
        await proxy.acall("Shop.rows")
    assert [dict(asked.pairs).get("cursor") for asked in server.asked] == [None, "a", "a", "b", "b", "b"]


@pytest.mark.parametrize("answer", [{"error": 1}, {"rows": None}, {"rows": {"a": 1}}, "text", None, 2.5])
async def test_answers_without_a_list(server: Api, answer: Any) -> None:
    server.answer = [answer if answer is not None else (204, {}, b"")]
    assert await proxy_to(server.url, {"page": "page", "items": "rows"}).acall("Shop.rows") == answer
    assert len(server.asked) == 1


async def test_all_pages_together_are_limited(server: Api) -> None:
    server.answer = paged("page", size=1000, total=10**9)
    proxy = proxy_to(server.url, {"page": "page", "items": "data.rows", "pages": 1000})
    type(proxy.proxies["Shop"]).max_bytes = 20_000
    found = await proxy.acall("Shop.rows")
    assert len(server.asked) < 6
    assert len(found["data"]["rows"]) == 1000 * len(server.asked)
    type(proxy.proxies["Shop"]).max_bytes = 100
    with pytest.raises(EndpointAnswerInvalid):
        await proxy.acall("Shop.rows")


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<a>; rel="next"', "a"), ("<a>;rel=next", "a"), ("<a>; REL=NEXT", "a"), ('<a>; x="rel=next"', None), ("<a>", None),
        ('<a>; rel=prev, <b>; rel="next"', "b"), ('<a,b>; rel="next"', "a,b"), ("a; rel=next", None), ("", None),
        ('<a>; title="; rel=next"; rel=prev', None), ("<" * 10_000, None), ("<a>" + "; x" * 5_000, None),
        ("<a>" + " " * 15_000, None),
    ],
)  # fmt: skip
def test_links(header: str, url: str | None) -> None:
    assert next_link({"Link": header}) == url


@pytest.mark.parametrize(
    "paginate",
    [
        5, {}, {"page": "p", "offset": "o"}, {"cursor": "c"}, {"page": 3}, {"page": "p", "pages": 0},
        {"page": "p", "pages": True},
        {"page": "p", "max_items": 1.5}, {"page": "p", "items": 3}, {"page": "p", "first": "1"},
    ],
)  # fmt: skip
def test_notations_that_cannot_be_read(paginate: Any) -> None:
    with pytest.raises(ConfigError, match="here: paginate"):
        parse_paginate(paginate, "here", "pure")


def test_pages_of_what_has_an_effect() -> None:
    with pytest.raises(ConfigError, match="must be 'pure'"):
        parse_paginate({"page": "p"}, "here", "ask")
    with pytest.raises(UnknownKeyError):
        parse_paginate({"page": "p", "itmes": "x"}, "here", "pure")
