"""One suite for every backend that can be told what to say: the contract of `lllm.ports.Backend`.

A backend joins by a function in PLACES that gives a Place: the backend, and a way to say what it answers next. One that
says what it likes joins by MODELS, and shows there what holds whatever is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from lllm.backends.embedded import EmbeddedBackend
from lllm.backends.openai import OpenAIBackend
from lllm.backends.scripted import ScriptedBackend
from lllm.errors import (
    AuthenticationError,
    ContextLengthError,
    LLMInferenceError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
    ServerError,
)
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import Backend, Capabilities, Completed, TextDelta
from tests.backends.helpers import ADD, ask, collect, joined, limits, reply, schema
from tests.servers.openai_server import MODEL, OpenAIServer, Script, call


class Place(NamedTuple):
    """A backend under test.

    Attributes:
        backend: the backend.
        say: its next answer: text, thinking, tool calls `(id, name, arguments)`.
        fail: its next answer is a fault of this status and code.
        wait: its next answer never comes.
        asked: how often it was asked so far.
    """

    backend: Backend
    say: Callable[..., None]
    fail: Callable[[int, str | None], None]
    wait: Callable[[], None]
    asked: Callable[[], int]


KINDS: dict[int, type[ProviderError]] = {401: AuthenticationError, 429: RateLimitError, 500: ServerError}


@asynccontextmanager
async def scripted() -> AsyncIterator[Place]:
    items: list[Any] = []

    def say(
        content: str = "", *, thinking: str | None = None, calls: tuple[tuple[str, str, str], ...] = ()
    ) -> None:
        entries = [FunctionCall(*entry) for entry in calls]
        items.append({"content": content, "thinking": thinking, "tool_calls": entries, "usage": Usage(11, 7)})

    def fail(status: int, code: str | None) -> None:
        kind = ContextLengthError if code == "context_length_exceeded" else KINDS[status]
        items.append(kind("it did not work", status=status))

    def wait() -> None:
        items.append({"content": "Hello.", "delay": 60})

    backend = ScriptedBackend(lambda _: items.pop(0), chunk=3)
    yield Place(backend, say, fail, wait, lambda: len(backend.requests))
    await backend.aclose()


def over_loopback(**options: Any) -> Callable[[], AbstractAsyncContextManager[Place]]:
    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        with OpenAIServer() as server:

            def say(content: str = "", *, thinking: str | None = None, calls: tuple[Any, ...] = ()) -> None:
                entries = [call(name, arguments, ident) for ident, name, arguments in calls]
                server.scripts.append(Script(content, thinking=thinking, tool_calls=entries, piece=3))

            backend = OpenAIBackend(server.url, **options)
            yield Place(
                backend,
                say,
                lambda status, code: server.fault(status, code=code) and None,
                lambda: server.say("Hello.", hang="before") and None,
                lambda: len(server.requests),
            )
            await backend.aclose()

    return place


PLACES: dict[str, Callable[[], AbstractAsyncContextManager[Place]]] = {
    "scripted": scripted,
    "openai": over_loopback(),
    "openai responses": over_loopback(api="responses"),
}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with PLACES[request.param]() as one:
        yield one


def test_it_is_a_backend(place: Place) -> None:
    assert isinstance(place.backend, Backend)
    assert isinstance(place.backend.capabilities, Capabilities)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply(stream: bool, place: Place) -> None:
    place.say("Hello, how are you?")
    got = await reply(place.backend, ask(model=MODEL, stream=stream))
    assert isinstance(got, Reply)
    assert (got.content, got.finish_reason, got.model) == ("Hello, how are you?", "stop", MODEL)
    assert got.usage == Usage(11, 7)


CALLS = (("c1", "add", '{"a": 1, "b": 2}'), ("c2", "add", "{}"))


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "Hello, how are you?"},
        {"content": ""},
        {"content": "Größe 你好 \U0001f600"},
        {"content": "Hello.", "thinking": "Let me see."},
        {"calls": CALLS},
        {"content": "I add.", "thinking": "Let me see.", "calls": CALLS},
    ],
)
async def test_the_pieces_add_up_to_the_whole(answer: dict[str, Any], place: Place) -> None:
    place.say(**answer)
    place.say(**answer)
    whole = await reply(place.backend, ask(tools=(ADD,)))
    deltas = await collect(place.backend, ask(tools=(ADD,), stream=True))
    assert isinstance(deltas[-1], Completed)
    assert deltas[-1].reply == whole
    assert joined(deltas) == (whole.content, whole.thinking or "", list(whole.tool_calls))
    assert whole.content == answer.get("content", "")
    assert whole.thinking == answer.get("thinking")
    assert [(c.id, c.name, c.arguments) for c in whole.tool_calls] == list(answer.get("calls", ()))
    assert whole.finish_reason == ("tool_calls" if "calls" in answer else "stop")


async def test_sampling_and_format_are_taken(place: Place) -> None:
    place.say("{}")
    sampling = {"temperature": 0, "max_tokens": 10}
    assert (await reply(place.backend, ask(sampling=sampling, format=schema()))).content == "{}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, None, AuthenticationError),
        (429, None, RateLimitError),
        (500, None, ServerError),
        (400, "context_length_exceeded", ContextLengthError),
    ],
)
async def test_a_fault(
    status: int, code: str | None, kind: type[ProviderError], stream: bool, place: Place
) -> None:
    place.fail(status, code)
    with pytest.raises(LLMInferenceError) as caught:
        await collect(place.backend, ask(stream=stream))
    assert type(caught.value) is kind
    assert isinstance(caught.value, ProviderError)
    assert caught.value.status == status


@pytest.mark.parametrize("stream", [False, True])
async def test_it_can_be_cancelled_and_asked_again(stream: bool, place: Place) -> None:
    place.wait()
    task = asyncio.ensure_future(collect(place.backend, ask(stream=stream, timeouts=limits())))
    while not place.asked():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    place.say("Hello.")
    assert (await reply(place.backend, ask(stream=stream, timeouts=limits()))).content == "Hello."


async def test_it_can_be_closed_early(place: Place) -> None:
    place.say("Hello, how are you?")
    stream = place.backend.stream(ask(stream=True))
    assert await anext(stream) == TextDelta("Hel")
    await stream.aclose()  # type: ignore[attr-defined]
    place.say("Hello.")
    assert (await reply(place.backend, ask())).content == "Hello."


async def test_calls_at_the_same_time(place: Place) -> None:
    for number in range(10):
        place.say(f"reply {number}")
    got = await asyncio.gather(*(reply(place.backend, ask(stream=bool(n % 2))) for n in range(10)))
    assert sorted(answer.content for answer in got) == sorted(f"reply {number}" for number in range(10))


def test_one_event_loop_after_another() -> None:
    for name, make in PLACES.items():

        async def use(make: Callable[[], AbstractAsyncContextManager[Place]] = make) -> str:
            async with make() as one:
                one.say("Hello.")
                return (await reply(one.backend, ask())).content

        assert [asyncio.run(use()) for _ in range(2)] == ["Hello."] * 2, name


# --- whatever the model says


@asynccontextmanager
async def embedded() -> AsyncIterator[Backend]:
    backend = EmbeddedBackend()
    yield backend
    await backend.aclose()


def talking(place: Callable[[], AbstractAsyncContextManager[Place]]) -> Callable[..., Any]:
    """A place that always has something to say."""

    @asynccontextmanager
    async def model() -> AsyncIterator[Backend]:
        async with place() as one:
            for _ in range(40):
                one.say("Hello, how are you?", calls=CALLS)
            yield one.backend

    return model


MODELS: dict[str, Callable[[], AbstractAsyncContextManager[Backend]]] = {
    **{name: talking(place) for name, place in PLACES.items()},
    "embedded": embedded,
}
SHORT = {"max_tokens": 24, "temperature": 0}


@pytest.fixture(params=MODELS)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with MODELS[request.param]() as one:
        yield one


def test_a_model_is_a_backend(model: Backend) -> None:
    assert isinstance(model, Backend)
    assert isinstance(model.capabilities, Capabilities)


@pytest.mark.parametrize("tools", [(), (ADD,)])
async def test_pieces_add_up_whatever_is_said(tools: tuple[Any, ...], model: Backend) -> None:
    whole = await reply(model, ask("What is 1 plus 2?", tools=tools, sampling=SHORT))
    deltas = await collect(model, ask("What is 1 plus 2?", tools=tools, sampling=SHORT, stream=True))
    assert len(deltas) > 1
    assert isinstance(deltas[-1], Completed)
    streamed = deltas[-1].reply
    assert joined(deltas) == (streamed.content, streamed.thinking or "", list(streamed.tool_calls))
    for name in ("content", "thinking", "tool_calls", "finish_reason", "model", "refusal"):
        assert getattr(streamed, name) == getattr(whole, name), name
    assert whole.content or whole.tool_calls
    assert whole.usage is not None
    assert whole.usage.completion > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_many_at_once_and_one_left_alone(stream: bool, model: Backend) -> None:
    stayed = [
        asyncio.ensure_future(reply(model, ask(f"Number {n}?", sampling=SHORT, stream=stream)))
        for n in range(8)
    ]
    await asyncio.sleep(0)
    stayed[3].cancel()
    got = await asyncio.gather(*stayed, return_exceptions=True)
    assert isinstance(got.pop(3), asyncio.CancelledError | Reply)  # some are done at once
    assert [isinstance(one, Reply) for one in got] == [True] * 7


async def test_a_stream_closed_at_its_first_piece(model: Backend) -> None:
    stream = model.stream(ask("What is 1 plus 2?", sampling=SHORT, stream=True))
    assert not isinstance(await anext(stream), Completed)
    await stream.aclose()  # type: ignore[attr-defined]
    assert isinstance(await reply(model, ask(sampling=SHORT)), Reply)


async def test_closed_twice_and_used_again(model: Backend) -> None:
    await reply(model, ask(sampling=SHORT))
    await model.aclose()
    await model.aclose()
    assert isinstance(await reply(model, ask(sampling=SHORT)), Reply)


@pytest.mark.parametrize("stream", [False, True])
async def test_no_time_at_all(stream: bool, model: Backend) -> None:
    if isinstance(model, ScriptedBackend):  # it takes no time, so none is enough
        assert isinstance(await reply(model, ask(sampling=SHORT, timeouts=limits(total=0.000001))), Reply)
        return
    with pytest.raises(ProviderTimeout) as caught:
        await collect(model, ask(sampling=SHORT, stream=stream, timeouts=limits(total=0.000001)))
    assert caught.value.stage in ("connect", "first_token", "total")
    assert isinstance(await reply(model, ask(sampling=SHORT)), Reply)


def test_a_loop_in_each_of_several_threads() -> None:
    for name, make in MODELS.items():

        async def use(make: Callable[[], AbstractAsyncContextManager[Backend]] = make) -> Reply:
            async with make() as one:
                return await reply(one, ask(sampling=SHORT, stream=True))

        with ThreadPoolExecutor(3) as pool:
            got = list(pool.map(lambda _, use=use: asyncio.run(use()), range(3)))
        assert len({(one.content, one.tool_calls) for one in got}) == 1, name
