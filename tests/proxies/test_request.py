"""What an endpoint's arguments come to in a request, seen from the server."""

import asyncio
import base64
import datetime
import json
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

import pytest

import lllm
from lllm.errors import ConfigError, ToolError
from lllm.models.parts import File, Image
from lllm.proxies import BaseProxy, Proxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.request import HttpRequest, RequestPlan
from tests.servers.api import Api


def proxy_of(url: str = "http://h", **options: Any) -> BaseProxy:
    attributes = {key: options.pop(key) for key in ("server_variables", "headers") if key in options}

    class Shop(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(**options)
        def get(self) -> None: ...

    for key, value in attributes.items():
        setattr(Shop, key, value)
    return Shop()


def built(
    params: dict[str, Any], given: dict[str, Any], url: str = "http://h", **options: Any
) -> HttpRequest:
    proxy = proxy_of(url, params=params, **options)
    endpoint: Endpoint = proxy.endpoints()["get"]
    return RequestPlan(proxy, endpoint).build(given)


# RFC 6570 and the table in OpenAPI 3.1.1, section 4.8.12.4
LIST, OBJECT = ["blue", "black", "brown"], {"R": 100, "G": 200, "B": 150}
STYLES = [
    ("path", "simple", False, "", None),
    ("path", "simple", False, "blue", "blue"),
    ("path", "simple", False, LIST, "blue,black,brown"),
    ("path", "simple", False, OBJECT, "R,100,G,200,B,150"),
    ("path", "simple", True, LIST, "blue,black,brown"),
    ("path", "simple", True, OBJECT, "R=100,G=200,B=150"),
    ("path", "label", False, "blue", ".blue"),
    ("path", "label", False, LIST, ".blue,black,brown"),
    ("path", "label", False, OBJECT, ".R,100,G,200,B,150"),
    ("path", "label", True, LIST, ".blue.black.brown"),
    ("path", "label", True, OBJECT, ".R=100.G=200.B=150"),
    ("path", "matrix", False, "blue", ";color=blue"),
    ("path", "matrix", False, LIST, ";color=blue,black,brown"),
    ("path", "matrix", False, OBJECT, ";color=R,100,G,200,B,150"),
    ("path", "matrix", True, LIST, ";color=blue;color=black;color=brown"),
    ("path", "matrix", True, OBJECT, ";R=100;G=200;B=150"),
    ("query", "form", False, "", "color="),
    ("query", "form", False, "blue", "color=blue"),
    ("query", "form", False, LIST, "color=blue,black,brown"),
    ("query", "form", False, OBJECT, "color=R,100,G,200,B,150"),
    ("query", "form", True, LIST, "color=blue&color=black&color=brown"),
    ("query", "form", True, OBJECT, "R=100&G=200&B=150"),
    ("query", "spaceDelimited", False, LIST, "color=blue%20black%20brown"),
    ("query", "spaceDelimited", False, OBJECT, "color=R%20100%20G%20200%20B%20150"),
    ("query", "pipeDelimited", False, LIST, "color=blue%7Cblack%7Cbrown"),
    ("query", "pipeDelimited", False, OBJECT, "color=R%7C100%7CG%7C200%7CB%7C150"),
    ("query", "deepObject", True, OBJECT, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
    ("query", "content", None, OBJECT, "color=%7B%22R%22%3A100%2C%22G%22%3A200%2C%22B%22%3A150%7D"),
    ("query", "form", True, [], ""),
    ("query", "form", False, [], ""),
    ("query", "form", True, {}, ""),
    ("query", "form", False, ["a", None, "b"], "color=a,b"),
    (
        "query",
        "form",
        True,
        [True, 2.0, 0.1, {"a": [1]}],
        "color=true&color=2&color=0.1&color=%7B%22a%22%3A%5B1%5D%7D",
    ),
    ("query", "deepObject", True, {"a": {"b": [1, 2]}}, "color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bb%5D=2"),
    ("header", "simple", False, LIST, "blue,black,brown"),
    ("header", "simple", False, OBJECT, "R,100,G,200,B,150"),
    ("header", "simple", True, OBJECT, "R=100,G=200,B=150"),
    ("cookie", "form", False, LIST, "color=blue,black,brown"),
    ("cookie", "form", True, "a; b=c", "color=a%3B%20b%3Dc"),
]


@pytest.mark.parametrize(("place", "style", "explode", "value", "written"), STYLES)
def test_every_style(place: str, style: str, explode: bool | None, value: Any, written: str | None) -> None:
    params = {"color": {"schema": {}, "place": place, "style": style, "explode": explode}}
    options = {"endpoint": "a/{color}/b"} if place == "path" else {"endpoint": "a"}
    if written is None:
        with pytest.raises(ToolError, match="part of a path"):
            built(params, {"color": value}, **options)
        return
    request = built(params, {"color": value}, **options)
    found = {
        "path": request.target.removeprefix("/a/").removesuffix("/b"),
        "query": request.target.partition("?")[2],
        "header": request.headers.get("color"),
        "cookie": request.headers.get("Cookie"),
    }
    assert found[place] == written


def test_reserved_characters_where_they_are_allowed() -> None:
    params = {
        "path": {"type": "str", "place": "path", "allow_reserved": True},
        "q": {"type": "str", "allow_reserved": True},
    }
    request = built(params, {"path": "a/b c", "q": "x:y/z&w=1#é"}, endpoint="files/{path}")
    assert request.target == "/files/a/b%20c?q=x:y/z%26w=1%23%C3%A9"
    with pytest.raises(ToolError, match="part of a path"):
        built(params, {"path": "a/../b"}, endpoint="files/{path}")


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "a\\..\\b",
        "..;/x",
        "a/./b",
        "a\0b",
        "a\r\nb",
        "\x7f",
        [],
        {},
        ["..", "a"],
        b"x",
    ],
)
def test_what_must_not_be_in_a_path(value: Any) -> None:
    with pytest.raises(ToolError, match="'Shop\\.get': "):
        built({"$name": {"schema": {}}}, {"name": value}, endpoint="files/{name}")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a/b", "a%2Fb"),
        ("..a", "..a"),
        ("a..b", "a..b"),
        ("%2e%2e", "%252e%252e"),
        ("?#", "%3F%23"),
        ("å", "%C3%A5"),
        (7, "7"),
    ],
)
def test_what_may_be_in_a_path(value: Any, written: str) -> None:
    assert built({"$name": {"schema": {}}}, {"name": value}, endpoint="f/{name}").target == f"/f/{written}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("header", value) for value in ("a\r\nX-Evil: 1", "a\nb", "a\0b", "a\x1bb", "é", "\ud800")),
        *(("query", value) for value in ("\ud800", float("nan"), float("inf"), b"x")),
        *(("body", value) for value in ("\ud800", float("nan"), {1, 2})),
        ("cookie", "\udfff"),
        *(pytest.param(place, 10**5000, id=f"huge {place}") for place in ("query", "body", "header", "path")),
        ("path", "\ud800"),
    ],
)
def test_values_that_cannot_be_sent(place: str, value: Any) -> None:
    options = {"endpoint": "a/{x}"} if place == "path" else {"endpoint": "a"}
    with pytest.raises(ToolError, match="'Shop\\.get': "):
        built({"x": {"schema": {}, "place": place}}, {"x": value}, method="POST", **options)


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "Connection", "a b", "x\r\ny"]
)
def test_headers_that_nobody_may_set(name: str) -> None:
    with pytest.raises(ConfigError):
        built({"x": {"type": "str", "place": "header", "name": name}}, {"x": "1"}, endpoint="a")
    with pytest.raises(ConfigError):
        built({}, {}, endpoint="a", headers={name: "1"})


