"""The Responses API: what goes over the wire, what comes back, and the same errors, limits and sockets as chat."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseCreateParams
from pydantic import TypeAdapter

from lllm.backends.openai import OpenAIBackend
from lllm.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailed,
    ContextLengthError,
    DependencyError,
    ModelNotFoundError,
    ProtocolError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    UnsupportedError,
)
from lllm.models.message import FunctionCall, Message, system, user
from lllm.models.reply import Reply, Usage
from lllm.ports import Completed, TextDelta
from tests.backends.helpers import ADD, ask, collect, joined, limits, reply, schema
from tests.backends.test_faults import KEY, everything
from tests.backends.test_lifetime import until
from tests.servers.openai_server import OpenAIServer, Script, call


@pytest.fixture
async def backend(server: OpenAIServer) -> Any:
    backend = OpenAIBackend(server.url, KEY, api="responses")
    yield backend
    await backend.aclose()


async def test_a_request_on_the_wire(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("3")
    picture = (
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    )
    request = ask(
        messages=(
            system("Be brief."),
            Message("user", picture),
            Message(
                "assistant", "I add.", tool_calls=(FunctionCall("c1", "add", '{"a": 1}'),), thinking="hm"
            ),
            Message("tool", "1", tool_call_id="c1"),
            user("And?"),
        ),
        tools=(ADD,),
        sampling={
            "temperature": 0,
            "max_tokens": 20,
            "tool_choice": "add",
            "reasoning_effort": "low",
            "verbosity": "low",
            "top_logprobs": 3,
            "metadata": {"a": "b"},
            "extra_body": {"reasoning": {"summary": "auto"}, "new_option": 1},
        },
        format=schema(x={"type": "integer"}),
    )
    await reply(backend, request)
    seen = server.requests[0]
    assert seen.path == "/v1/responses"
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert "Idempotency-Key" not in seen.headers
    assert seen.headers["User-Agent"].startswith("lllm/")
    assert seen.json == {
        "model": "test-model",
        "input": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look."},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "auto"},
                ],
            },
            {"role": "assistant", "content": "I add."},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"role": "user", "content": "And?"},
        ],
        "tools": [{"type": "function", "strict": False, **ADD["function"]}],
        "tool_choice": {"type": "function", "name": "add"},
        "temperature": 0,
        "max_output_tokens": 20,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", **schema(x={"type": "integer"})}, "verbosity": "low"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "metadata": {"a": "b"},
        "store": False,
        "stream": False,
        "new_option": 1,
    }
    known = {key: value for key, value in seen.json.items() if key != "new_option"}
    TypeAdapter(ResponseCreateParams).validate_python(known)


def test_the_servers_answers_are_of_the_packages_types() -> None:
    for script in SCRIPTS.values():
        Response.model_validate(script.response())


LOGPROBS = [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]
SCRIPTS = {
    "text": Script("Hello."),
    "thinking": Script("Hello.", thinking="First.\n\nSecond.", piece=2),
    "tools": Script("I add.", tool_calls=[call("add", {"a": 1}), call("add", {}, "c2")], piece=3),
    "cut off": Script("Hel", finish="length"),
    "filtered": Script("", finish="content_filter"),
    "refused": Script("", refusal="I will not."),
    "logprobs": Script("x", logprobs=LOGPROBS),
    "tags": Script("<think>hm</think>Hello.", piece=1),
    "cut into bytes": Script("Größe \U0001f600", cut=3),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_stream_adds_up_to_the_whole(name: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    script = SCRIPTS[name]
    server.scripts.extend([script] * 2)
    whole = await reply(backend, ask())
    deltas = await collect(backend, ask(stream=True))
    assert isinstance(deltas[-1], Completed)
    assert deltas[-1].reply == whole
    assert joined(deltas) == (whole.content, whole.thinking or "", list(whole.tool_calls))
    assert whole.finish_reason == script.finish_reason
    assert whole.refusal == script.refusal
    assert (whole.usage, whole.id) == (Usage(11, 7), "resp_1")
    assert Reply.from_record(json.loads(json.dumps(whole.record()))) == whole


async def test_chat_and_responses_give_the_same_reply(server: OpenAIServer, backend: OpenAIBackend) -> None:
    chat = OpenAIBackend(server.url)
    for script in SCRIPTS.values():
        server.scripts.extend([script] * 2)
        one, two = await reply(chat, ask()), await reply(backend, ask())
        assert one.with_(id="") == two.with_(id="")


@pytest.mark.parametrize("key", ["stop", "seed", "logit_bias", "presence_penalty", "frequency_penalty"])
async def test_what_this_api_has_not(key: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    with pytest.raises(UnsupportedError, match=key):
        await reply(backend, ask(sampling={key: 1}))
    assert not server.requests


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", ContextLengthError),
        (401, None, AuthenticationError),
        (404, "model_not_found", ModelNotFoundError),
        (429, None, RateLimitError),
        (503, None, ServerError),
        (307, None, ProtocolError),
    ],
)
async def test_a_fault(
    status: int,
    code: str | None,
    kind: type[ProviderError],
    stream: bool,
    server: OpenAIServer,
    backend: OpenAIBackend,
) -> None:
    headers = {"Retry-After": "3", "Location": server.url}
    server.fault(status, f"bad {KEY}", code=code, headers=headers)
    with pytest.raises(ProviderError) as caught:
        await collect(backend, ask(stream=stream))
    error = caught.value
    assert type(error) is kind
    assert error.status == status
    assert KEY not in everything(error)
    assert len(server.requests) == 1
    if status != 307:
        assert error.retry_after == 3.0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("raw", [b"<html></html>", b"", b"{}", b'{"output": 3}', b"[]"])
async def test_an_answer_that_is_not_one(
    raw: bytes, stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say(raw=raw)
    with pytest.raises(ProtocolError):
        await collect(backend, ask(stream=stream))


@pytest.mark.parametrize("event", ["error", "response.failed"])
async def test_an_error_within_a_stream(event: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    value = error if event == "error" else {"response": Script().response("failed") | {"error": error}}
    script = Script("Hello.")
    script.response_events = lambda: script._events(  # type: ignore[method-assign]
        [
            {"type": "response.output_text.delta", "delta": "Hel", "output_index": 0, "content_index": 0,
             "item_id": "m", "logprobs": [], "sequence_number": 0},
            {"type": event, "sequence_number": 1, **value},
        ]
    )  # fmt: skip
    server.scripts.append(script)
    with pytest.raises(RateLimitError, match="slow down") as caught:
        await collect(backend, ask(stream=True))
    assert caught.value.partial == "Hel"


@pytest.mark.parametrize(
    ("stream", "hang", "stage"),
    [
        (False, "before", "total"),
        (True, "before", "total"),
        (True, "before", "first_token"),
        (True, "middle", "idle"),
        (True, "middle", "total"),
    ],
)
async def test_time_limits(
    stream: bool, hang: str, stage: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello, how are you?", hang=hang)
    with pytest.raises(ProviderTimeout) as caught:
        await collect(backend, ask(stream=stream, timeouts=limits(**{stage: 0.1})))
    assert caught.value.stage == stage
    await until(lambda: server.connections == 0)


@pytest.mark.parametrize(("stream", "drop", "kind"), [
    (False, "before", ConnectionFailed), (True, "before", ConnectionFailed), (True, "middle", StreamInterrupted),
])  # fmt: skip
async def test_dropped(
    stream: bool, drop: str, kind: type[ProviderError], server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello, how are you?", drop=drop)
    with pytest.raises(kind) as caught:
        await collect(backend, ask(stream=stream))
    assert type(caught.value) is kind
    assert caught.value.retryable


async def test_closed_early(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", hang="middle")
    stream = backend.stream(ask(stream=True))
    assert await anext(stream) == TextDelta("Hell")
    await stream.aclose()
    await until(lambda: server.connections == 0)


async def test_cancelled(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello.", hang="before")
    task = asyncio.ensure_future(collect(backend, ask()))
    await until(lambda: len(server.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.connections == 0)


async def test_without_the_package(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(DependencyError, match="Responses API") as caught:
        await reply(OpenAIBackend(server.url, api="responses"), ask())
    assert "lllm[openai]" in str(caught.value)
    assert isinstance(caught.value, ConfigError)


async def test_the_package_is_not_needed_for_chat(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    server.say("Hello.")
    assert (await reply(OpenAIBackend(server.url), ask())).content == "Hello."


async def test_the_official_client_reads_the_same(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.scripts.extend([SCRIPTS["tools"]] * 2)
    ours = await reply(backend, ask())
    async with openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        theirs = await client.responses.create(model="m", input="x")
    assert ours.content == theirs.output_text
    calls = [
        (item.call_id, item.name, item.arguments) for item in theirs.output if item.type == "function_call"
    ]
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == calls
