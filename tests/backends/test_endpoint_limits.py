"""Limits of an endpoint, as its model requests keep them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lllm.backends.endpoint_limits import begin, estimate_tokens, fail, overloaded
from lllm.backends.openai import OpenAIBackend
from lllm.errors import (
    ConfigError,
    ConnectionFailed,
    ProviderError,
    ProviderTimeout,
    QuotaError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from lllm.http.limiter import Limiter, Limits
from lllm.models.message import Message, user
from lllm.models.reply import Usage
from lllm.ports import Completed
from tests.backends.helpers import ask, at_some_pace, collect, limits, reply
from tests.http.clock import Time, settle
from tests.servers.openai_server import OpenAIServer, Script


def test_an_estimate_is_of_prompt_and_reply() -> None:
    assert estimate_tokens(ask("x" * 400, sampling={"max_tokens": 300}), 256.0) == 400
    assert estimate_tokens(ask("x" * 400, sampling={"max_completion_tokens": 300}), 256.0) == 400
    assert estimate_tokens(ask("x" * 40), 256.0) == 10 + 256


async def test_an_unlimited_reply_is_estimated_from_the_last() -> None:
    limiter = Limiter()
    limiter.restrict(Limits(tokens_per_minute=1_000_000))
    first = await begin(limiter, ask("x" * 40))
    assert first.tokens == 10 + 256
    for _ in range(200):
        first.succeed(Usage(10, 20))
        limiter.leave(first)
        first = await begin(limiter, ask("x" * 40))
    assert first.tokens in (30, 31)


async def test_nothing_is_estimated_without_a_limit_of_tokens() -> None:
    limiter = Limiter()
    limiter.restrict(Limits(concurrency=1))
    assert (await begin(limiter, ask("x" * 40))).tokens == 0


def test_pictures_and_tools_count() -> None:
    picture = Message(
        "user", ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 100_000}},)
    )
    assert estimate_tokens(ask(messages=(picture,), sampling={"max_tokens": 1}), 0) == 801
    tool = {"type": "function", "function": {"name": "x" * 400}}
    offered = ask(messages=(user(""),), tools=(tool,), sampling={"max_tokens": 1})
    assert 100 < estimate_tokens(offered, 0) < 130


@pytest.mark.parametrize(
    ("error", "uncounted"),
    [
        (RateLimitError("busy", status=429), True),
        (ConnectionFailed("nobody there"), True),
        (ServerError("x", status=500), False),
        (StreamInterrupted("x"), False),
    ],
)
async def test_a_refused_request_costs_no_tokens(error: ProviderError, uncounted: bool) -> None:
    limiter = Limiter()
    limiter.restrict(Limits(tokens_per_minute=1000))
    ticket = await begin(limiter, ask("x" * 400, sampling={"max_tokens": 800}))
    fail(ticket, error)
    limiter.leave(ticket)
    assert limiter._tokens == (0 if uncounted else 900)


@pytest.mark.parametrize(
    ("error", "lowers"),
    [
        (RateLimitError("x", status=429), True),
        (RateLimitError("x"), True),
        (QuotaError("x", status=429), False),
        (StreamInterrupted("x"), True),
        (ServerError("x", status=503), True),
        (ServerError("x", status=529), True),
        (ServerError("x", status=500), False),
        (ProviderTimeout("x", stage="idle", seconds=1), True),
        (ProviderTimeout("x", stage="first_token", seconds=1), True),
        (ProviderTimeout("x", stage="total", seconds=1), False),
        (ProviderTimeout("x", stage="connect", seconds=1), False),
        (ConnectionFailed("x"), False),
    ],
)
def test_what_lowers_it(error: ProviderError, lowers: bool) -> None:
    assert overloaded(error) is lowers
    limiter = Limiter()
    ticket = limiter.enter()
    fail(ticket, error)
    limiter.leave(ticket)
    assert limiter.free is not lowers


# --- over the wire ---


@pytest.mark.parametrize("name", Limits._fields)
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_a_limit_that_is_none(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIBackend("http://localhost", **{name: value})
    assert name in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_calls_never_more_than_so_many_at_a_time(stream: bool) -> None:
    with OpenAIServer() as server:
        server.forever, server.pause = Script("Hello.", piece=50), 0.001
        backend = OpenAIBackend(server.url, concurrency=8)
        replies = await asyncio.gather(*(reply(backend, ask(stream=stream)) for _ in range(1000)))
        assert {one.content for one in replies} == {"Hello."}
        assert len(server.requests) == 1000
        assert server.peak == 8
        assert server.accepted <= 8
        assert (backend.limiter.running, backend.limiter.waiting) == (0, 0)
        await backend.aclose()


async def test_all_backends_loops_and_threads_of_an_endpoint_share_it() -> None:
    with OpenAIServer() as server:
        server.forever, server.pause = Script("Hello."), 0.001
        backends = [OpenAIBackend(server.url, "sk-one-and-the-same", concurrency=n) for n in (5, 3, 9)]
        backends.append(OpenAIBackend(server.url, "sk-one-and-the-same"))
        assert len({id(backend.limiter) for backend in backends}) == 1
        assert backends[0].limiter.limits == Limits(3)

        async def many() -> None:
            await asyncio.gather(*(reply(b, ask(stream=True)) for b in backends for _ in range(10)))

        threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(server.requests) == 120
        assert server.peak == 3


async def test_a_cancelled_call_makes_room(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)
    server.say("Hello.", hang="before")
    server.say("Hello again.")
    hung = asyncio.ensure_future(reply(backend, ask()))
    while not server.requests:
        await asyncio.sleep(0.01)
    queued = asyncio.ensure_future(reply(backend, ask()))
    await settle()
    assert (backend.limiter.running, backend.limiter.waiting) == (1, 1)
    hung.cancel()
    assert (await queued).content == "Hello again."
    await backend.aclose()


async def test_half_of_them_cancelled_no_socket_is_left(server: OpenAIServer) -> None:
    for _ in range(20):
        server.say("Hello.")
    server.forever = Script("Hello.", hang="before")
    backend = OpenAIBackend(server.url, concurrency=4)
    calls = [asyncio.ensure_future(reply(backend, ask(stream=bool(n % 2)))) for n in range(40)]
    while len(server.requests) < 24:
        await asyncio.sleep(0.001)
    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, asyncio.CancelledError) for one in ended) == 20
    assert (backend.limiter.running, backend.limiter.waiting) == (0, 0)
    await backend.aclose()
    while server.connections:
        await asyncio.sleep(0.01)
    assert len(server.requests) == 24


async def test_waiting_is_not_the_requests_own_time(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)

    async def attempt(pace: float) -> None:
        server.say("one", piece=1, gap=0.1 * pace)
        server.say("two")
        short = limits(total=0.2 * pace, first_token=0.2 * pace)
        slow = asyncio.ensure_future(reply(backend, ask(stream=True)))
        await settle()
        try:
            assert (await reply(backend, ask(stream=True, timeouts=short))).content == "two"
        finally:
            assert (await slow).content == "one"

    await at_some_pace(attempt)
    await backend.aclose()


async def test_who_has_its_reply_holds_nobody_up(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)
    server.say("one")
    server.say("two")
    source = backend.stream(ask(stream=True))
    async for delta in source:
        if isinstance(delta, Completed):
            break
    assert (await reply(backend, ask())).content == "two"
    await source.aclose()
    await backend.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dropped_reply_lowers_the_number(stream: bool, server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url)
    for _ in range(3):
        server.say("Hello.", hang="before")
    others = [asyncio.ensure_future(collect(backend, ask())) for _ in range(3)]
    while len(server.requests) < 3:
        await asyncio.sleep(0.01)
    server.say("Hello, how are you?", drop="middle")
    with pytest.raises(StreamInterrupted) as caught:
        await collect(backend, ask(stream=stream))
    assert backend.limiter.concurrency == 2
    assert "proxy" in str(caught.value)
    assert "2 calls at a time instead of 4" in str(caught.value)
    for other in others:
        other.cancel()
    await asyncio.wait(others)
    await backend.aclose()


async def test_a_429_holds_every_caller_up(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, other = OpenAIBackend(server.url), OpenAIBackend(server.url)
    time = Time()
    fresh = Limiter(clock=time, later=time.later)
    monkeypatch.setattr("lllm.backends.openai.client.limiter_of", lambda *_: fresh)
    server.fault(429, retry_after="7")
    server.say("Hello.")
    with pytest.raises(RateLimitError):
        await reply(backend, ask())
    call = asyncio.ensure_future(reply(other, ask()))
    await time.pass_(6.9)
    assert len(server.requests) == 1
    await time.pass_(0.1)
    assert (await call).content == "Hello."
    for one in (backend, other):
        await one.aclose()


async def test_the_responses_api_goes_through_it_too(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, "sk-test-test", api="responses", concurrency=1)
    server.say("one", gap=0.02)
    server.say("two")
    replies = await asyncio.gather(*(reply(backend, ask(stream=True)) for _ in range(2)))
    assert [one.content for one in replies] == ["one", "two"]
    server.fault(429, retry_after="0")
    with pytest.raises(RateLimitError):
        await reply(backend, ask())
    assert (backend.limiter.running, backend.limiter.concurrency) == (0, 1)
    await backend.aclose()