def test_a_header_replaces_one_of_another_case() -> None:
    params = {"x": {"type": "str", "place": "header", "name": "x-version"}}
    request = built(params, {"x": "2"}, endpoint="a", headers={"X-Version": "1", "accept": "text/csv"})
    assert request.headers == {"Accept": "text/csv", "X-Version": "2"}


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_a_request_has_one_content_type(name: str) -> None:
    body = {"x": {"type": "str", "place": "body"}}
    request = built(body, {"x": "1"}, endpoint="a", method="POST", headers={name: "application/vnd.x+json"})
    assert request.headers == {"Accept": "application/json", name: "application/vnd.x+json"}
    params = {**body, "kind": {"type": "str", "place": "header", "name": name}}
    request = built(params, {"x": "1", "kind": "text/x"}, endpoint="a", method="POST")
    assert request.headers == {"Accept": "application/json", name: "text/x"}
    request = built(params, {"x": "1"}, endpoint="a", method="POST")
    assert request.headers == {"Accept": "application/json", "Content-Type": "application/json"}


# --- base URLs


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h", "a", "http://h/a"),
        ("http://h/", "/a/", "http://h/a/"),
        ("http://h/v1?k=1", "a?b=2", "http://h/v1/a?k=1&b=2"),
        ("http://h:8080/v1/", "", "http://h:8080/v1/"),
        ("http://h", "", "http://h/"),
        ("http://h?k=1", "", "http://h/?k=1"),
        ("https://h:443/x y", "å", "https://h/x%20y/%C3%A5"),
        ("http://bücher.example", "a", "http://xn--bcher-kva.example/a"),
        ("http://[::1]:8000", "a", "http://[::1]:8000/a"),
        ("http://h/v1", "https://other:8443/b", "https://other:8443/b"),
    ],
)
def test_urls_are_joined(base: str, path: str, url: str) -> None:
    assert built({}, {}, base, endpoint=path).url == url


