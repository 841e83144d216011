"""A server sends back what it was sent, as servers write it: nothing shows it, and the search finds what is there."""

import base64
import html
import json
import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web
from yarl import URL

import lllm
from lllm.backends.scripted import ScriptedBackend
from lllm.config import environ
from lllm.errors import ToolError
from lllm.models.parts import File
from lllm.proxies import BaseProxy, Basic, Bearer, Cookie, Header, Proxy, Query
from lllm.proxies.base import variable
from tests.servers.api import Api

HEADER = "Head&er<key>/+='9\"1-7f3a"
QUERY = "query key&5521?x=y/z"
BEARER = "bearertoken.of-nothing_telling~1"
PASSWORD = "pass:word-66%20ab"
COOKIE = "cookie-value-4410-abcd"
SHORT = "short-notation-key&12"
KEYS = {"H": HEADER, "Q": QUERY, "B": BEARER, "P": PASSWORD, "C": COOKIE, "S": SHORT}


class Shop(BaseProxy, register=False):
    auth = (Header("X-Key", env="H"), Query("key", env="Q"), Cookie("c", env="C"))
    api_key_name = "*X-Short"
    api_key = SHORT

    @BaseProxy.endpoint(endpoint="get", cache=600)
    def several(self) -> Any:
        """Header, query, cookie, and the short notation."""

    @BaseProxy.endpoint(endpoint="get", auth=Bearer(env="B"))
    def bearer(self) -> Any:
        """Bearer."""

    @BaseProxy.endpoint(endpoint="get", auth=Basic(user_env="U", password_env="P"))
    def basic(self) -> Any:
        """Basic."""

    @BaseProxy.endpoint(endpoint="get", postcall="broken")
    def hooked(self) -> Any:
        """A hook that raises."""

    def broken(self, answer: Any) -> Any:
        raise ValueError(f"no {answer} with {SHORT}") from KeyError(SHORT)


def forms(secret: str) -> set[str]:
    """A secret as servers write it."""
    data = secret.encode()
    found = {
        *(secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.encode("utf-16-le").decode("latin-1")),
        *(
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            quote(secret).lower(),
            quote(quote(secret, safe=""), safe=""),
        ),
        *(html.escape(secret), html.escape(secret, quote=False)),
        json.dumps(secret)[1:-1].replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
        *("".join(f"\\u{ord(one):04x}" for one in secret), "".join(f"&#{ord(one)};" for one in secret)),
        str(URL.build(path="/", query={"k": secret})).partition("k=")[2],
    }
    for shift, edge in enumerate((0, 2, 3)):
        digits = base64.b64encode(b"\0" * shift + data).rstrip(b"=").decode()
        found.add(digits[edge : len(digits) - 1])
    return found


def shown(content: str) -> list[str]:
    """The keys that a text shows, and how."""
    return [f"{name} as {form}" for name, key in KEYS.items() for form in forms(key) if form in content]


def said(request: web.Request) -> list[str]:
    """All that came with a request, as it came and decoded."""
    login = request.headers.get("Authorization", "").partition("Basic ")[2]
    return [
        *(request.raw_path, str(request.url), *request.query.values()),
        *(f"{name}: {value}" for name, value in request.headers.items()),
        base64.b64decode(login + "==").decode("latin-1"),
    ]


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(one):04x}" for one in text)


def twice(text: str) -> str:
    return quote(quote(text, safe=""), safe="")


