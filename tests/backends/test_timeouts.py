"""Each of the four limits trips on its own, and none of them trips for a slow consumer."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.errors import ProviderTimeout
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request, Timeouts
from tests.backends.helpers import ask, at_some_pace, collect, limits, reply
from tests.servers.openai_server import OpenAIServer

SHORT = 0.15


async def timeout(backend: OpenAIBackend, request: Request) -> ProviderTimeout:
    started = time.monotonic()
    with pytest.raises(ProviderTimeout) as caught:
        await collect(backend, request)
    assert time.monotonic() - started < 60  # and not the 120 of the other limits
    error = caught.value
    assert error.retryable
    assert error.seconds == SHORT
    assert f"{error.stage}=" in str(error)
    assert error.__context__ is None
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    return error


@pytest.mark.parametrize("stream", [False, True])
async def test_connect(stream: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never speaks TLS
        backend = OpenAIBackend(f"https://127.0.0.1:{silent.getsockname()[1]}")
        error = await timeout(backend, ask(stream=stream, timeouts=limits(connect=SHORT)))
    assert error.stage == "connect"


async def test_first_token(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello.", hang="before")
    error = await timeout(backend, ask(stream=True, timeouts=limits(first_token=SHORT)))
    assert (error.stage, error.partial) == ("first_token", "")


async def test_first_token_in_spite_of_heartbeats(server: OpenAIServer, backend: OpenAIBackend) -> None:
    script = server.say("Hello.", gap=0.02)
    script.events = lambda: [b": ping\n\n"] * 6000  # type: ignore[method-assign]
    error = await timeout(backend, ask(stream=True, timeouts=limits(first_token=SHORT)))
    assert error.stage == "first_token"


async def test_idle(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang="middle", cut=1 << 20)  # the first half in one piece
    error = await timeout(backend, ask(stream=True, timeouts=limits(idle=SHORT)))
    assert error.stage == "idle"
    assert error.partial.startswith("Hello")
    assert "proxy" in str(error)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hang", ["before", "middle"])
async def test_total(stream: bool, hang: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang=hang)
    error = await timeout(backend, ask(stream=stream, timeouts=limits(total=SHORT)))
    assert error.stage == "total"


async def test_total_of_a_stream_that_never_pauses(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("x" * 10_000, piece=1, gap=0.01)
    error = await timeout(backend, ask(stream=True, timeouts=limits(total=SHORT, idle=1.0)))
    assert error.stage == "total"


async def test_heartbeats_keep_a_stream_alive(server: OpenAIServer, backend: OpenAIBackend) -> None:
    async def attempt(pace: float) -> Reply:
        script = server.say("Hello.", gap=0.04 * pace)
        events = script.events()
        script.events = lambda: [*events[:2], *[b": ping\n\n"] * 10, *events[2:]]  # type: ignore[method-assign]
        return await reply(backend, ask(stream=True, timeouts=limits(idle=0.25 * pace)))

    assert (await at_some_pace(attempt)).content == "Hello."


async def test_a_whole_answer_knows_neither_first_token_nor_idle(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello.", hang="before")
    call = asyncio.ensure_future(reply(backend, ask(timeouts=limits(first_token=0.01, idle=0.01))))
    await asyncio.sleep(0.1)
    assert not call.done()
    call.cancel()


async def test_a_slow_consumer_is_not_interrupted(server: OpenAIServer, backend: OpenAIBackend) -> None:
    async def attempt(pace: float) -> Delta | None:
        server.say("Hello.", piece=1)
        last = None
        short = limits(idle=0.05 * pace, first_token=0.1 * pace)
        async for delta in backend.stream(ask(stream=True, timeouts=short)):
            await asyncio.sleep(0.06 * pace)
            last = delta
        return last

    assert isinstance(await at_some_pace(attempt), Completed)


async def test_no_limits_at_all(server: OpenAIServer, backend: OpenAIBackend) -> None:
    for stream in (False, True):
        server.say("Hello.")
        got = await reply(backend, ask(stream=stream, timeouts=Timeouts(None, None, None, None)))
        assert got.content == "Hello."


async def test_the_backends_own_limits_stand_in(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, timeouts=limits(total=SHORT))
    server.say("Hello.", hang="before")
    assert (await timeout(backend, ask())).stage == "total"
    server.say("Hello.", gap=0.05)
    assert (await reply(backend, ask(stream=True, timeouts=limits()))).content == "Hello."


async def test_a_cancellation_is_not_a_timeout(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello.", hang="before")
    call = asyncio.ensure_future(reply(backend, ask(timeouts=limits())))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
