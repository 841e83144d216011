"""Sockets: reused, closed when nobody wants them, and nothing left behind in any thread, loop or process."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.ports import Completed, TextDelta
from tests.backends.helpers import ask, collect, limits, reply
from tests.servers.openai_server import OpenAIServer, Script

ROOT = Path(__file__).parents[2]


async def until(true: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become true")


@pytest.mark.parametrize("stream", [False, True])
async def test_one_socket_for_one_call_after_another(
    stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.forever = Script("Hello.")
    for _ in range(5):
        await reply(backend, ask(stream=stream))
    server.fault(500)
    with pytest.raises(Exception, match="500"):
        await reply(backend, ask(stream=stream))
    await reply(backend, ask(stream=stream))
    assert server.accepted == 1
    assert server.connections == 1


async def test_aclose_closes_the_sockets_and_the_backend_can_be_used_again(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.forever = Script("Hello.")
    await reply(backend, ask())
    await backend.aclose()
    await until(lambda: server.connections == 0)
    await backend.aclose()
    assert (await reply(backend, ask())).content == "Hello."


async def test_a_stream_that_is_closed_early(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang="middle")
    stream = backend.stream(ask(stream=True))
    assert await anext(stream) == TextDelta("Hell")
    assert server.connections == 1
    await stream.aclose()
    await until(lambda: server.connections == 0)


async def test_a_stream_that_is_left(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang="middle")
    async for _ in backend.stream(ask(stream=True)):
        break
    gc.collect()
    await until(lambda: server.connections == 0)


@pytest.mark.parametrize(
    ("stream", "hang"), [(False, "before"), (False, "middle"), (True, "before"), (True, "middle")]
)
async def test_a_cancelled_call(
    stream: bool, hang: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello, how are you?", hang=hang)
    call = asyncio.ensure_future(collect(backend, ask(stream=stream)))
    await until(lambda: len(server.requests) == 1)
    await asyncio.sleep(0.02)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: server.connections == 0)


async def test_a_timeout_closes_its_socket(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang="middle")
    with pytest.raises(Exception, match="idle"):
        await collect(backend, ask(stream=True, timeouts=limits(idle=0.05)))
    await until(lambda: server.connections == 0)


async def test_a_server_that_does_not_end_after_done(server: OpenAIServer, backend: OpenAIBackend) -> None:
    script = server.say("Hello.")
    events = script.events()
    script.events = lambda: [*events, *[b": and"] * len(events)]  # type: ignore[method-assign]
    script.hang = "middle"  # after the first half
    assert (await reply(backend, ask(stream=True))).content == "Hello."
    await until(lambda: server.connections == 0)


def test_many_calls_from_many_threads(server: OpenAIServer) -> None:
    """Each thread has its own loop, and nothing gets mixed up."""
    server.answer = lambda body: Script(body["messages"][0]["content"], piece=2)
    backend = OpenAIBackend(server.url)
    wrong: list[object] = []

    async def calls(thread: int) -> None:
        texts = [f"thread {thread}, call {number}" for number in range(20)]
        got = await asyncio.gather(
            *(reply(backend, ask(text, stream=bool(number % 2))) for number, text in enumerate(texts))
        )
        wrong.extend(text for text, answer in zip(texts, got, strict=True) if answer.content != text)

    def work(number: int) -> None:
        try:
            asyncio.run(calls(number))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert wrong == []
    assert len(server.requests) == 80


def test_a_loop_that_ends_takes_its_sockets_along(server: OpenAIServer) -> None:
    server.forever = Script("Hello.")
    backend = OpenAIBackend(server.url)
    for _ in range(3):
        assert asyncio.run(reply(backend, ask())).content == "Hello."
    deadline = time.monotonic() + 120
    while server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.connections == 0


def test_aclose_reaches_the_loops_of_other_threads(server: OpenAIServer) -> None:
    server.forever = Script("Hello.")
    backend = OpenAIBackend(server.url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(reply(backend, ask()), loop).result(120)
        assert server.connections == 1
        asyncio.run(backend.aclose())
        deadline = time.monotonic() + 120
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.connections == 0
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(120)
        loop.close()


PROGRAM = """
import asyncio, gc, os, sys, threading
from lllm.backends.openai import OpenAIBackend
from lllm.models.message import user
from lllm.ports import Request, Completed
assert "aiohttp" not in sys.modules, "aiohttp is imported on first use"
backend = OpenAIBackend(sys.argv[1])
async def call(stream=False):
    async for delta in backend.stream(Request("m", (user("Hi."),), stream=stream)):
        last = delta
    assert isinstance(last, Completed) and last.reply.content == "Hello.", last
"""
ENDINGS = {
    "the loop ends": "asyncio.run(call())",
    "the loop is closed by hand": "loop = asyncio.new_event_loop(); loop.run_until_complete(call()); loop.close()",
    # asyncio complains about such a loop itself, so that is turned off
    "the loop is never closed": """
asyncio.BaseEventLoop.__del__ = lambda self: self.close()
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
""",
    "two loops": "asyncio.run(call()); asyncio.run(call(True))",
    "the backend is forgotten": """
async def main():
    global backend
    await call()
    del backend
    gc.collect()
    await asyncio.sleep(0.01)
asyncio.run(main())
""",
    "the backend is garbage in a circle": """
async def main():
    global backend
    await call()
    backend.itself = backend
    del backend
    gc.collect()
asyncio.run(main())
""",
    "the backend is forgotten after its loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
backend.itself = backend
del backend
gc.collect()
loop.close()
""",
    "a thread with its own loop": """
thread = threading.Thread(target=lambda: asyncio.run(call()))
thread.start(); thread.join()
""",
    "a stream is left open": """
async def main():
    stream = backend.stream(Request("m", (user("Hi."),), stream=True))
    await anext(stream)
asyncio.run(main())
""",
    "a fork": """
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
pid = os.fork()
if pid == 0:
    status = 1
    try:
        asyncio.run(call()); asyncio.run(call(True))
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
loop.run_until_complete(call())  # on the connection from before
loop.run_until_complete(backend.aclose())
loop.close()
""",
    "a fork whose child exits as a program does": """
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    loop.run_until_complete(call())
    loop.run_until_complete(backend.aclose())
loop.close()
""",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_nothing_is_said_at_the_end(name: str, server: OpenAIServer) -> None:
    if "fork" in name and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    server.forever = Script("Hello.")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + ENDINGS[name], server.url],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_the_last_item_is_the_reply_also_when_it_is_closed_then(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello.")
    stream = backend.stream(ask(stream=True))
    async for delta in stream:
        if isinstance(delta, Completed):
            break
    await stream.aclose()
    assert server.connections == 1  # read to its end, so the socket is kept