@pytest.mark.parametrize(
    "base",
    ["ftp://h", "http://", "h", "http://h:99999", "http://a:hunter2@h", "ftp://a:hunter2@h", "http://h h"],
)
def test_base_urls_that_are_none(base: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built({}, {}, base, endpoint="a")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "rest", ["/?token=hunter2hunter2", "?a=1&api_key=hunter2hunter2", "/v1#hunter2hunter2"]
)
def test_a_base_url_is_printed_so_it_holds_no_secret(rest: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        built({}, {}, f"http://h{rest}", endpoint="a")
    assert "hunter2" not in str(caught.value)


def test_variables_of_a_base_url() -> None:
    proxy = proxy_of("https://{region}.example.com/{version}", endpoint="a")
    type(proxy).server_variables = {"region": ("eu", "us"), "version": "v1"}
    assert RequestPlan(proxy, proxy.endpoints()["get"]).build({}).url == "https://eu.example.com/v1/a"
    proxy.options = {"region": "us", "version": "v2/beta"}
    assert RequestPlan(proxy, proxy.endpoints()["get"]).build({}).url == "https://us.example.com/v2/beta/a"
    for options in ({"region": "evil.org/"}, {"version": "../x?"}, {"region": "cn"}):
        proxy.options = options
        with pytest.raises(ConfigError, match="variable"):
            RequestPlan(proxy, proxy.endpoints()["get"])
    type(proxy).server_variables = {}
    proxy.options = {}
    with pytest.raises(ConfigError, match="is not set"):
        RequestPlan(proxy, proxy.endpoints()["get"])


def test_a_variable_of_a_base_url_is_an_option() -> None:
    class Shop(BaseProxy, register=False):
        base_url = "https://{region}.example.com"
        server_variables = {"region": ("eu", "us")}  # noqa: RUF012

        @BaseProxy.endpoint(endpoint="a")
        def get(self) -> None: ...

    for options, host in (({}, "eu"), ({"Shop": {"region": "us"}}, "us")):
        proxy = Proxy([Shop], options=options)
        plan = proxy.client.plan(proxy.proxies["Shop"], proxy.endpoint("Shop.get"))
        assert plan.origin == f"https://{host}.example.com"


def test_an_argument_is_no_part_of_the_host() -> None:
    with pytest.raises(ConfigError, match="host"):
        built({"$x": (str, "a")}, {"x": "evil.org"}, endpoint="https://{x}.example.com/a")


# --- bodies


def test_a_json_body_and_one_without_fields() -> None:
    params = {"a": int, "b": {"type": ["string", "null"]}}
    request = built(params, {"a": 1, "b": None}, method="POST", endpoint="x")
    assert request.body == b'{"a":1,"b":null}'
    assert request.headers["Content-Type"] == "application/json"
    assert built(params, {}, method="POST", endpoint="x").body == b"{}"
    assert built({}, {}, method="POST", endpoint="x").body == b""
    assert built({}, {}, endpoint="x").body is None


@pytest.mark.parametrize("value", [[1, 2], "text", 3, None, {"a": {"b": [True]}}])
def test_a_body_of_any_kind(value: Any) -> None:
    request = built({"x": {"schema": {}, "place": "content"}}, {"x": value}, method="POST", endpoint="a")
    assert request.body is not None
    assert json.loads(request.body) == value


def test_bytes_in_json_are_base64() -> None:
    given = {"a": b"\xff\0", "b": [File(b"hi", "x.txt")], "c": "aGk="}
    body = built({key: {"schema": {}} for key in "abc"}, given, method="POST", endpoint="x").body
    assert body == b'{"a":"/wA=","b":["aGk="],"c":"aGk="}'


def test_a_form() -> None:
    params = {
        "a": str,
        "tags": list,
        "more": dict,
        "point": {"type": "dict", "style": "form", "explode": True},
    }
    given = {"a": "x y&z", "tags": ["p", "q"], "more": {"k": [1]}, "point": {"x": 1}}
    request = built(params, given, method="POST", endpoint="x", content="application/x-www-form-urlencoded")
    assert request.body == b"a=x+y%26z&tags=p&tags=q&more=%7B%22k%22%3A%5B1%5D%7D&x=1"


PNG = b"\x89PNG\r\n\x1a\n rest"


def parts_of(request: HttpRequest) -> list[tuple[str, str | None, str, bytes]]:
    """A multipart body as the standard library reads it."""
    assert request.body is not None
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    found = []
    for part in message_from_bytes(head + request.body, policy=HTTP).iter_parts():
        name = part.get_param("name", header="content-disposition")
        found.append((str(name), part.get_filename(), part.get_content_type(), part.get_payload(decode=True)))
    return found


def test_a_multipart_form() -> None:
    binary = {"type": "string", "format": "binary"}
    params = {
        "title": str,
        "picture": {"schema": binary},
        "files": {"schema": {"type": "array", "items": binary}},
        "meta": dict,
        "raw": {"schema": {}, "media_type": "application/x-thing"},
    }
    given = {
        "title": "é",
        "picture": Image(PNG),
        "files": [File(b"1", 'a".csv'), base64.b64encode(b"\0\1").decode(), "data:text/csv,a%2Cb"],
        "meta": {"k": 1},
        "raw": b"\r\n--",
    }
    request = built(params, given, method="POST", endpoint="x", content="multipart/form-data")
    assert parts_of(request) == [
        ("title", None, "text/plain", "é".encode()),
        ("picture", "picture.png", "image/png", PNG),
        ("files", "a%22.csv", "text/csv", b"1"),
        ("files", "files", "application/octet-stream", b"\0\1"),
        ("files", "files", "text/csv", b"a,b"),
        ("meta", None, "application/json", b'{"k":1}'),
        ("raw", "raw", "application/x-thing", b"\r\n--"),
    ]
    again = built(params, given, method="POST", endpoint="x", content="multipart/form-data")
    assert again.body == request.body


def test_a_file_name_cannot_add_headers() -> None:
    params = {"f": {"schema": {}}}
    given = {"f": File(b"1", 'x"\r\nX-Evil: 1\r\n\r\n')}
    request = built(params, given, method="POST", endpoint="x", content="multipart/form-data")
    assert [name for name, *_ in parts_of(request)] == ["f"]
    assert request.body is not None
    assert b"\r\nX-Evil" not in request.body


@pytest.mark.parametrize(
    ("content", "value", "body"),
    [
        ("text/plain", "é", "é".encode()),
        ("text/plain; charset=latin-1", "é", b"\xe9"),
        ("application/xml", "<a/>", b"<a/>"),
        ("application/octet-stream", b"\0", b"\0"),
        ("application/octet-stream", "AAE=", b"\0\1"),
        ("image/png", f"data:image/png;base64,{base64.b64encode(PNG).decode()}", PNG),
        ("image/png", Image(PNG), PNG),
        ("application/pdf", File(b"%PDF", "a.pdf"), b"%PDF"),
    ],
)
def test_a_body_of_text_or_bytes(content: str, value: Any, body: bytes) -> None:
    params = {"x": {"schema": {}, "place": "content"}}
    request = built(params, {"x": value}, method="POST", endpoint="a", content=content)
    assert (request.body, request.headers["Content-Type"]) == (body, content)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("application/octet-stream", "not base64!"),
        ("application/xml", {"a": 1}),
        ("text/plain; charset=ascii", "é"),
        ("multipart/form-data", [1]),
        ("application/x-www-form-urlencoded", "a=1"),
    ],
)
def test_bodies_that_cannot_be_written(content: str, value: Any) -> None:
    with pytest.raises(ToolError, match="'Shop\\.get': "):
        built(
            {"x": {"schema": {}, "place": "content"}},
            {"x": value},
            method="POST",
            endpoint="a",
            content=content,
        )


