"""One suite for every backend that can be told what to say: the contract of `lllm.ports.Backend`.

A backend joins by a function in PLACES that gives a Place: the backend, and a way to say what it answers next. One that
says what it likes joins by MODELS, and shows there what holds whatever is said; one with real weights (those of the
embedded model) shows more.
"""

from __future__ import annotations

import asyncio
import json
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
    UnknownKeyError,
)
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import Backend, Capabilities, Completed, Request, TextDelta
from tests.backends.helpers import ADD, ask, collect, joined, limits, reply, schema
from tests.servers.openai_server import MODEL, OpenAIServer, Script, call
from training.embedded.forms import Forms


class Place(NamedTuple):
    """A backend under test.

    Attributes:
        backend: the backend.
        say: its next answer: text, thinking, tool calls `(id, name, arguments)`.
        fail: its next answer is a fault of this status and code.
        wait: its next answer never comes.
        forget: takes back what it was told to say.
        asked: how often it was asked so far.
    """

    backend: Backend
    say: Callable[..., None]
    fail: Callable[[int, str | None], None]
    wait: Callable[[], None]
    forget: Callable[[], None]
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
    yield Place(backend, say, fail, wait, items.clear, lambda: len(backend.requests))
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
                server.scripts.clear,
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


class Model(NamedTuple):
    """A backend that always has something to say.

    Attributes:
        backend: the backend.
        name: what a request calls its model.
        place: how it is told what to say; None for real weights, which say what they like.
        enforced: how it holds a structured reply to its schema; None where the test has no say in it.
    """

    backend: Backend
    name: str = MODEL
    place: Place | None = None
    enforced: str | None = "grammar"

    def told(self, content: str = "", **answer: Any) -> None:
        """The next answer, where it can be told."""
        if self.place is not None:
            self.place.forget()
            self.place.say(content, **answer)

    def ask(self, text: str = "Hi.", **more: Any) -> Request:
        return ask(text, model=self.name, **more)


def talking(
    place: Callable[[], AbstractAsyncContextManager[Place]], enforced: str | None
) -> Callable[..., AbstractAsyncContextManager[Model]]:
    @asynccontextmanager
    async def model(_: Forms) -> AsyncIterator[Model]:
        async with place() as one:
            for _ in range(40):
                one.say("Hello, how are you?", calls=CALLS)
            yield Model(one.backend, place=one, enforced=enforced)

    return model


def real(
    make: Callable[[], Backend], name: Callable[[Forms], Any] = lambda _: "embedded"
) -> Callable[..., AbstractAsyncContextManager[Model]]:
    """Real weights: `name` gives the model's name behind the provider, from the forms that there are."""

    @asynccontextmanager
    async def model(forms: Forms) -> AsyncIterator[Model]:
        backend = make()
        yield Model(backend, str(name(forms)))
        await backend.aclose()

    return model


def llama_cpp(engine: str) -> Callable[[], Backend]:
    def make() -> Backend:
        from lllm.backends.llama_cpp import LlamaCppBackend

        return LlamaCppBackend(engine=engine)

    return make


def transformers() -> Backend:
    from lllm.backends.transformers import TransformersBackend

    return TransformersBackend(device="cpu", threads=1)


MODELS: dict[str, Callable[[Forms], AbstractAsyncContextManager[Model]]] = {
    "scripted": talking(PLACES["scripted"], None),
    "openai": talking(PLACES["openai"], "provider"),
    "openai responses": talking(PLACES["openai responses"], "provider"),
    "embedded": real(EmbeddedBackend),
    "llama_cpp (xllamacpp)": real(llama_cpp("xllamacpp"), lambda forms: forms.gguf_q8),
    "llama_cpp (llama-cpp-python)": real(llama_cpp("llama-cpp-python"), lambda forms: forms.gguf_q8),
    "transformers": real(transformers, lambda forms: forms.folder),
}
SHORT = {"max_tokens": 24, "temperature": 0}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Gives the value of an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


@pytest.fixture(params=MODELS)
async def model(request: pytest.FixtureRequest, forms: Forms) -> AsyncIterator[Model]:
    async with MODELS[request.param](forms) as one:
        yield one


@pytest.fixture(params=[name for name in MODELS if name not in PLACES])
async def weights(request: pytest.FixtureRequest, forms: Forms) -> AsyncIterator[Model]:
    """A model that nobody can tell what to say."""
    async with MODELS[request.param](forms) as one:
        yield one


def test_a_model_is_a_backend(model: Model) -> None:
    assert isinstance(model.backend, Backend)
    assert isinstance(model.backend.capabilities, Capabilities)


