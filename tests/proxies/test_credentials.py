"""Credentials reach the server, and nothing else."""

import asyncio
import base64
import copy
import json
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import lllm
from lllm.config import environ
from lllm.errors import ConfigError, EndpointDenied, EndpointError, EndpointRejected
from lllm.log import SQLiteLog
from lllm.models.function import ToolContext
from lllm.proxies import Auth, BaseProxy, Basic, Bearer, Cookie, Header, Proxy, Query
from tests.proxies.logged import events
from tests.servers.api import Api, echo

KEY = "k3y/with+signs&more=="  # what URLs, JSON and base64 write in another way
USER = "somebody@example.com"


def shop(url: str, auth: Any, **attributes: Any) -> type[BaseProxy]:
    class Shop(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(endpoint="a", effect="pure")
        def get(self, q: str = "") -> None: ...

    Shop.auth = auth
    for name, value in attributes.items():
        setattr(Shop, name, value)
    return Shop


WAYS: list[tuple[Any, str, str]] = [
    (Header("X-Key", env="PASS_A"), "X-Key", KEY),
    (Header("X-Key", env="PASS_A", prefix="Token "), "X-Key", f"Token {KEY}"),
    (Bearer(env="PASS_A"), "Authorization", f"Bearer {KEY}"),
    (
        Basic(user_env="WHO", password_env="PASS_A"),
        "Authorization",
        f"Basic {base64.b64encode(f'{USER}:{KEY}'.encode()).decode()}",
    ),
    (Basic(user_env="PASS_A"), "Authorization", f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}"),
    (Cookie("session", env="PASS_A"), "Cookie", f"session={KEY}"),
    ([Header("X-A", value="demo"), Header("X-B", env="MISSING", optional=True)], "X-A", "demo"),
]


@pytest.mark.parametrize(("auth", "header", "value"), WAYS)
async def test_headers(server: Api, auth: Any, header: str, value: str) -> None:
    proxy = Proxy([shop(server.url, auth)], variables={"PASS_A": KEY, "WHO": USER})
    for _ in range(2):
        await proxy.acall("Shop.get")
        assert server.last.headers[header] == value


async def test_a_query_parameter(server: Api) -> None:
    proxy = Proxy([shop(server.url, Query("api key", env="PASS_A"))], variables={"PASS_A": KEY})
    for _ in range(2):
        await proxy.acall("Shop.get", q="x y")
        assert server.last.pairs == [("q", "x y"), ("api key", KEY)]


async def test_the_short_notation(server: Api) -> None:
    one = shop(server.url, (), api_key_name="*x-api-key", api_key="a-key-in-a-class-body")
    await Proxy([one]).acall("Shop.get")
    assert server.last.headers["x-api-key"] == "a-key-in-a-class-body"
    one = shop(server.url, (), api_key_name="apikey", api_key="a-key-in-a-class-body")
    answer = await Proxy([one]).acall("Shop.get")
    assert server.last.pairs[-1] == ("apikey", "a-key-in-a-class-body")
    assert answer["target"] == "/a?q=&apikey=[redacted:Shop api_key]"


async def test_one_that_is_written_out_in_a_header(server: Api) -> None:
    one = shop(server.url, (), headers={"Authorization": f"Token {KEY}", "X-Version": "2024-01-01"})
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        found = await Proxy([one]).acall("Shop.get", q=f"my {KEY}")
    assert server.last.headers["Authorization"] == f"Token {KEY}"
    assert found["headers"]["X-Version"] == "2024-01-01"
    clean(found, *(json.dumps(event) for event in events(store, session.id)))


async def test_variables_that_are_not_text(server: Api) -> None:
    variables: Any = {"PASS_A": 12345678}
    await Proxy([shop(server.url, Bearer(env="PASS_A"))], variables=variables).acall("Shop.get")
    assert server.last.headers["Authorization"] == "Bearer 12345678"


@pytest.mark.parametrize("value", ["", "  ", None])
async def test_a_variable_that_is_not_set(server: Api, value: str | None) -> None:
    variables = {} if value is None else {"PASS_A": value}
    with pytest.raises(ConfigError, match="needs the variable PASS_A"):
        await Proxy([shop(server.url, Bearer(env="PASS_A"))], variables=variables).acall("Shop.get")
    assert server.asked == []


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\x00bcdefgh", "ключ-ключ-ключ"])
async def test_a_variable_that_no_header_can_hold(server: Api, value: str) -> None:
    with pytest.raises(ConfigError, match="PASS_A holds characters") as caught:
        await Proxy([shop(server.url, Bearer(env="PASS_A"))], variables={"PASS_A": value}).acall("Shop.get")
    assert value not in str(caught.value)


@pytest.mark.parametrize(("name", "auth"), [("a b", Header), ("x\r\ny", Cookie), ("", Query)])
def test_names_that_are_none(name: str, auth: Any) -> None:
    with pytest.raises(ConfigError):
        auth(name, env="PASS_A")


async def test_variables_are_looked_up_for_each_call(server: Api) -> None:
    variables = {"PASS_A": "first-value"}
    proxy = Proxy([shop(server.url, Bearer(env="PASS_A"))], variables=variables)
    await proxy.acall("Shop.get")
    variables["PASS_A"] = "second-value"
    await proxy.acall("Shop.get")
    assert [asked.headers["Authorization"] for asked in server.asked] == [
        "Bearer first-value",
        "Bearer second-value",
    ]


async def test_two_systems_never_see_each_other_s(server: Api) -> None:
    one = shop(server.url, Bearer(env="PASS_A"))
    systems = [Proxy([one], variables={"PASS_A": f"key-of-system-{n}"}) for n in range(5)]
    await asyncio.gather(
        *(system.acall("Shop.get", q=str(n)) for _ in range(4) for n, system in enumerate(systems))
    )
    seen = {(asked.pairs[0][1], asked.headers["Authorization"]) for asked in server.asked}
    assert seen == {(str(n), f"Bearer key-of-system-{n}") for n in range(5)}


# --- nowhere else

FORMS = (KEY, "k3y%2Fwith", "k3y%2fwith", KEY[:8], base64.b64encode(KEY.encode()).decode()[:20])


def clean(*things: Any) -> None:
    """Fails where something shows the key in any form."""
    for thing in things:
        for text in (thing if isinstance(thing, str) else "", str(thing), repr(thing)):
            for form in FORMS:
                assert form not in text, text


@pytest.mark.parametrize("status", [200, 401, 404, 500])
@pytest.mark.parametrize("auth", [one for one, *_ in WAYS[:6]] + [Query("key", env="PASS_A")])
async def test_a_server_that_sends_them_back(server: Api, status: int, auth: Any, tmp_path: Path) -> None:
    """In logs, answers, errors and their chains, with or without a session, as a tool and from the system's own code."""

    async def answer(request: web.Request) -> web.Response:
        response = await echo(request)
        response.set_status(status)
        response.headers["Location"] = request.raw_path
        return response

    environ.forget()
    server.answer = answer
    proxy = Proxy([shop(server.url, auth)], variables={"PASS_A": KEY, "WHO": USER})
    endpoint = proxy.endpoint("Shop.get")
    store = SQLiteLog(tmp_path / "log.db")

    async def each() -> None:
        for work in (proxy.acall("Shop.get"), proxy.perform(endpoint, {}, ToolContext())):
            try:
                found = await work
            except EndpointError as error:
                clean(
                    error,
                    "".join(traceback.format_exception(error)),
                    error.__cause__,
                    error.__context__,
                    vars(error),
                )
                frames = traceback.TracebackException.from_exception(error, capture_locals=True)
                clean("".join(frames.format()))
            else:
                clean(found)

    monkey = pytest.MonkeyPatch()
    monkey.setattr("lllm.proxies.client.TRIES", 1)
    try:
        await each()
        async with lllm.arecord("x", store=store):
            await each()
            try:  # a model, or a program, that passes it on
                await proxy.acall("Shop.get", q=KEY)
            except EndpointError as error:
                clean(error)
    finally:
        monkey.undo()
        store.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Shop.get" in content
    for form in FORMS:
        assert form.encode() not in content
    environ.forget()


async def test_a_short_one_is_kept_out_of_errors(server: Api) -> None:
    server.answer = [(403, {}, "your key abc12 is not valid")]
    with pytest.raises(EndpointDenied, match=r"your key \[redacted:PIN\] is") as caught:
        await Proxy([shop(server.url, Bearer(env="PIN"))], variables={"PIN": "abc12"}).acall("Shop.get")
    assert "Check the variable PIN" in str(caught.value)


async def test_no_credentials_were_sent(server: Api) -> None:
    server.answer = [401]
    with pytest.raises(EndpointDenied, match="401") as caught:
        await Proxy([shop(server.url, ())]).acall("Shop.get")
    assert "No credentials were sent" in str(caught.value)


async def test_repr_and_pickles(server: Api) -> None:
    one = shop(server.url, [Bearer(env="PASS_A"), Header("X", value=KEY), Query("q", env="PASS_A")])
    proxy = Proxy([one], variables={"PASS_A": KEY})
    await proxy.acall("Shop.get")
    shown = proxy.client._shown["Shop.get"]
    clean(
        proxy,
        shown,
        shown.headers,
        repr(shown.query),
        one.auth[:1],
        proxy.client.plan(proxy.proxies["Shop"], proxy.endpoint("Shop.get")),
    )
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(shown)
    state = proxy.__getstate__()
    assert state["_variables"] is None
    assert state["_client"] is None
    twin = copy.copy(proxy)
    with pytest.raises(ConfigError, match="PASS_A"):
        await twin.acall("Shop.get")


async def test_a_redirect_with_the_key_is_not_shown(server: Api) -> None:
    server.answer = [(302, {"Location": f"https://example.invalid/?key={KEY}"}, "")]
    with pytest.raises(EndpointRejected) as caught:
        await Proxy([shop(server.url, Query("key", env="PASS_A"))], variables={"PASS_A": KEY}).acall(
            "Shop.get"
        )
    clean(caught.value)


def test_what_is_no_credential() -> None:
    with pytest.raises(ConfigError, match="auth must be"):
        asyncio.run(Proxy([shop("http://127.0.0.1:9", "X-Key")]).acall("Shop.get"))
    assert isinstance(Bearer(env="X"), Auth)
    assert json.dumps(Bearer(env="X").variables) == '["X"]'