Answer = Callable[[list[str]], web.Response]
GO = str.maketrans({"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "/": "\\/"})
JSON = "application/json"
ANSWERS: dict[str, Answer] = {
    "json": lambda each: web.json_response(each),
    "json as Go writes it": lambda each: web.Response(text=json.dumps(each).translate(GO), content_type=JSON),
    "json escaped throughout": lambda each: web.Response(
        text=f'["{escaped(" ".join(each))}"]', content_type=JSON
    ),
    "json in UTF-16": lambda each: web.Response(
        body=json.dumps(each).encode("utf-16"), headers={"Content-Type": f"{JSON}; charset=utf-16"}
    ),
    "text in UTF-16": lambda each: web.Response(
        body=" ".join(each).encode("utf-16"), headers={"Content-Type": "text/plain"}
    ),
    "text in EBCDIC": lambda each: web.Response(
        body=" ".join(each).encode("cp037", "replace"), headers={"Content-Type": "text/plain; charset=cp037"}
    ),
    "a page": lambda each: web.Response(text=html.escape(" ".join(each)), content_type="text/html"),
    "encoded": lambda each: web.json_response(
        [
            *map(quote, each),
            *map(twice, each),
            *(base64.b64encode(b"a" * n + one.encode()).decode() for n in range(3) for one in each),
        ]
    ),
    "a file": lambda each: web.Response(
        body=b"\xff\0" + " ".join(each).encode(),
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="{SHORT}"',
        },
    ),
    "an image": lambda each: web.Response(
        body=b"\x89PNG\r\n\x1a\n" + " ".join(each).encode("utf-16-le") + " ".join(each).encode(),
        content_type="image/png",
    ),
    "what is no JSON": lambda each: web.Response(text="{" + " ".join(each), content_type=JSON),
    "401, a page with a title": lambda each: web.Response(
        status=401, text=f"<title>{html.escape(' '.join(each)[:450])}</title>", content_type="text/html"
    ),
    "401 in JSON as Go writes it": lambda each: web.Response(
        status=401, text=json.dumps(each[2:]).translate(GO), content_type=JSON
    ),
    "401, escaped": lambda each: web.Response(status=401, text=escaped(" ".join(each[2:]))),
    "401, quoted twice": lambda each: web.Response(status=401, text=twice(" ".join(each[2:]))),
    "401 with the URL": lambda each: web.Response(status=401, text=each[1]),
    "500, a page": lambda each: web.Response(
        status=500, text=f"<html>{html.escape(' '.join(each[2:]))}</html>", content_type="text/html"
    ),
    "to another host": lambda each: web.Response(
        status=302, headers={"Location": str(URL(each[1]).with_host("localhost"))}
    ),
    "to a login": lambda each: web.Response(
        status=302, headers={"Location": f"https://example.org/login?next={quote(each[1], safe='')}"}
    ),
}


@pytest.mark.parametrize("how", ANSWERS)
async def test_nothing_shows_it(
    server: Api, how: str, soon: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In answers, errors with their chains and variables, logs, the cache, reprs, pickles, and what libraries log."""
    caplog.set_level(0)
    environ.forget()
    sent: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        sent.extend(said(request))
        return ANSWERS[how](said(request))

    server.answer = answer
    variables = {"H": HEADER, "Q": QUERY, "B": BEARER, "P": PASSWORD, "C": COOKIE, "U": "user-of-basic"}
    cache = tmp_path / "cache.sqlite"
    proxy = Proxy([Shop], variables=variables, cache=cache, options={"Shop": {"base_url": server.url}})
    found: dict[str, str] = {}

    async def call(address: str) -> None:
        try:
            value = await proxy.acall(address)
        except lllm.LLMError as error:
            frames = traceback.TracebackException.from_exception(error, capture_locals=True).format()
            # not this file's own variables
            words = [line for line in "".join(frames).splitlines() if "variables = " not in line]
            found[address] = "\n".join([str(error), *words])
        else:
            found[address] = f"{value!r} {value}"
            if hasattr(value, "data"):
                found[address] += f"{getattr(value, 'name', '')} {value.data.decode('latin-1')}"

    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        for address in proxy.endpoints:
            await call(address)
        recorded = b"\n".join(store.read(session.id)).decode()
    assert shown(recorded) == []
    for address in proxy.endpoints:
        assert shown(found[address]) == [], address
        await call(address)
        assert shown(found[address]) == [], address
    client = proxy.client
    assert shown(f"{proxy!r} {client._auth} {client._shown} {client._plans} {proxy.endpoints}") == []
    for file in tmp_path.iterdir():
        assert shown(file.read_bytes().decode("latin-1")) == []
    assert shown(caplog.text) == []
    assert {one.split(" ")[0] for one in shown("\n".join(sent))} == {*KEYS}  # the search finds what is there
    environ.forget()


def test_tools_do_not_keep_it_from_being_pickled(server: Api) -> None:
    proxy = Proxy([Files], variables={"H": HEADER})
    assert proxy.tools()
    data = pickle.dumps(proxy)
    assert HEADER.encode() not in data
    assert pickle.loads(data).tools()[0].name == proxy.tools()[0].name


class Files(BaseProxy, register=False):
    base_url = "http://127.0.0.1:9"

    @BaseProxy.endpoint(endpoint="get", auth=Header("X-Key", env="H"))
    def get(self) -> File | None:
        """A file."""


# --- what a method reads or sends itself


class Own(BaseProxy, register=False):
    @BaseProxy.endpoint(effect="pure")
    def reads(self) -> str:
        return f"it is {variable('B', 'Own')}"

    @BaseProxy.endpoint(effect="pure")
    def breaks(self) -> str:
        raise ValueError(f"no way with {variable('B', 'Own')}")


def one_more(server: Api) -> Proxy:
    """`search` sends a request itself, and takes the marks of what was found out of the answer."""

    async def answer(request: web.Request) -> web.Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        marked = f"{key[:4]}<b>{key[4:9]}</b>{key[9:]}"
        return web.json_response(
            {"results": [{"title": marked, "url": "https://x.test/", "snippet": marked}]}
        )

    server.answer = answer
    options = {"search": {"url": f"{server.url}/?q={{query}}", "key_env": "B"}}
    return Proxy(["search", Own], variables={"B": BEARER}, options=options)


@pytest.mark.parametrize("address", ["search.web", "Own.reads", "Own.breaks"])
@pytest.mark.parametrize("as_tool", [False, True])
async def test_a_process_that_knows_many_secrets(server: Api, address: str, as_tool: bool) -> None:
    """More than a process remembers: the session learns what is read and sent within it."""
    environ.forget()
    for n in range(environ._HELD):
        environ.remember(f"OTHER_{n}", f"of-another-user-{n:09d}")
    proxy, store = one_more(server), lllm.MemoryLog()
    given = {"query": "x"} if address == "search.web" else {}
    if as_tool:
        call = lllm.FunctionCall("1", proxy.tool(address).name, json.dumps(given))
        replies = [lllm.Reply("", tool_calls=(call,), finish_reason="tool_calls"), "Done."]
        agent = lllm.Agent("a", ScriptedBackend(replies), tools=[proxy.tool(address)], store=store)
        id = (await agent.acall("Go.")).session
        assert id is not None
    else:
        async with lllm.arecord("x", store=store) as session:
            with suppress(ToolError):
                await proxy.acall(address, given)
        id = session.id
    recorded = b"\n".join(store.read(id)).decode()
    assert shown(recorded) == []
    assert "[redacted:B]" in recorded
    environ.forget()


async def test_a_token_that_is_another_one_each_time(server: Api) -> None:
    """It is looked up when it is shown: that one is not written, whatever was looked up before."""

    class Tokens(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            given.append(f"short-lived-{len(given):06d}")
            return given[-1]

    given: list[str] = []
    environ.forget()
    proxy, store = (
        Proxy([Shop], variables=Tokens(), options={"Shop": {"base_url": server.url}}),
        lllm.MemoryLog(),
    )
    async with lllm.arecord("x", store=store) as session:
        for _ in range(3):
            await proxy.acall("Shop.bearer")
    recorded = b"\n".join(store.read(session.id)).decode()
    assert len(given) >= 3
    assert not [one for one in given if one in recorded]
    environ.forget()
