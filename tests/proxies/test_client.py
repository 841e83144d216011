"""Which requests are sent again, where redirects lead, and how many go at a time."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

import lllm
from lllm.errors import (
    ConfigError,
    EndpointError,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
    EndpointTimeout,
    EndpointUnreachable,
)
from lllm.models.function import ToolContext
from lllm.proxies import BaseProxy, Bearer, Header, Proxy, Query
from lllm.proxies.exchange import _ways
from tests.proxies.logged import notes
from tests.servers.api import Api, Raw, api, bytes_server, raw
from tests.servers.socks import Socks


def proxy_to(url: str, *, attributes: dict[str, Any] | None = None, **options: Any) -> Proxy:
    """A proxy with one endpoint, that of `Shop.get`."""

    class Shop(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(**{"endpoint": "a", **options})
        def get(self) -> None: ...

    for key, value in (attributes or {}).items():
        setattr(Shop, key, value)
    return Proxy([Shop], variables={"SHOP_KEY": "s3cr3t-k3y-of-the-shop"})


# --- sent again

EFFECTS = [("pure", 3), ("idempotent", 3), ("ask", 1), ("never", 1)]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("effect", "tries"), EFFECTS)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_status_is_sent_again_by_the_effect(
    server: Api, effect: str, tries: int, status: int
) -> None:
    server.answer = [status]
    with pytest.raises((EndpointServerError, EndpointRateLimited)) as caught:
        await proxy_to(server.url, effect=effect, method="POST").acall("Shop.get")
    assert len(server.asked) == tries
    assert ("It was tried 3 times" in str(caught.value)) is (tries == 3)
    keys = [asked.headers.get("Idempotency-Key") for asked in server.asked]
    assert (keys[0] is not None) is (effect == "idempotent")
    assert len(set(keys)) == 1


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_other_statuses_are_not_sent_again(server: Api, status: int) -> None:
    server.answer = [status]
    with pytest.raises(EndpointError):
        await proxy_to(server.url).acall("Shop.get")
    assert len(server.asked) == 1


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("effect", "tries"), EFFECTS)
async def test_a_lost_answer_is_sent_again_by_the_effect(effect: str, tries: int) -> None:
    with bytes_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as one:
        with pytest.raises(EndpointUnreachable):
            await proxy_to(one.url, effect=effect).acall("Shop.get")
        assert len(one.heads) == tries


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("effect", ["pure", "ask", "never"])
async def test_what_was_not_sent_is_sent_again_whatever_it_does(effect: str) -> None:
    with bytes_server(b"") as one:
        url = one.url
    proxy = proxy_to(url, effect=effect)
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        with pytest.raises(EndpointUnreachable) as caught:
            await proxy.acall("Shop.get")
    assert not caught.value.sent
    found = [note["text"] for note in notes(store, session.id)]
    assert len(found) == 2
    assert "'Shop.get': no connection; sent again after 0.00 s (try 2 of 3)" in found[0]


@pytest.mark.usefixtures("soon")
async def test_the_tries_are_in_the_log(server: Api) -> None:
    server.answer = [503, 500, {"a": 1}]
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        assert await proxy_to(server.url).acall("Shop.get") == {"a": 1}
    assert [(note["status"], note["address"]) for note in notes(store, session.id)] == [
        (503, "Shop.get"),
        (500, "Shop.get"),
    ]


@pytest.mark.parametrize("form", ["seconds", "date", "milliseconds"])
async def test_a_server_that_asks_to_wait_is_heard(
    server: Api, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("lllm.proxies.client.asyncio.sleep", sleep)
    monkeypatch.setattr("lllm.http.limiter.LONGEST_PAUSE", 0.0)
    headers = {
        "seconds": {"Retry-After": "7"},
        "date": {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)},
        "milliseconds": {"Retry-After-Ms": "7000"},
    }[form]
    server.answer = [(429, headers, ""), {}]
    await proxy_to(server.url).acall("Shop.get")
    assert 5 < slept[0] <= 8


@pytest.mark.parametrize("form", ["timeout", "deadline"])
async def test_waits_count(server: Api, form: str) -> None:
    server.answer = [(429, {"Retry-After": "3600"}, "")]
    proxy = proxy_to(server.url, **({"timeout": 20} if form == "timeout" else {"timeout": 7000}))
    endpoint = proxy.endpoint("Shop.get")
    with pytest.raises(EndpointRateLimited, match=r"asks to wait 3600 s") as caught:
        await proxy.perform(endpoint, {}, ToolContext(deadline=20.0 if form == "deadline" else None))
    assert caught.value.retry_after == 3600
    assert len(server.asked) == 1


async def test_a_deadline_ends_a_request(server: Api) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    server.answer = answer
    proxy = proxy_to(server.url)
    began = time.monotonic()
    with pytest.raises(EndpointTimeout):
        await proxy.perform(proxy.endpoint("Shop.get"), {}, ToolContext(deadline=0.2))
    assert time.monotonic() - began < 10


async def test_a_connection_that_ended_while_nobody_looked_is_not_used() -> None:
    """A loop that drives blocking calls stands still between them: a POST would be lost."""

    async def script(one: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await one.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()

    with raw(script) as one:
        proxy = proxy_to(one.url, effect="never", method="GET")
        for n in range(6):
            assert await proxy.acall("Shop.get") == []
            while one.closed <= n:
                time.sleep(0.005)  # this loop stands still: it does not hear of the end
        assert one.connections == 6


# --- redirects


async def test_redirects_within_the_origin(server: Api) -> None:
    async def answer(request: web.Request) -> web.Response:
        n = int(request.query.get("n", 0))
        if n < 5:
            return web.Response(
                status=(301, 302, 303, 307, 308)[n], headers={"Location": f"/b/../c?n={n + 1}"}
            )
        return web.json_response(dict(request.headers))

    server.answer = answer
    attributes = {"auth": [Header("X-Key", env="SHOP_KEY"), Query("key", env="SHOP_KEY")]}
    proxy = proxy_to(server.url, attributes=attributes)
    await proxy.acall("Shop.get")
    assert [asked.path for asked in server.asked] == ["/a", *["/c"] * 5]
    assert all(asked.headers["X-Key"] == "s3cr3t-k3y-of-the-shop" for asked in server.asked)
    assert server.last.pairs == [("n", "5"), ("key", "s3cr3t-k3y-of-the-shop")]


async def test_too_many_redirects(server: Api) -> None:
    server.answer = [(302, {"Location": "/a"}, "")]
    with pytest.raises(EndpointRejected, match="more than 5 redirects"):
        await proxy_to(server.url).acall("Shop.get")
    assert len(server.asked) == 6


@pytest.mark.parametrize("kind", ["host", "scheme", "user", "file", "nonsense", "no user", "none"])
async def test_redirects_that_are_not_followed(server: Api, kind: str) -> None:
    with api() as other:
        port = server.url.rpartition(":")[2]
        location = {
            "host": f"{other.url}/x?key=s3cr3t-k3y-of-the-shop",
            "scheme": server.url.replace("http:", "https:"),
            "user": f"http://a:b@127.0.0.1:{port}/x",
            "file": "file:///etc/passwd",
            "nonsense": "http://[",
            "no user": "http://[::1]@",
            "none": "",
        }[kind]
        server.answer = [(302, {"Location": location} if location else {}, "")]
        proxy = proxy_to(server.url, attributes={"auth": Query("key", env="SHOP_KEY")})
        with pytest.raises(EndpointRejected, match="answered 302 Found") as caught:
            await proxy.acall("Shop.get")
        assert other.asked == []
    assert len(server.asked) == 1
    assert "s3cr3t" not in str(caught.value)
    assert "Redirects are followed within" in str(caught.value)


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, None), ("POST", 302, None), ("POST", 303, ("GET", b"")), ("POST", 307, ("POST", b'{"x":1}')),
        ("PUT", 308, ("PUT", b'{"x":1}')), ("PATCH", 302, None),
    ],
)  # fmt: skip
async def test_redirects_of_requests_with_a_body(
    server: Api, method: str, status: int, then: tuple[str, bytes] | None
) -> None:
    server.answer = [(status, {"Location": "/b"}, ""), {"done": True}]
    proxy = proxy_to(server.url, method=method, params={"x": int})
    if then is None:
        with pytest.raises(EndpointRejected, match="only 303, 307 and 308"):
            await proxy.acall("Shop.get", x=1)
        return
    assert await proxy.acall("Shop.get", x=1) == {"done": True}
    assert (server.last.method, server.last.body) == then
    assert ("Content-Type" in server.last.headers) is (then[0] != "GET")


# --- limits


@pytest.mark.parametrize("blocking", [False, True])
async def test_concurrency_is_limited(server: Api, blocking: bool) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(0.005)
        return web.json_response(1)

    server.answer = answer
    proxy = proxy_to(server.url, attributes={"concurrency": 5})
    await asyncio.gather(*(proxy.acall("Shop.get") for _ in range(60)))
    assert server.most <= 5
    assert len(server.asked) == 60
    if blocking:
        await asyncio.gather(*(asyncio.to_thread(proxy, "Shop.get") for _ in range(20)))
        assert server.most <= 5


async def test_systems_with_one_key_share_a_limit_and_others_do_not(server: Api) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    server_now: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        server_now.append(server.now)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), loop))
        return web.json_response(1)

    server.answer = answer

    class Shop(BaseProxy, register=False):
        base_url = server.url
        auth = Bearer(env="SHOP_KEY")
        concurrency = 1

        @BaseProxy.endpoint(endpoint="a")
        def get(self) -> None: ...

    one, same, other = (Proxy([Shop], variables={"SHOP_KEY": key * 9}) for key in ("a", "a", "b"))
    calls = [asyncio.create_task(each.acall("Shop.get")) for each in (one, same, other)]
    while len(server.asked) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert sorted(asked.headers["Authorization"] for asked in server.asked) == [
        f"Bearer {'a' * 9}",
        f"Bearer {'b' * 9}",
    ]
    release.set()
    await asyncio.gather(*calls)
    assert len(server.asked) == 3


async def test_a_turn_that_does_not_come_in_time(server: Api) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.json_response(1)

    server.answer = answer
    proxy = proxy_to(server.url, attributes={"concurrency": 1})
    first = asyncio.create_task(proxy.acall("Shop.get"))
    while not server.asked:
        await asyncio.sleep(0.01)
    with pytest.raises(EndpointTimeout, match="its turn did not come") as caught:
        await proxy.perform(proxy.endpoint("Shop.get"), {}, ToolContext(deadline=0.05))
    assert not caught.value.sent
    await first


async def test_a_long_wait_for_a_turn_is_noted(server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.json_response(1)

    monkeypatch.setattr("lllm.proxies.client.LONG_WAIT", 0.01)
    server.answer = answer
    proxy = proxy_to(server.url, attributes={"concurrency": 1})
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        await asyncio.gather(*(proxy.acall("Shop.get") for _ in range(3)))
    said = [note["text"] for note in notes(store, session.id)]
    assert len(said) == 2
    assert all("s for its turn under the limits of its API" in text for text in said)


async def test_an_overload_slows_all_down(server: Api) -> None:
    server.answer = [(429, {"Retry-After": "0"}, ""), {}]
    proxy = proxy_to(server.url, attributes={"concurrency": 8})
    await proxy.acall("Shop.get")
    (known,) = proxy.client._shown["Shop.get"].limiters.values()
    assert known[0].concurrency < 8
    assert known[0].running == 0


@pytest.mark.parametrize("limits", [{"concurrency": 0}, {"requests_per_minute": 1.5}])
async def test_limits_that_are_none(server: Api, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        await proxy_to(server.url, attributes=limits).acall("Shop.get")


# --- the way there


async def test_cookies_are_not_kept(server: Api) -> None:
    server.answer = [(200, {"Set-Cookie": "a=1", "Content-Type": "application/json"}, "{}")]
    proxy = proxy_to(server.url)
    for _ in range(3):
        await proxy.acall("Shop.get")
    assert all("Cookie" not in asked.headers for asked in server.asked)


async def test_a_forward_proxy_of_the_environment(server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://user:pa55word@"))
    _ways.clear()
    for _ in range(2):
        assert await proxy_to("http://api.example.invalid", effect="ask").acall("Shop.get")
        assert server.last.headers["Host"] == "api.example.invalid"
        assert server.last.headers["Proxy-Authorization"]
    server.answer = [407]
    with pytest.raises(Exception, match="407") as caught:
        await proxy_to("http://api.example.invalid", effect="ask").acall("Shop.get")
    assert "pa55word" not in str(caught.value)
    _ways.clear()


@pytest.mark.parametrize("state", ["works", "refuses", "is not there"])
async def test_a_socks_proxy_of_the_environment(
    server: Api, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    pytest.importorskip("aiohttp_socks")
    port = int(server.url.rpartition(":")[2]) if state == "works" else 1
    async with Socks(port) as socks:
        where = 1 if state == "is not there" else socks.port
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{where}")
        _ways.clear()
        proxy = proxy_to("http://api.example.invalid", effect="never", timeout=0.6)
        if state == "works":
            for _ in range(2):
                await proxy.acall("Shop.get")
                assert server.last.headers["Host"] == "api.example.invalid"
        else:
            with pytest.raises(EndpointUnreachable) as caught:
                await proxy.acall("Shop.get")
            assert not caught.value.sent
    _ways.clear()


async def test_a_cancelled_call_leaves_nothing_behind(server: Api) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(20)
        raise AssertionError

    server.answer = answer
    proxy = proxy_to(server.url, attributes={"concurrency": 1})
    for _ in range(2):
        count = len(server.asked)
        task = asyncio.create_task(proxy.acall("Shop.get"))
        while len(server.asked) == count:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    server.answer = [{"a": 1}]
    assert await proxy.acall("Shop.get") == {"a": 1}
