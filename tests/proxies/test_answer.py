"""What answers come to, whole and broken ones."""

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from aiohttp import web

import lllm
from lllm.errors import (
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
    EndpointTimeout,
    EndpointUnreachable,
)
from lllm.models.parts import File, Image
from lllm.proxies import BaseProxy, Header, Proxy
from lllm.proxies.answer import words
from lllm.proxies.credentials import Shown
from tests.proxies.logged import notes
from tests.servers.api import Api, Raw, bytes_server, raw

PNG = b"\x89PNG\r\n\x1a\n rest"


def proxy_to(url: str, *, proxy: dict[str, Any] | None = None, **options: Any) -> Proxy:
    """A proxy with one endpoint, that of `Shop.get`."""

    class Shop(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(endpoint="a", **options)
        def get(self) -> None: ...

    for key, value in (proxy or {}).items():
        setattr(Shop, key, value)
    return Proxy([Shop])


JSON = {"Content-Type": "application/json"}
GOOD = [
    (JSON, b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
    (JSON, b"", None),
    (JSON, b"12345678901234567890123", 12345678901234567890123),
    (JSON, b"\xef\xbb\xbf[1]", [1]),
    (JSON, b'["\\ud800"]', ["\ufffd"]),
    (JSON, b"[NaN, Infinity, 1e999, 1e2]", [None, None, None, 100.0]),
    ({"Content-Type": "application/problem+json"}, b"{}", {}),
    ({"Content-Type": "application/json; charset=utf-16"}, '{"é": 1}'.encode("utf-16"), {"é": 1}),
    ({"Content-Type": "application/json; charset=nonsense"}, '{"é": 1}'.encode(), {"é": 1}),
    ({"Content-Type": "application/json; charset=punycode"}, '{"é": 1}'.encode(), {"é": 1}),
    ({"Content-Type": "text/plain"}, b' {"a": 1}', {"a": 1}),
    ({"Content-Type": "text/html"}, b"[1]", [1]),
    ({"Content-Type": "text/plain"}, b"[draft] text", "[draft] text"),
    ({"Content-Type": "text/plain"}, "é".encode(), "é"),
    ({"Content-Type": "text/plain; charset=latin-1"}, b"\xe9", "é"),
    ({"Content-Type": "text/plain; charset=ascii"}, "é".encode(), "é"),
    ({"Content-Type": "text/plain; charset=unicode_escape"}, b"\\u0041", "\\u0041"),
    ({"Content-Type": "text/csv"}, b"\xef\xbb\xbfa,b", "a,b"),
    ({"Content-Type": "application/xml"}, b"<a/>", "<a/>"),
    ({"Content-Type": "image/png"}, PNG, Image(PNG)),
    ({"Content-Type": "application/pdf"}, b"%PDF\0", File(b"%PDF\0", "get", "application/pdf")),
    ({"Content-Type": "not a type"}, b"\0\xff", File(b"\0\xff", "get", "application/octet-stream")),
    ({"Content-Type": "application/octet-stream"}, PNG, Image(PNG)),
    ({"Content-Type": "application/octet-stream"}, b"text", "text"),
    (
        {"Content-Type": "application/zip", "Content-Disposition": 'attachment; filename="../../etc/x.zip"'},
        b"PK",
        File(b"PK", "x.zip", "application/zip"),
    ),
]


@pytest.mark.parametrize(("headers", "body", "value"), GOOD)
async def test_values(server: Api, headers: dict[str, str], body: bytes, value: Any) -> None:
    server.answer = [(200, headers, body)]
    assert await proxy_to(server.url).acall("Shop.get") == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"text", "text"),
        (PNG, Image(PNG)),
        (b"\0\xff", File(b"\0\xff", "get")),
        (b"", None),
    ],
)
async def test_values_without_a_content_type(body: bytes, value: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with bytes_server(head + body) as one:
        assert await proxy_to(one.url).acall("Shop.get") == value


async def test_text_is_text_where_json_is_not_asked_for(server: Api) -> None:
    server.answer = [(200, {"Content-Type": "text/html"}, "<html>x</html>")]
    assert await proxy_to(server.url, accept="text/html").acall("Shop.get") == "<html>x</html>"


BAD = [
    (JSON, b"{", "is not JSON"),
    (JSON, b"OK", "is not JSON"),
    (JSON, b'"\xff"', "not valid UTF-8"),
    (JSON, b"[" * 100_000 + b"]" * 100_000, "nested"),
    (JSON, b"[" * 190 + b"]" * 190, "nested more than 180 deep"),
    (JSON, b"1" * 5000, "is not JSON"),
    ({"Content-Type": "text/plain"}, b"\xff\xfe\x00\xd8", "not valid utf-16"),
    ({"Content-Type": "text/plain"}, b"a\xff", r"not valid utf-8 \(byte 0xff at 1\)"),
    (
        {"Content-Type": "text/html"},
        b"<html><title>Log\x1b[31m in</title>",
        r"HTML with the title 'Log\\\\x1b\[31m in', not JSON",
    ),
]


@pytest.mark.parametrize(("headers", "body", "said"), BAD)
async def test_answers_that_cannot_be_read(
    server: Api, headers: dict[str, str], body: bytes, said: str
) -> None:
    server.answer = [(200, headers, body)]
    with pytest.raises(EndpointAnswerInvalid, match=said):
        await proxy_to(server.url).acall("Shop.get")
    assert len(server.asked) == 1


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("first", [True, False])
async def test_an_answer_is_not_read_beyond_its_limit(server: Api, compressed: bool, first: bool) -> None:
    size = 50_000_000

    async def answer(request: web.Request) -> web.StreamResponse:
        if len(server.asked) == 1 and not first:
            return web.json_response(1)
        if compressed:  # fifty kilobytes that become fifty megabytes
            packer = zlib.compressobj(9, wbits=31)
            data = packer.compress(b" " * size) + packer.flush()
            return web.Response(body=data, headers={**JSON, "Content-Encoding": "gzip"})
        response = web.StreamResponse(headers=JSON)
        await response.prepare(request)
        try:
            for _ in range(size // 50_000):
                await response.write(b" " * 50_000)
        except ConnectionError:
            cut.append(True)
            raise
        return response

    cut: list[bool] = []
    server.answer = answer
    proxy = proxy_to(server.url, proxy={"max_bytes": 100_000})
    if not first:
        await proxy.acall("Shop.get")
    with pytest.raises(EndpointAnswerInvalid, match="more than 100,000 bytes"):
        await proxy.acall("Shop.get")


async def test_compressed_answers(server: Api) -> None:
    body = gzip.compress(b'{"a": 1}')
    server.answer = [(200, {**JSON, "Content-Encoding": "gzip"}, body)]
    proxy = proxy_to(server.url)
    assert [await proxy.acall("Shop.get") for _ in range(2)] == [{"a": 1}] * 2


# --- statuses


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, EndpointRejected), (401, EndpointDenied), (403, EndpointDenied), (404, EndpointNotFound),
        (407, EndpointDenied), (408, EndpointServerError), (409, EndpointRejected), (410, EndpointNotFound),
        (418, EndpointRejected), (422, EndpointRejected), (429, EndpointRateLimited), (500, EndpointServerError),
        (503, EndpointServerError), (599, EndpointServerError), (304, EndpointRejected), (300, EndpointRejected),
    ],
)  # fmt: skip
async def test_statuses(server: Api, status: int, kind: type[EndpointError]) -> None:
    server.answer = [(status, {}, "no \x1b[2Jsuch\nthing" + "x" * 10_000)]
    with pytest.raises(kind) as caught:
        await proxy_to(server.url, effect="ask").acall("Shop.get")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.address, error.sent) == (status, "Shop.get", True)
    assert f"answered {status}" in error.message
    if status != 304:
        assert "no \\x1b[2Jsuch thingxxx" in error.message
    assert len(error.message) < 700
    assert len(server.asked) == 1