async def test_a_model_is_told_how_to_give_files(server: Api) -> None:
    class Shop(BaseProxy, register=False):
        base_url = server.url

        @BaseProxy.endpoint(endpoint="a", method="POST", content="multipart/form-data")
        def upload(self, file: bytes, more: list[bytes], icon: bytes | None = None) -> None:
            """Uploads.

            Args:
                file: A document.
            """

    proxy = Proxy([Shop])
    (tool,) = proxy.tools()
    shown = tool.parameters["properties"]
    base64_text = {"type": "string", "contentEncoding": "base64"}
    assert shown["file"] == {
        **base64_text,
        "description": "A document. The file's bytes in base64, or a data: URL.",
    }
    assert shown["more"]["items"]["contentEncoding"] == "base64"
    assert shown["icon"]["anyOf"][0]["contentEncoding"] == "base64"
    await proxy.acall("Shop.upload", file="AAE=", more=["Ag=="], icon="data:image/png;base64,Aw==")
    for data in (b"\0\1", b"\2", b"\3"):
        assert b"\r\n\r\n" + data + b"\r\n" in server.last.body
    with pytest.raises(ToolError, match="'file' is a file: give its bytes in base64"):
        await proxy.acall("Shop.upload", file="a text!", more=[])


# --- seen from the server


