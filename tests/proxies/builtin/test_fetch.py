"""The proxy `fetch`: what it connects to, what it reads, and what a page comes to."""

import asyncio
import gzip
import ipaddress
import socket
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

import lllm
from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
    EndpointTimeout,
    EndpointUnreachable,
    ToolError,
    UnknownKeyError,
)
from lllm.models.parts import File, Image
from lllm.models.render import render_value
from lllm.proxies import Proxy
from lllm.proxies.builtin import pinned
from lllm.proxies.builtin.addresses import not_public
from lllm.proxies.builtin.fetch import Fetch
from tests.servers.api import Api, Raw, api, bytes_server, raw

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def fetch(**options: Any) -> Callable[..., Any]:
    proxy = Proxy(["fetch"], options={"fetch": options})
    return lambda url, **arguments: proxy("fetch.page", url=url, **arguments)


@pytest.fixture
def server() -> Iterator[Api]:
    with api() as one:
        yield one


def port_of(server: Api) -> int:
    return urlsplit(server.url).port or 0


@pytest.fixture
def page(server: Api) -> Callable[..., Any]:
    """Fetches from the server of the test."""
    call = fetch(allow_private=[f"127.0.0.1:{port_of(server)}"])
    return lambda path="/", **arguments: call(server.url + path, **arguments)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """A name server: of each host, what it answers the first time, the second time, and so on."""
    known: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = known[host].pop(0)
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


# --- what may be asked for


@pytest.mark.parametrize(
    "address",
    """168.63.129.16
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255
    192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255 :: ::1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::8.8.8.8 ::127.0.0.1 64:ff9b::8.8.8.8
    64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:808:808::1
    3fff::1 5f00::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1 4000::1""".split(),
)
def test_addresses_that_are_not_public(address: str, names: dict[str, list[list[str]]]) -> None:
    assert not_public(ipaddress.ip_address(address))
    names["name.test"] = [[address]]
    call = fetch(allow=["*"])
    literal = f"[{address}]" if ":" in address else address
    for host in (literal, "name.test"):
        with pytest.raises(EndpointDenied, match="is not public"):
            call(f"http://{host}/")


