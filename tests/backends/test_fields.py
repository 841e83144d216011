"""Fields of another type than they must have: side fields cost nothing, the answer's own are named in an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.faults import read_error, shown
from lllm.core.canonical import encode
from lllm.errors import ProtocolError, ProviderError, RateLimitError, ServerError
from lllm.models.message import FunctionCall
from lllm.models.reply import Usage
from tests.backends.helpers import ADD, ask, collect, reply
from tests.fuzz.answers import answer, call, response, said
from tests.servers.openai_server import OpenAIServer

JUNK: dict[str, Any] = {
    "number": 5,
    "true": True,
    "text": "x",
    "list": [1],
    "object": {"a": 1},
    "float": 1.5,
    "nested": [[[{}]]],
}


def put(body: Any, path: str, value: Any) -> Any:
    """A copy of an answer with another value at a path."""
    body = json.loads(json.dumps(body))
    *way, last = path.split(".")
    holder = body
    for name in way:
        holder = holder[int(name)] if name.isdigit() else holder.setdefault(name, {})
    holder[int(last) if last.isdigit() else last] = value
    return body


SIDE = (
    "id", "model", "created", "object", "system_fingerprint", "service_tier", "usage", "usage.prompt_tokens",
    "usage.completion_tokens", "usage.total_tokens", "usage.prompt_tokens_details", "usage.completion_tokens_details",
    "usage.prompt_tokens_details.cached_tokens", "prompt_token_ids", "choices.0.index", "choices.0.logprobs",
    "choices.0.logprobs.content", "choices.0.token_ids", "choices.0.stop_reason", "choices.0.message.role",
    "choices.0.message.reasoning_content", "choices.0.message.reasoning", "choices.0.message.annotations",
    "choices.0.message.extra_content", "prompt_filter_results", "x_groq",
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", SIDE)
async def test_a_side_field_never_costs_the_reply(
    path: str, stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    for value in JUNK.values():
        body = put(answer(said("Hello.")), path, value)
        if stream:
            chunk = body["choices"][0]
            chunk["delta"] = chunk.pop("message")
            server.say(chunks=[body])
        else:
            server.say(raw=json.dumps(body).encode())
        got = await reply(backend, ask(stream=stream))
        assert got.content == "Hello."
        assert isinstance(got.model, str | None)
        assert isinstance(got.id, str | None)
        encode(got.record())


async def test_what_cannot_be_read_is_unknown(server: OpenAIServer, backend: OpenAIBackend) -> None:
    body = answer(said("Hello."), model=5, id=7, usage="many", prompt_token_ids=["a"])
    body["choices"][0] |= {"logprobs": {"content": [{"token": 5, "logprob": "x"}]}, "token_ids": [1, "2"]}
    server.say(raw=json.dumps(body).encode())
    got = await reply(backend, ask())
    assert (got.model, got.id, got.usage) == (None, None, None)
    assert (got.logprobs, got.token_ids, got.prompt_token_ids) == (None, None, None)


async def test_log_probabilities_that_are_odd(server: OpenAIServer, backend: OpenAIBackend) -> None:
    entry = {
        "token": "a",
        "logprob": 0,
        "top_logprobs": [{"token": "b", "logprob": None}, 5, {"token": "c", "logprob": -1.5}],
    }
    body = answer(said("a"))
    body["choices"][0]["logprobs"] = {"content": [entry], "refusal": 5}
    server.say(raw=json.dumps(body).encode())
    assert (await reply(backend, ask())).logprobs == [
        {"token": "a", "logprob": 0, "top": [{"token": "c", "logprob": -1.5}]}
    ]


OWN: dict[str, Any] = {
    "choices": (5, "x", True),
    "choices.0": (5, "x", [1], None),
    "choices.0.message": (5, "x", [1], True),
    "choices.0.message.content": (5, True, 1.5, [5], ["x"], [[]], [{"type": "text", "text": 5}]),
    "choices.0.message.refusal": (5, True, [1], {"a": 1}),
    "choices.0.message.tool_calls": (5, "x", True, [5], ["x"], [None]),
    "choices.0.message.tool_calls.0.function": (5, "x", [1], True),
    "choices.0.message.tool_calls.0.function.name": (5, [1], {"a": 1}, True),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", OWN)
async def test_a_field_of_the_answer_is_named(
    path: str, stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    for value in OWN[path]:
        body = put(answer(said("Hello.", tool_calls=[call()])), path, value)
        if stream:
            choices = body["choices"]
            if isinstance(choices, list) and isinstance(choices[0], dict):
                choices[0]["delta"] = choices[0].pop("message")
            server.say(chunks=[body])
        else:
            server.say(raw=json.dumps(body).encode())
        with pytest.raises(ProtocolError) as caught:
            await collect(backend, ask(tools=(ADD,), stream=stream))
        assert (
            path.rpartition(".")[2].replace("0", "choices").replace("message", "choices")
            in caught.value.message
        )
        assert " must be " in caught.value.message
        assert ", got " in caught.value.message
        assert caught.value.status == 200


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (None, "{}"),
        ("", "{}"),
        ({"a": 1}, '{"a":1}'),
        ([1], "[1]"),
        (5, "5"),
        ({"id": 12345678901234567890123}, '{"id":12345678901234567890123}'),
    ],
)
async def test_arguments_of_any_type(
    arguments: Any, text: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say(raw=json.dumps(answer(said(None, tool_calls=[call(arguments=arguments)]))).encode())
    got = await reply(backend, ask(tools=(ADD,)))
    assert got.tool_calls == (FunctionCall("call_1", "add", text),)


@pytest.mark.parametrize("ident", [None, "", [], {}, True, 1.5])
async def test_an_id_that_is_none_is_made(ident: Any, server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(raw=json.dumps(answer(said(None, tool_calls=[call(id=ident)]))).encode())
    got = await reply(backend, ask(tools=(ADD,)))
    assert got.tool_calls[0].id.startswith("call_")


async def test_a_number_is_an_id(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(raw=json.dumps(answer(said(None, tool_calls=[call(id=7)]))).encode())
    assert (await reply(backend, ask(tools=(ADD,)))).tool_calls[0].id == "7"


DEPTHS = [50, 330, 1100, 30_000]
PLACES = {
    "the answer": "%s",
    "the choices": '{"choices": %s}',
    "the content": '{"choices": [{"message": {"content": %s}}]}',
    "the calls": '{"choices": [{"message": {"tool_calls": %s}}]}',
    "the arguments": '{"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": %s}}]}}]}',
    "usage": '{"choices": [{"message": {"content": "x"}}], "usage": %s}',
    "log-probabilities": '{"choices": [{"message": {"content": "x"}, "logprobs": {"content": %s}}]}',
    "a key of its own": '{"choices": [{"message": {"content": "x", "more": %s}}]}',
    "the finish reason": '{"choices": [{"message": {"content": "x"}, "finish_reason": %s}]}',
    "an error": '{"error": %s}',
    "an error's words": '{"error": {"message": %s, "code": %s}}',
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("brackets", ["[]", "{}"])
async def test_no_depth_is_too_deep(
    place: str, depth: int, brackets: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    opened = "[" if brackets == "[]" else '{"a":'
    nested = opened * depth + "1" + brackets[1] * depth
    text = PLACES[place].replace("%s", nested)
    for raw, kind, status in (
        (text, "application/json", 200),
        (f"data: {text}\n\ndata: [DONE]\n\n", "text/event-stream", 200),
        (text, "application/json", 400),
    ):
        server.say(raw=raw.encode(), content_type=kind, status=status)
        try:
            got = await reply(backend, ask(tools=(ADD,), stream=kind == "text/event-stream"))
        except ProviderError as error:
            encode({"message": error.message, "body": error.body})
        else:
            encode(got.record())


# --- headers, and bodies of errors


async def test_headers_that_make_no_sense(server: OpenAIServer, backend: OpenAIBackend) -> None:
    odd = {
        "Retry-After": "soon",
        "X-Ratelimit-Remaining-Requests": "many",
        "Openai-Processing-Ms": "-",
        "Content-Language": "?",
    }
    server.say("Hello.", headers=odd)
    assert (await reply(backend, ask())).content == "Hello."
    server.fault(429, headers=odd)
    with pytest.raises(RateLimitError):
        await collect(backend, ask())


@pytest.mark.parametrize(
    "value",
    [
        {"message": 5, "code": []},
        {"message": ["a", {"b": 1}], "type": {"a": 1}},
        {"message": "busy", "metadata": {"raw": {"error": "x"}}},
        {"message": None, "detail": None},
        [[]],
        5,
        True,
        {"code": True},
        {"code": 10**30, "message": "x"},
        {"code": "9" * 5000},
        {"code": "²", "message": "x"},
    ],
)
async def test_an_error_of_any_shape_is_one(value: Any, server: OpenAIServer, backend: OpenAIBackend) -> None:
    for status in (200, 400, 503):
        server.say(raw=json.dumps({"error": value}).encode(), status=status)
        with pytest.raises(ProviderError) as caught:
            await collect(backend, ask())
        encode({"message": caught.value.message, "body": caught.value.body})


def test_a_value_for_a_message() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    assert shown(deep) == "(a list that cannot be shown)"
    assert shown({"a": "\ud800"}).startswith("(an object")
    assert shown({1: 2}) == '{"1":2}'
    assert read_error({"error": {"message": deep}})[0].startswith("(a list")


# --- the other API


@pytest.fixture
def responses(server: OpenAIServer) -> OpenAIBackend:
    return OpenAIBackend(server.url, "k", api="responses")


TEXT = {"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}
ADDED = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}


@pytest.mark.parametrize("path", ["id", "model", "usage", "usage.input_tokens", "created_at", "output.0.id", "output.0.status",
                                  "output.0.content.0.annotations", "output.0.content.0.logprobs", "tools"])  # fmt: skip
async def test_a_side_field_of_a_response(path: str, server: OpenAIServer, responses: OpenAIBackend) -> None:
    for value in JUNK.values():
        server.say(raw=json.dumps(put(response(TEXT), path, value)).encode())
        assert (await reply(responses, ask())).content == "Hello."


@pytest.mark.parametrize(
    "body",
    [
        5,
        [],
        {"id": "x"},
        response(5),
        response(TEXT) | {"output": "x"},
        response({"type": "message", "content": 5}),
        response({"type": "message", "content": ["x"]}),
        response({"type": "message", "content": [{"type": "output_text", "text": 5}]}),
        response({"type": "function_call", "name": 5}),
        response({"type": "message", "content": [{"type": "refusal", "refusal": [1]}]}),
    ],
)
async def test_a_response_that_is_none(body: Any, server: OpenAIServer, responses: OpenAIBackend) -> None:
    for events in (None, [{"type": "response.completed", "response": body}]):
        if events is None:
            server.say(raw=json.dumps(body).encode())
        else:
            raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
            server.say(raw=raw, content_type="text/event-stream")
        with pytest.raises(ProtocolError):
            await collect(responses, ask(stream=events is not None))


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"status": "cancelled"}, ProviderError, "broke the reply off"),
        ({"status": "in_progress"}, ProviderError, "broke the reply off"),
        ({"status": "failed"}, ServerError, "failed"),
        (
            {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow down"}},
            RateLimitError,
            "slow down",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "odd"}},
            ProviderError,
            "unknown finish reason, 'odd'",
        ),
        ({"status": "strange"}, ProviderError, "unknown finish reason, 'strange'"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_broke_off(
    more: dict[str, Any], kind: Any, words: str, stream: bool, server: OpenAIServer, responses: OpenAIBackend
) -> None:
    body = response(TEXT) | more
    if stream:
        events = [{"type": "response.output_text.delta", "output_index": 0, "delta": "Hello."},
                  {"type": "response.completed", "response": body}]  # fmt: skip
        raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        server.say(raw=raw, content_type="text/event-stream")
    else:
        server.say(raw=json.dumps(body).encode())
    with pytest.raises(kind, match=words) as caught:
        await collect(responses, ask(stream=stream))
    if "error" not in more or stream:
        assert caught.value.partial == "Hello."


async def test_a_last_event_without_the_items(server: OpenAIServer, responses: OpenAIBackend) -> None:
    events = [
        {"type": "response.output_item.done", "output_index": 0, "item": TEXT},
        {"type": "response.output_item.done", "output_index": 1, "item": ADDED},
        {
            "type": "response.completed",
            "response": response() | {"usage": {"input_tokens": 3, "output_tokens": 4}},
        },
    ]
    raw = b"\xef\xbb\xbf" + b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    server.say(raw=raw, content_type="text/event-stream")
    got = await reply(responses, ask(stream=True))
    assert (got.content, got.usage, got.finish_reason) == ("Hello.", Usage(3, 4), "tool_calls")
    assert got.tool_calls == (FunctionCall("c1", "add", '{"a":1}'),)


async def test_encrypted_reasoning_goes_back_with_its_call(
    server: OpenAIServer, responses: OpenAIBackend
) -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"}
    server.say(raw=json.dumps(response(reasoning, ADDED)).encode())
    server.say(raw=json.dumps(response(TEXT)).encode())
    server.say("plain")
    got = await reply(responses, ask(tools=(ADD,)))
    assert got.extra == {"reasoning_items": [reasoning]}
    dialog = (*ask().messages, got.message())
    await reply(responses, ask(messages=dialog))
    assert server.requests[1].json["input"][1:] == [reasoning, ADDED]
    await reply(OpenAIBackend(server.url, "k"), ask(messages=dialog))
    assert set(server.requests[2].json["messages"][1]) == {"role", "content", "tool_calls"}