async def test_a_limit_that_is_a_403(server: Api) -> None:
    server.answer = [(403, {"Retry-After": "9999"}, "")]
    with pytest.raises(EndpointRateLimited) as caught:
        await proxy_to(server.url).acall("Shop.get")
    assert caught.value.retry_after == 9999


async def test_an_error_in_html_is_its_title(server: Api) -> None:
    server.answer = [
        (404, {"Content-Type": "text/html"}, "<html><style>p{}</style><title>Not  here</title><p>x")
    ]
    with pytest.raises(EndpointNotFound, match=r"404 Not Found: Not here$"):
        await proxy_to(server.url).acall("Shop.get")


async def test_an_error_that_is_not_text(server: Api) -> None:
    server.answer = [(500, {}, b"\0\xff" * 100)]
    with pytest.raises(EndpointServerError, match="200 bytes that are not text"):
        await proxy_to(server.url, effect="ask").acall("Shop.get")


@pytest.mark.parametrize("body", ['{"error": "quota\\u0000 used"}', '{"error": {"code": 7}}'])
async def test_an_error_with_status_200(server: Api, body: str) -> None:
    server.answer = [(200, JSON, body)]
    with pytest.raises(EndpointRejected, match=r'answered 200 with an error: (quota|{"code": 7})'):
        await proxy_to(server.url, errors="error").acall("Shop.get")
    assert await proxy_to(server.url).acall("Shop.get") == json.loads(body)


# --- the declared response


async def test_an_answer_that_does_not_fit_is_noted(server: Api) -> None:
    server.answer = [{"n": "one"}]
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        assert await proxy_to(server.url, response=schema).acall("Shop.get") == {"n": "one"}
    (note,) = notes(store, session.id)
    assert note["text"].startswith("'Shop.get': the answer does not fit the declared response: ")
    assert note["address"] == "Shop.get"
    with pytest.raises(EndpointAnswerInvalid, match="does not fit the declared response"):
        await proxy_to(server.url, response=schema, strict=True).acall("Shop.get")


async def test_a_declared_response_that_is_no_schema_says_nothing(server: Api) -> None:
    assert await proxy_to(server.url, response={"type": "object", "properties": 3}).acall("Shop.get")


# --- servers that break