@pytest.mark.parametrize(
    "address",
    "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 2606:4700::1111 2a00:1450::1".split(),
)
def test_addresses_that_are_public(address: str) -> None:
    assert not not_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("", EndpointRejected, "1 to 4000"),
        ("x" * 5000, EndpointRejected, "1 to 4000"),
        ("docs.test", EndpointRejected, "https://"),
        ("//docs.test/x", EndpointRejected, "https://"),
        ("file:///etc/passwd", EndpointRejected, "https://"),
        ("ftp://docs.test", EndpointRejected, "https://"),
        ("gopher://docs.test:80/x", EndpointRejected, "https://"),
        ("data:text/html,x", EndpointRejected, "https://"),
        ("javascript:x", EndpointRejected, "https://"),
        ("http:/docs.test", EndpointRejected, "https://"),
        ("http:///docs.test", EndpointRejected, "no host"),
        ("http://user@docs.test/", EndpointDenied, "user or a password"),
        ("http://user:pass@docs.test/", EndpointDenied, "user or a password"),
        ("http://@docs.test/", EndpointDenied, "user or a password"),
        ("http://docs.test@other.test/", EndpointDenied, "user or a password"),
        ("http://docs.test\\@other.test/", EndpointRejected, "backslashes"),
        ("http://docs.test/a b", EndpointRejected, "white space"),
        ("http://docs.test/\r\nHost: x", EndpointRejected, "white space"),
        ("http://do\tcs.test/", EndpointRejected, "white space"),
        ("http://docs.test\0.other.test/", EndpointRejected, "control"),
        ("http://\u202edocs.test/", EndpointRejected, "control"),
        ("http://docs.test:99999/", EndpointRejected, "no host"),
        ("http://docs.test:0/", EndpointRejected, "no host"),
        ("http://docs.test:x/", EndpointRejected, "no host"),
        ("http://docs..test/", EndpointRejected, "not a host"),
        ("http://docs%2etest/", EndpointRejected, "not a host"),
        ("http://[::1", EndpointRejected, "no host"),
        ("http://[::1]@", EndpointRejected, "no host"),
        ("http://[::1%25lo]/", EndpointRejected, "not a host"),
        ("http://127.1/", EndpointRejected, "four decimal"),
        ("http://2130706433/", EndpointRejected, "four decimal"),
        ("http://0x7f000001/", EndpointRejected, "four decimal"),
        ("http://0x7f.0.0.1/", EndpointRejected, "four decimal"),
        ("http://0177.0.0.1/", EndpointRejected, "four decimal"),
        ("http://127.0.0.0x1/", EndpointRejected, "four decimal"),
        ("http://017700000001/", EndpointRejected, "four decimal"),
        ("http://127.0.0.1.2/", EndpointRejected, "four decimal"),
        ("http://0/", EndpointRejected, "four decimal"),
        ("http://127.0.0.1./", EndpointDenied, "not allowed"),
        ("http://127\u30020\u30020\u30021/", EndpointDenied, "not allowed"),
        ("http://\uff11\uff12\uff17.0.0.1/", EndpointDenied, "not allowed"),
        ("http://other.test/", EndpointDenied, "Allowed: docs.test, *.example.test:8080"),
        ("http://docs.test:8080/", EndpointDenied, "docs.test:8080 is not allowed"),
        ("http://docs.test:443/", EndpointDenied, "not allowed"),
        ("https://docs.test:80/", EndpointDenied, "not allowed"),
        ("http://docs.test.other.test/", EndpointDenied, "not allowed"),
        ("http://xdocs.test/", EndpointDenied, "not allowed"),
        ("http://example.test:8080/", EndpointDenied, "not allowed"),
        ("http://a.example.test/", EndpointDenied, "not allowed"),
        ("http://xexample.test:8080/", EndpointDenied, "not allowed"),
    ],
)
def test_urls_that_are_refused(url: str, error: type[EndpointError], words: str) -> None:
    call = fetch(allow=["docs.test", "*.example.test:8080"])
    with pytest.raises(error) as caught:
        call(url)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the option 'allow'"),
        ({"allow": []}, "needs the option 'allow'"),
        ({"allow": "docs.test"}, "must be a list of texts"),
        ({"allow": ["https://docs.test"]}, "a port that is not one"),
        ({"allow": ["docs.test/x"]}, "not a host"),
        ({"allow": ["*docs.test"]}, "not a host"),
        ({"allow": ["a.*.test"]}, "not a host"),
        ({"allow": ["*."]}, "not a host"),
        ({"allow": ["127.1"]}, "not a host"),
        ({"allow": [""]}, "not a host"),
        ({"allow": ["docs.test:0"]}, "a port that is not one"),
        ({"allow_private": ["localhost:80"]}, "not an address or network"),
        ({"allow_private": ["10.0.0.1/8"]}, "not an address or network"),
        ({"allow_private": ["*"]}, "not an address or network"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fetch(**options)
    with pytest.raises(UnknownKeyError):
        fetch(allow=["*"], allowed=["*"])


def test_hosts_that_are_allowed(names: dict[str, list[list[str]]]) -> None:
    """They come as far as the look-up of their name."""
    call = fetch(allow=["docs.test", "*.example.test", "B\u00fccher.test:8080", "[2606:4700::1111]:81"])
    for url in (
        "http://docs.test/x#y",
        "https://docs.test",
        "HTTPS://DOCS.TEST:443",
        "http://docs.test.:80/",
        "http://a.example.test/",
        "http://a.b.example.test/?x=y@z",
        "http://b\u00fccher.test:8080/\u00fc",
        "http://xn--bcher-kva.test:8080/",
    ):
        names[(urlsplit(url).hostname or "").rstrip(".").encode("idna").decode()] = []
        with pytest.raises(EndpointUnreachable, match="was not found"):
            call(url)


# --- where it connects to


def test_a_private_address_needs_an_entry_of_its_own(server: Api) -> None:
    with pytest.raises(EndpointDenied, match="not public"):
        fetch(allow=[f"127.0.0.1:{port_of(server)}"])(server.url)
    with pytest.raises(EndpointDenied, match="not allowed"):
        fetch(allow=["*"], allow_private=["127.0.0.1:1"])(server.url)
    assert not server.asked
    fetch(allow_private=[f"127.0.0.0/8:{port_of(server)}"])(server.url)
    assert len(server.asked) == 1


def test_names_need_both(server: Api, names: dict[str, list[list[str]]]) -> None:
    port = port_of(server)
    names["wiki.test"] = [["127.0.0.1"], ["127.0.0.1"]]
    assert fetch(allow=[f"wiki.test:{port}"], allow_private=[f"127.0.0.1:{port}"])(
        f"http://wiki.test:{port}/"
    )
    with pytest.raises(EndpointDenied, match=r"leads to 127\.0\.0\.1, which is not public"):
        fetch(allow=[f"wiki.test:{port}"])(f"http://wiki.test:{port}/")
    assert server.last.headers["Host"] == f"wiki.test:{port}"
    assert len(server.asked) == 1


def test_a_name_is_looked_up_once(server: Api, names: dict[str, list[list[str]]]) -> None:
    """A name server that answers otherwise the second time is not asked a second time."""
    port = port_of(server)
    names["rebind.test"] = [["127.0.0.1"], ["10.9.9.9"], ["10.9.9.9"]]
    call = fetch(allow=[f"rebind.test:{port}"], allow_private=[f"127.0.0.1:{port}"])
    assert call(f"http://rebind.test:{port}/")["data"]["target"] == "/"
    assert len(names["rebind.test"]) == 2
    with pytest.raises(EndpointDenied, match=r"10\.9\.9\.9"):
        call(f"http://rebind.test:{port}/")


def test_one_bad_address_among_good_ones_is_enough(names: dict[str, list[list[str]]]) -> None:
    names["mixed.test"] = [["8.8.8.8", "127.0.0.1"]]
    with pytest.raises(EndpointDenied, match=r"127\.0\.0\.1"):
        fetch(allow=["*"])("http://mixed.test/")


def test_a_socket_is_made_for_checked_addresses_alone(server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands between the check and the connection: the last look is at the socket."""
    real = pinned.look_up

    async def lying(target: Any) -> Any:
        await real(target)
        return [ipaddress.ip_address("8.8.8.8")]

    monkeypatch.setattr(pinned, "look_up", lying)
    with pytest.raises(EndpointUnreachable, match="was not checked"):
        fetch(allow_private=[f"127.0.0.1:{port_of(server)}"])(server.url)
    assert not server.asked


def test_redirects_are_followed_and_checked(
    server: Api, page: Callable[..., Any], names: dict[str, list[list[str]]]
) -> None:
    links = {"/1": "/2", "/2": f"{server.url}/3?a=b#c", "/3": "4/../5"}

    async def answer(request: web.Request) -> web.Response:
        if request.path in links:
            return web.Response(status=302, headers={"Location": links[request.path]})
        return web.Response(text="end", content_type="text/plain")

    server.answer = answer
    assert page("/1")["source"] == f"{server.url}/5"
    assert page("/1")["text"] == "end"


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("http://169.254.169.254/latest/meta-data/", "not allowed"),
        ("http://other.test/", "not allowed"),
        ("//other.test/", "not allowed"),
        ("http://127.0.0.1:1/", "not allowed"),
        ("http://user@127.0.0.1/", "user or a password"),
        ("file:///etc/passwd", "https://"),
        ("http://0x7f000001/", "four decimal"),
        ("http://[::ffff:127.0.0.1]/", "not allowed"),
        ("\\\\other.test\\x", "not a URL"),
        ("http://[", "not a URL"),
        ("//[::1]@", "not a URL"),
    ],
)
def test_redirects_that_are_refused(server: Api, page: Callable[..., Any], link: str, words: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": link})

    server.answer = answer
    with pytest.raises(EndpointError) as caught:
        page("/")
    assert words in str(caught.value)
    assert "redirects to" in str(caught.value)
    assert len(server.asked) == 1


def test_a_redirect_is_looked_up_and_checked_too(server: Api, names: dict[str, list[list[str]]]) -> None:
    port = port_of(server)
    names["good.test"], names["bad.test"] = [["127.0.0.1"]], [["169.254.169.254"]]
    server.answer = [(302, {"Location": f"http://bad.test:{port}/"}, "")]
    call = fetch(allow=[f"*.test:{port}", f"good.test:{port}"], allow_private=[f"127.0.0.1:{port}"])
    with pytest.raises(EndpointDenied, match=r"leads to 169\.254\.169\.254, which is not public"):
        call(f"http://good.test:{port}/")


def test_a_loop_of_redirects_ends(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [(307, {"Location": "/again"}, "")]
    with pytest.raises(EndpointRejected, match="more than 5 redirects"):
        page("/")
    assert len(server.asked) == 6


def test_forward_proxies_are_not_used(
    server: Api, page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert page("/x")["data"]["target"] == "/x"
    with pytest.raises(EndpointUnreachable, match="forward proxy, which is not used"):
        fetch(allow_private=["127.0.0.1:1"])("http://127.0.0.1:1/")


# --- what comes back


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, EndpointDenied),
        (403, EndpointDenied),
        (404, EndpointNotFound),
        (409, EndpointRejected),
        (410, EndpointNotFound),
        (429, EndpointRateLimited),
        (500, EndpointServerError),
        (503, EndpointServerError),
        (300, EndpointRejected),
        (302, EndpointRejected),
        (304, EndpointRejected),
    ],
)
def test_failures_are_typed(
    server: Api, page: Callable[..., Any], status: int, error: type[EndpointError]
) -> None:
    server.answer = [(status, {"Content-Type": "text/html"}, "<title>Sorry</title>" + "x" * 100_000)]
    with pytest.raises(error) as caught:
        page("/")
    assert caught.value.status == (None if status < 400 else status)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (b"", EndpointUnreachable, "ended the connection"),
        (b"nonsense\r\n\r\n", EndpointAnswerInvalid, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", EndpointUnreachable, "ended too early"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            EndpointUnreachable,
            "ended too early",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
            EndpointAnswerInvalid,
            "cannot be read",
        ),
    ],
)
def test_broken_answers_are_typed(script: bytes, error: type[EndpointError], words: str) -> None:
    with bytes_server(script) as one, pytest.raises(error, match=words):
        fetch(allow_private=[one.url.removeprefix("http://")])(one.url)


def test_a_slow_answer_ends_in_time() -> None:
    async def write(one: Raw, reader: Any, writer: Any, number: int) -> None:
        await one.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nx")
        await writer.drain()
        await reader.read()  # until the client has gone

    with raw(write) as one, pytest.raises(EndpointTimeout, match=r"whole answer within 0\.3 s"):
        fetch(allow_private=[one.url.removeprefix("http://")], timeout=0.3)(one.url)


def test_a_long_page_is_cut_while_it_is_read(server: Api) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": request.query["type"]})
        await response.prepare(request)
        try:
            while True:  # never ends
                await response.write("\u20ac".encode() * 10_000)
        except ConnectionError:
            return response

    server.answer = answer
    call = fetch(allow_private=[f"127.0.0.1:{port_of(server)}"], max_bytes=10_000)
    found = call(f"{server.url}/?type=text/plain")
    assert found["text"] == "\u20ac" * 3333
    assert found["notes"] == ["only the first 10.0 kB were read"]
    for kind in ("image/png", "application/pdf", "application/zip"):
        with pytest.raises(EndpointAnswerInvalid):
            call(f"{server.url}/?type={kind}")


def test_a_bomb_is_cut_unpacked(server: Api) -> None:
    packed = gzip.compress(b"x" * 30_000_000)
    server.answer = [(200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, packed)]
    found = fetch(allow_private=[f"127.0.0.1:{port_of(server)}"], max_bytes=1000)(server.url)
    assert len(found["text"]) == 1000


def test_packed_pages_are_unpacked(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [
        (200, {"Content-Type": "text/plain", "Content-Encoding": "deflate"}, zlib.compress(b"deflated"))
    ]
    assert page()["text"] == "deflated"


@pytest.mark.parametrize("packed", ["gzip, gzip", "foo", "x\x1b[2J"])
def test_what_cannot_be_unpacked_is_refused(packed: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: {packed}\r\nContent-Length: 3\r\n\r\nabc"
    with bytes_server(head.encode()) as one, pytest.raises(EndpointAnswerInvalid) as caught:
        fetch(allow_private=[one.url.removeprefix("http://")])(one.url)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data", "text", "invalid"),
    [
        ("text/plain; charset=iso-8859-1", b"caf\xe9 \x80", "caf\u00e9 \u20ac", False),
        ("text/plain; charset=utf-8", b"caf\xe9!", "caf\ufffd!", True),
        ("text/plain", "caf\u00e9".encode(), "caf\u00e9", False),
        ("text/plain", b"caf\xe9", "caf\u00e9", False),
        ("text/plain; charset=punycode", b"x", "x", False),
        ("text/plain; charset=shift_jis", "\u65e5\u672c".encode("shift_jis"), "\u65e5\u672c", False),
        ("text/plain; charset=utf-16", "x\u00e9".encode("utf-16"), "x\u00e9", False),
        ("text/plain; charset=latin-1", b"\xef\xbb\xbfcaf\xc3\xa9", "caf\u00e9", False),
        ("text/html", b"<meta charset='windows-1251'><p>\xcf\xf0", "\u041f\u0440", False),
        ("text/html", b"<meta charset=utf-16><p>\xc3\xa9", "\u00e9", False),
        ("text/html", b"<?xml version='1.0' encoding='koi8-r'?><p>\xf0", "\u041f", False),
        ("text/html; charset=utf-8", b"<meta charset=windows-1251><p>\xc3\xa9", "\u00e9", False),
        ("text/plain; charset=utf-8", "a\ufffdb".encode(), "a\ufffdb", False),
    ],
)
def test_charsets(
    server: Api, page: Callable[..., Any], kind: str, data: bytes, text: str, invalid: bool
) -> None:
    server.answer = [(200, {"Content-Type": kind}, data)]
    found = page()
    assert found["text"] == text
    assert ("1 invalid characters" in "".join(found.get("notes", []))) is invalid


def test_json_is_data(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [{"a": [1, 2]}]
    assert page() == {"source": f"{server.url}/", "type": "application/json", "data": {"a": [1, 2]}}
    for broken in (b"{", b"[" * 500 + b"]" * 500, b"1" * 5000):
        server.answer = [(200, {"Content-Type": "application/json"}, broken)]
        assert page()["text"] == broken.decode()
    server.answer = [(200, {"Content-Type": "application/json"}, b'[NaN, 1e999, "\\ud800"]')]
    assert page()["data"] == [None, None, "\ufffd"]


def test_images_and_documents(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [(200, {"Content-Type": "image/png"}, PNG)]
    assert page("/a.png") == [f"Source: {server.url}/a.png", Image(PNG, "image/png")]
    server.answer = [(200, {"Content-Type": "application/octet-stream"}, PNG)]
    assert page("/a")[1] == Image(PNG, "image/png")
    server.answer = [(200, {"Content-Type": "application/pdf"}, b"%PDF-1.7 x")]
    assert page("/a/b.pdf?x=y")[1] == File(b"%PDF-1.7 x", "b.pdf", "application/pdf")
    assert page("/")[1].name == "127.0.0.1.pdf" or page("/")[1].name.endswith(".pdf")
    for kind, data in (
        ("image/png", b"<html>"),
        ("application/pdf", b"<html>"),
        ("application/zip", b"PK\x03\x04"),
        ("video/mp4", b"\0\0"),
        ("application/octet-stream", b"\0\1\2"),
        ("", b"\0\1\2"),
        ("text/plain", b""),
        ("text/plain", b"a\0b"),
        ("text/html", b"<p>a\0b"),
    ):
        server.answer = [(200, {"Content-Type": kind}, data)]
        with pytest.raises(EndpointAnswerInvalid):
            page()


def test_a_page_becomes_markdown(server: Api, page: Callable[..., Any]) -> None:
    html = "<title>T</title><script>x</script><h1>Head</h1><p>See <a href='b'>there</a>."
    server.answer = [(200, {"Content-Type": "text/html"}, html)]
    assert page("/a/x") == {
        "source": f"{server.url}/a/x",
        "type": "text/html",
        "title": "T",
        "text": f"# Head\n\nSee [there]({server.url}/a/b).",
    }
    assert page("/a/x", raw=True)["text"] == html
    server.answer = [(200, {"Content-Type": "text/html"}, "<script>x</script>")]
    assert page()["notes"] == ["it has no text: it may be made by scripts, which are not run"]
    server.answer = [(200, {}, "<!DOCTYPE HTML><p>x")]
    assert page()["type"] in ("text/html", "application/octet-stream")


def test_a_page_that_refers_to_another(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [(200, {"Content-Type": "text/html"}, "<meta http-equiv=refresh content='0;url=b'>")]
    assert page("/a/x") == {
        "source": f"{server.url}/a/x",
        "type": "text/html",
        "refers_to": f"{server.url}/a/b",
        "text": "",
    }


def test_what_it_sends(server: Api) -> None:
    call = fetch(allow_private=[f"127.0.0.1:{port_of(server)}"], headers={"Accept-Language": "de"})
    call(f"{server.url}/\u00fc?q=\u00e4#part")
    asked = server.last
    assert (asked.method, asked.target) == ("GET", "/%C3%BC?q=%C3%A4")
    assert asked.headers["User-Agent"].startswith("lllm/")
    assert asked.headers["Accept-Language"] == "de"
    assert not {"Cookie", "Authorization"} & set(asked.headers)


def test_nothing_is_fetched_with_a_cutoff_date(server: Api) -> None:
    options = {"fetch": {"allow_private": [f"127.0.0.1:{port_of(server)}"]}}
    proxy = Proxy(["fetch"], cutoff_date="2024-01-01", options=options)
    with pytest.raises(EndpointDenied, match=r"cutoff date \(2024-01-01\)"):
        proxy("fetch.page", url=server.url)
    assert not server.asked
    proxy.deploy_mode = True
    assert proxy("fetch.page", url=server.url)


def test_limits_hold_for_all_pages_together(server: Api) -> None:
    allowed = [f"127.0.0.1:{port_of(server)}"]

    class Polite(Fetch, register=False):
        _proxy_path = "polite"
        concurrency = 2

    proxy = Proxy([Polite(allow_private=allowed)])

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.json_response(1)

    async def many() -> None:
        await asyncio.gather(*[proxy.acall("polite.page", url=f"{server.url}/{n}") for n in range(8)])

    server.answer = answer
    asyncio.run(many())
    assert (len(server.asked), server.most) == (8, 2)


def test_no_cookie_is_kept(server: Api, page: Callable[..., Any]) -> None:
    server.answer = [(200, {"Set-Cookie": "a=b", "Content-Type": "text/plain"}, "x")]
    page()
    page()
    assert "Cookie" not in server.last.headers


# --- as a tool


def test_it_is_a_tool_that_says_what_it_does(server: Api) -> None:
    proxy = Proxy(["fetch"], options={"fetch": {"allow": ["*"], "approval": True}})
    tool = proxy.tool("fetch.page")
    assert tool.description.endswith("Allowed: any public host.")
    assert (tool.name, tool.effect, tool.approval) == ("fetch__page", "pure", True)
    assert tool.data == {"untrusted", "outward"}
    assert sorted(tool.parameters["properties"]) == ["raw", "url"]
    other = Proxy(["fetch"], options={"fetch": {"allow": ["*.a.test", "b.test:80"]}})
    assert not other.tool("fetch.page").approval
    assert other.tool("fetch.page").description.endswith("Allowed: *.a.test, b.test:80.")
    assert other.endpoint("fetch.page").example()["url"] == "http://b.test:80/"


def test_a_call_is_recorded_and_replayed(server: Api) -> None:
    options = {"allow_private": [f"127.0.0.1:{port_of(server)}"]}
    proxy = Proxy(["fetch"], options={"fetch": options})
    store, seen = lllm.MemoryLog(), []

    def program() -> None:
        with lllm.record("look", store=store):
            seen.append(proxy("fetch.page", url=f"{server.url}/x"))
            with pytest.raises(ToolError, match="not allowed"):
                proxy("fetch.page", url="http://other.test/")

    program()
    report = lllm.replay_session(store.sessions(1)[0].id, store=store, entry=program)
    assert not report.unrecorded
    assert seen[0] == seen[1]
    assert len(server.asked) == 1
    render_value(seen[0])