@pytest.mark.parametrize("tools", [(), (ADD,)])
async def test_pieces_add_up_whatever_is_said(tools: tuple[Any, ...], model: Model) -> None:
    request = model.ask("What is 1 plus 2?", tools=tools, sampling=SHORT)
    whole = await reply(model.backend, request)
    deltas = await collect(model.backend, request._replace(stream=True))
    assert len(deltas) > 1
    assert isinstance(deltas[-1], Completed)
    streamed = deltas[-1].reply
    assert joined(deltas) == (streamed.content, streamed.thinking or "", list(streamed.tool_calls))
    for name in ("content", "thinking", "tool_calls", "finish_reason", "model", "refusal"):
        assert getattr(streamed, name) == getattr(whole, name), name
    assert whole.content or whole.tool_calls
    assert whole.usage is not None
    assert streamed.usage is not None
    assert whole.usage[:2] == streamed.usage[:2]
    assert min(whole.usage[:2]) > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("tool", "question", "arguments"),
    [
        (TOOL, "What is 17 times 23?", {"expression": "17 * 23"}),
        (ADD, "What is 40 plus 2?", {"a": 40, "b": 2}),
    ],
)
async def test_a_tool_is_called(
    tool: dict[str, Any], question: str, arguments: dict[str, Any], stream: bool, model: Model
) -> None:
    name = tool["function"]["name"]
    model.told(calls=(("c1", name, json.dumps(arguments)),))
    got = await reply(
        model.backend,
        model.ask(question, tools=(tool,), sampling={"max_tokens": 64, "temperature": 0}, stream=stream),
    )
    (made,) = got.tool_calls
    assert (made.name, json.loads(made.arguments)) == (name, arguments)
    assert made.id
    assert (got.content, got.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_structured_reply(stream: bool, model: Model) -> None:
    answer = {"answer": 391, "unit": "none"}
    model.told(json.dumps(answer))
    wanted = schema(answer={"type": "integer", "minimum": 0}, unit={"enum": ["none", "metres"]})
    got = await reply(
        model.backend,
        model.ask("What is 17 times 23?", format=wanted, sampling={"temperature": 0}, stream=stream),
    )
    value = json.loads(got.content)
    assert set(value) == {"answer", "unit"}
    assert type(value["answer"]) is int
    assert value["unit"] in ("none", "metres")
    if model.enforced is not None:
        assert (got.enforced or "").partition(" ")[0] == model.enforced
    model.told("Hello.")
    assert (await reply(model.backend, model.ask(sampling=SHORT, stream=stream))).enforced is None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_the_reply(stream: bool, weights: Model) -> None:
    whole = await reply(weights.backend, weights.ask("What is 17 times 23?", sampling=SHORT))
    words = whole.content
    assert len(words) > 12
    for stop in (words[3:7], words[-3:], words[0]):
        sampling = {**SHORT, "stop": [stop, "something else"]}
        got = await reply(
            weights.backend, weights.ask("What is 17 times 23?", sampling=sampling, stream=stream)
        )
        assert (got.content, got.finish_reason) == (words[: words.index(stop)], "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_longest_reply(stream: bool, weights: Model) -> None:
    sampling = {"max_tokens": 5, "temperature": 0}
    got = await reply(weights.backend, weights.ask("What is 17 times 23?", sampling=sampling, stream=stream))
    assert got.finish_reason == "length"
    assert got.usage is not None
    assert got.usage.completion == 5
    assert (await reply(weights.backend, weights.ask("Hi.", sampling=SHORT))).finish_reason == "stop"


async def test_a_call_that_is_cut_off(forms: Forms) -> None:
    """At every length, on every local backend, streamed and whole: a call from its name on, whose arguments nothing can run
    before they are complete; never text."""
    read: dict[int, dict[str, Any]] = {}
    for kind in MODELS.keys() - PLACES.keys():
        async with MODELS[kind](forms) as one:
            for length in (*range(1, 28), 64):
                for stream in (False, True):
                    for ids in (False, True):
                        sampling = {"max_tokens": length, "temperature": 0, "token_ids": ids}
                        request = one.ask(
                            "What is 17 times 23?", tools=(TOOL,), sampling=sampling, stream=stream
                        )
                        got = await reply(one.backend, request)
                        calls = [
                            (call.name, call.arguments.replace('":"', '": "')) for call in got.tool_calls
                        ]
                        found = (got.content, calls, got.finish_reason)
                        read.setdefault(length, {})[f"{kind}, {stream}, {ids}"] = found
    for length, found in read.items():
        assert len({str(one) for one in found.values()}) == 1, (length, found)
    readings = [next(iter(found.values())) for found in read.values()]
    assert {content for content, _, _ in readings} == {""}
    assert readings[0] == ("", [], "length")
    assert readings[-1] == ("", [("calculate", '{"expression": "17 * 23"}')], "tool_calls")
    cut = [calls[0][1] for _, calls, reason in readings if reason == "length" and calls]
    assert len(cut) > 10
    for arguments in cut:
        if not arguments.endswith("}"):
            with pytest.raises(ValueError, match=r"\S"):
                FunctionCall("", "calculate", arguments).parsed()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("arguments", ["", '{"a": 1, "b"'])
async def test_a_call_that_is_cut_off_on_the_wire(arguments: str, api: str, stream: bool) -> None:
    with OpenAIServer() as server:
        server.say("", tool_calls=[call("add", arguments, "c1")], finish="length")
        backend = OpenAIBackend(server.url, api=api)
        got = await reply(backend, ask(model=MODEL, tools=(ADD,), stream=stream))
        await backend.aclose()
    (made,) = got.tool_calls
    assert (got.content, got.finish_reason, made.name) == ("", "length", "add")
    assert made.arguments.startswith(arguments)
    with pytest.raises(ValueError, match=r"\S"):  # nothing runs it, also a tool that needs no arguments
        made.parsed()


async def test_a_seed_gives_the_same_again(weights: Model) -> None:
    assert weights.backend.capabilities.seed

    async def said(seed: int, **more: Any) -> str:
        sampling = {
            "temperature": 1.5,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_tokens": 24,
            "seed": seed,
        }
        return (
            await reply(weights.backend, weights.ask("A purple tram ate 3 hats?", sampling=sampling, **more))
        ).content

    first = [await said(seed) for seed in range(4)]
    assert len(set(first)) > 1
    assert [await said(seed, stream=True) for seed in range(4)] == first


async def test_greedy_is_greedy(weights: Model) -> None:
    asked = [weights.ask("What is 17 times 23?", sampling={**SHORT, "seed": seed}) for seed in range(4)]
    assert len({(await reply(weights.backend, request)).content for request in asked}) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_many_at_once_and_one_left_alone(stream: bool, model: Model) -> None:
    stayed = [
        asyncio.ensure_future(reply(model.backend, model.ask(f"Number {n}?", sampling=SHORT, stream=stream)))
        for n in range(8)
    ]
    await asyncio.sleep(0)
    stayed[3].cancel()
    got = await asyncio.gather(*stayed, return_exceptions=True)
    assert isinstance(got.pop(3), asyncio.CancelledError | Reply)  # some are done at once
    assert [isinstance(one, Reply) for one in got] == [True] * 7


async def test_together_as_alone(weights: Model) -> None:
    asked = [
        weights.ask(f"What is {n} plus {n + 1}?", tools=(ADD,), sampling={"max_tokens": 64, "temperature": 0})
        for n in range(8)
    ]
    together = await asyncio.gather(*(reply(weights.backend, request) for request in asked))
    sums = [json.loads(got.tool_calls[0].arguments) for got in together]
    assert sums == [{"a": n, "b": n + 1} for n in range(8)]


async def test_a_stream_closed_at_its_first_piece(model: Model) -> None:
    stream = model.backend.stream(model.ask("What is 1 plus 2?", sampling=SHORT, stream=True))
    assert not isinstance(await anext(stream), Completed)
    await stream.aclose()  # type: ignore[attr-defined]
    assert isinstance(await reply(model.backend, model.ask(sampling=SHORT)), Reply)


async def test_cancelled_in_the_middle(weights: Model) -> None:
    request = weights.ask("What is 17 times 23?", sampling=SHORT, stream=True)
    before = await reply(weights.backend, request)

    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        async for delta in weights.backend.stream(request):
            assert not isinstance(delta, Completed)
            task.cancel()
            await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(leave())
    assert (await reply(weights.backend, request)).content == before.content


async def test_closed_twice_and_used_again(model: Model) -> None:
    await reply(model.backend, model.ask(sampling=SHORT))
    await model.backend.aclose()
    await model.backend.aclose()
    assert isinstance(await reply(model.backend, model.ask(sampling=SHORT)), Reply)


@pytest.mark.parametrize("stream", [False, True])
async def test_no_time_at_all(stream: bool, model: Model) -> None:
    request = model.ask(sampling=SHORT, stream=stream, timeouts=limits(total=0.000001))
    if isinstance(model.backend, ScriptedBackend):  # it takes no time, so none is enough
        assert isinstance(await reply(model.backend, request), Reply)
        return
    with pytest.raises(ProviderTimeout) as caught:
        await collect(model.backend, request)
    assert caught.value.stage in ("connect", "first_token", "total")
    assert isinstance(await reply(model.backend, model.ask(sampling=SHORT)), Reply)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long(stream: bool, model: Model, forms: Forms) -> None:
    if model.place is not None:
        model.place.forget()
        model.place.fail(400, "context_length_exceeded")
    with pytest.raises(ContextLengthError) as caught:
        await collect(model.backend, model.ask("one two " * 4000, sampling=SHORT, stream=stream))
    if model.place is None:
        assert str(forms.folder.parent) not in str(caught.value)
    model.told("Hello.")
    assert isinstance(await reply(model.backend, model.ask(sampling=SHORT)), Reply)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_setting_that_no_model_has(stream: bool, weights: Model) -> None:
    with pytest.raises(UnknownKeyError, match="temperature"):
        await collect(weights.backend, weights.ask(sampling={"temprature": 1}, stream=stream))


def test_a_loop_in_each_of_several_threads(forms: Forms) -> None:
    for name, make in MODELS.items():

        async def use(make: Callable[[Forms], AbstractAsyncContextManager[Model]] = make) -> Reply:
            async with make(forms) as one:
                return await reply(one.backend, one.ask(sampling=SHORT, stream=True))

        with ThreadPoolExecutor(3) as pool:
            got = list(pool.map(lambda _, use=use: asyncio.run(use()), range(3)))
        assert len({(one.content, one.tool_calls) for one in got}) == 1, name