BROKEN = [
    (b"", EndpointUnreachable, "ended before an answer"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", EndpointUnreachable, "ended within the answer"),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        EndpointUnreachable,
        "ended within the answer",
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        EndpointAnswerInvalid,
        "answer",
    ),
    (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        EndpointAnswerInvalid,
        "cannot be read",
    ),
    (b"SSH-2.0-OpenSSH_9\r\n\r\n", EndpointAnswerInvalid, "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", EndpointAnswerInvalid, "not HTTP"),
    (b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", EndpointServerError, "answered 999"),
    (
        b"HTTP/1.1 101 Upgrade\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        EndpointAnswerInvalid,
        "answered 101",
    ),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]GARBAGE", EndpointAnswerInvalid, "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", EndpointAnswerInvalid, "not HTTP"),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("answer", "kind", "said"), BROKEN)
async def test_servers_that_break(answer: bytes, kind: type[EndpointError], said: str, first: bool) -> None:
    whole = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]"
    with bytes_server(*([answer] if first else [whole, answer])) as one:
        proxy = proxy_to(one.url, effect="ask")
        if not first:
            assert await proxy.acall("Shop.get") == []
        with pytest.raises(kind, match=said) as caught:
            await proxy.acall("Shop.get")
    assert type(caught.value) is kind
    assert caught.value.sent
    assert caught.value.__context__ is None
    assert len(one.heads) == 1 + (not first)  # nothing is sent twice


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[1]", [1]),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "hello"),
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nX-Trailer: 1\r\n\r\n",
            [],
        ),
    ],
)
async def test_old_and_odd_servers(answer: bytes, value: Any) -> None:
    with bytes_server(answer) as one:
        proxy = proxy_to(one.url, effect="ask")
        assert [await proxy.acall("Shop.get") for _ in range(2)] == [value, value]


async def test_nobody_listens() -> None:
    with bytes_server(b"") as one:
        url = one.url
    with pytest.raises(EndpointUnreachable, match="no connection to http://127") as caught:
        await proxy_to(url, effect="ask", timeout=0.5).acall("Shop.get")
    assert not caught.value.sent


@pytest.mark.parametrize("begun", [False, True])
async def test_a_server_that_is_slow(begun: bool) -> None:
    async def script(one: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await one.head(reader)
        if begun:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:  # a drip keeps no answer alive
            if begun:
                writer.write(b" ")
                await writer.drain()
            await asyncio.sleep(0.01)

    with raw(script) as one, pytest.raises(EndpointTimeout, match=r"within 0.3") as caught:
        await proxy_to(one.url, effect="ask", timeout=0.3).acall("Shop.get")
    assert caught.value.sent
    assert "Whether it took effect is not known" in str(caught.value)


async def test_early_hints_are_no_answer() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]"
    with bytes_server(answer) as one:
        proxy = proxy_to(one.url)
        assert [await proxy.acall("Shop.get") for _ in range(2)] == [[], []]


PAGES = {
    "titles": b"<html>" + b"<title>" * 9000, "open titles": b"<html>" + b"<title" * 10_000,
    "scripts": b"<html>" + b"<script>" * 8000, "brackets": b"<html>" + b"<" * 65_000,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PAGES))
def test_words_of_a_hostile_page_take_linear_time(name: str) -> None:
    """They are looked for in the event loop, where everybody would wait."""
    began = time.process_time()
    words(PAGES[name], "text/html", Shown())
    assert time.process_time() - began < 1


def test_words_of_a_page() -> None:
    page = b"<html><script>x = '<b>'</script><style>p {}</style><p>Not &lt;found&gt;</p><!-- no --></html>"
    assert words(page, "text/html", Shown()) == "Not <found>"
    assert words(b"<html><title lang=en> Gone\n away </title><p>x", "", Shown()) == "Gone away"


@pytest.mark.parametrize("text", ["&#" + "9" * 5000 + ";", "&#x" + "f" * 5000 + ";", "&" * 5000])
async def test_no_escape_is_an_error(server: Api, text: str) -> None:
    """Where credentials are sent, answers are read unescaped as well."""
    server.answer = [(200, JSON, json.dumps({"a": text}).encode())]
    shop = proxy_to(server.url, proxy={"auth": Header("X-Key", env="K")})
    shop._variables = {"K": "a-secret-of-some-length"}
    assert (await shop.acall("Shop.get")) == {"a": text}


async def test_a_large_answer_that_does_not_fit_is_judged_quickly(server: Api) -> None:
    """All that is wrong with it would take seconds to say, while everybody waits."""
    server.answer = [(200, JSON, json.dumps({"a": ["x"] * 300_000}).encode())]
    wanted = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    shop = proxy_to(server.url, response=wanted, strict=True)
    began = time.process_time()
    with pytest.raises(EndpointAnswerInvalid, match=r'\$\.answer\.a\[0\]: "x" is not an integer'):
        await shop.acall("Shop.get")
    assert time.process_time() - began < 2


def test_percent_signs_do_not_fill_the_memory() -> None:
    tracemalloc.start()
    try:
        assert Shown().text("%" * 1_000_000) == "%" * 1_000_000
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