async def test_everything_arrives_as_it_was_given(server: Api) -> None:
    class Shop(BaseProxy, register=False):
        base_url = server.url

        @BaseProxy.endpoint(
            endpoint="items/{item}",
            method="PUT",
            params={
                "$item*": (str, "a"),
                "q": {"type": "list", "place": "query"},
                "since": {"type": datetime.date, "place": "header", "name": "X-Since"},
                "session": {"type": "str", "place": "cookie"},
                "name*": str,
            },
        )
        def put(self) -> None: ...

    proxy = Proxy([Shop])
    for _ in range(2):  # the first request of a loop is sent in another way than later ones
        given = {
            "item": "a/ü",
            "q": ["1", "&"],
            "since": datetime.date(2024, 1, 2),
            "session": "s;1",
            "name": "n",
        }
        await proxy.acall("Shop.put", given)
        asked = server.last
        assert (asked.method, asked.path) == ("PUT", "/items/a%2F%C3%BC")
        assert asked.pairs == [("q", "1"), ("q", "&")]
        assert asked.headers["X-Since"] == "2024-01-02"
        assert asked.headers["Cookie"] == "session=s%3B1"
        assert json.loads(asked.body) == {"name": "n"}
    first, second = server.asked
    ours = "Idempotency-Key"
    assert {k: v for k, v in first.headers.items() if k != ours} == {
        k: v for k, v in second.headers.items() if k != ours
    }
    assert given["item"] == "a/ü"


def test_both_loops(server: Api) -> None:
    class Shop(BaseProxy, register=False):
        base_url = server.url

        @BaseProxy.endpoint(endpoint="a")
        def get(self, n: int) -> None: ...

    proxy = Proxy([Shop])
    for n in range(3):
        assert proxy("Shop.get", n=n)["target"] == f"/a?n={n}"

    async def within() -> Any:
        blocking = proxy("Shop.get", n=7)  # a blocking call inside a running loop
        return blocking["target"], (await proxy.acall("Shop.get", n=8))["target"]

    assert asyncio.run(within()) == ("/a?n=7", "/a?n=8")
    assert lllm.Proxy is Proxy


async def test_arguments_that_do_not_fit_are_not_sent(server: Api) -> None:
    class Shop(BaseProxy, register=False):
        base_url = server.url

        @BaseProxy.endpoint(
            endpoint="a", params={"n*": int, "x": float, "c": {"type": "str", "enum": ["a", "b"]}}
        )
        def get(self) -> None: ...

    proxy = Proxy([Shop])
    for given, said in (
        ({}, 'missing "n"'),
        ({"n": "1"}, "not an integer"),
        ({"n": True}, "not an integer"),
        ({"n": 1.5}, "not an integer"),
        ({"n": 1, "c": "z"}, 'not one of "a", "b"'),
        ({"n": 1, "zz": 2}, 'unknown key "zz"'),
    ):
        with pytest.raises(ToolError, match=said):
            await proxy.acall("Shop.get", given)
    assert server.asked == []
    await proxy.acall("Shop.get", n=1, x=2)
    assert server.last.query == "n=1&x=2"
