"""Replies, whole and streamed: the same as each other, and the same as the official client sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.faults import ErrorObject
from lllm.backends.openai.reply import Assembly
from lllm.deltas import aggregate
from lllm.errors import ProtocolError, ProviderError, StreamInterrupted
from lllm.models.message import FunctionCall, user
from lllm.models.reply import Reply, Usage
from lllm.ports import Completed, Restart, TextDelta, ThinkingDelta, ToolCallDelta
from tests.backends.helpers import ADD, ask, collect, joined, reply
from tests.servers.openai_server import OpenAIServer, Script, call

LOGPROBS = [
    {
        "token": token,
        "logprob": -0.5,
        "bytes": list(token.encode()),
        "top_logprobs": [
            {"token": token, "logprob": -0.5, "bytes": list(token.encode())},
            {"token": " no", "logprob": -1.5, "bytes": None},
        ],
    }
    for token in (" yes", ",", " é")
]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
}
HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'

SCRIPTS: dict[str, Script] = {
    "text": Script("Hello, how are you?"),
    "nothing": Script(""),
    "null": Script(None),
    "unicode": Script("Größe 你好 \U0001f600 \u2028 end", piece=1),
    "one piece": Script("Hello.", piece=1000),
    "cut into bytes": Script("Hello, how are you?", cut=1),
    "cut anywhere": Script("Größe 你好 \U0001f600", cut=7),
    "crlf": Script("Hello.", newline=b"\r\n", cut=5),
    "heartbeats": Script("Hello.", heartbeat=True),
    "no [DONE]": Script("Hello.", done=False),
    "no usage": Script("Hello.", usage=None),
    "usage in detail": Script("Hello.", usage=USAGE),
    "cut off": Script("Hello", finish="length"),
    "filtered": Script("", finish="content_filter"),
    "refused": Script(None, refusal="I will not do that."),
    "a tool": Script(None, tool_calls=[call("add", {"a": 1, "b": 2})]),
    "tools": Script(
        "I add.", tool_calls=[call("add", {"a": 1}), call("add", "{oops", "call_2"), call("now", {}, "c3")]
    ),
    "logprobs": Script(" yes, é", logprobs=LOGPROBS),
    "thinking in tags": Script("<think>\nLet me\nsee.\n</think>\n\nYes.", piece=3),
    "blocks of thinking": Script("<think>a</think>One, <thinking>b</thinking>two.", piece=1),
    "unfinished thinking": Script("<think>Let me", finish="length"),
    "thinking in a field": Script("Yes.", thinking="Let me see."),
    "thinking in another field": Script("Yes.", thinking="Let me see.", thinking_field="reasoning"),
    "a call in text": Script(f"I add.\n{HERMES}", piece=5),
}


def same_for_the_official_client(ours: Reply, theirs: Any) -> None:
    message = theirs.choices[0].message
    if "<" not in (message.content or ""):
        assert ours.content == (message.content or "")
        assert ours.finish_reason == theirs.choices[0].finish_reason
    assert ours.refusal == message.refusal
    wire = [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()]
    if wire:
        assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == wire
    if theirs.usage is None:
        assert ours.usage is None
    else:
        assert ours.usage is not None
        assert (ours.usage.prompt, ours.usage.completion) == (
            theirs.usage.prompt_tokens,
            theirs.usage.completion_tokens,
        )
    assert (ours.id, ours.model) == (theirs.id, theirs.model)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_stream_adds_up_to_the_whole(name: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.scripts.extend([SCRIPTS[name]] * 3)
    tools = (ADD,) if "call" in name else ()
    whole = await reply(backend, ask(tools=tools))
    deltas = await collect(backend, ask(tools=tools, stream=True))
    last = deltas[-1]
    assert isinstance(last, Completed)
    assert last.reply == whole
    text, thinking, calls = joined(deltas)
    assert (text, thinking or None) == (whole.content, whole.thinking)
    assert [(c.name, c.arguments) for c in calls] == [(c.name, c.arguments) for c in whole.tool_calls]
    async with openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        theirs = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    same_for_the_official_client(whole, theirs)


async def test_the_official_client_sees_the_same_stream(server: OpenAIServer, backend: OpenAIBackend) -> None:
    script = Script("Hello.", tool_calls=[call("add", {"a": 1}), call("add", {"b": 2}, "call_2")], piece=3)
    server.scripts.extend([script, script])
    text, _, calls = joined(await collect(backend, ask(stream=True)))
    got_text, got_calls = "", {}
    async with openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        async for chunk in stream:
            for choice in chunk.choices:
                got_text += choice.delta.content or ""
                for piece in choice.delta.tool_calls or ():
                    entry = got_calls.setdefault(piece.index, ["", "", ""])
                    entry[0] += piece.id or ""
                    assert piece.function is not None
                    entry[1] += piece.function.name or ""
                    entry[2] += piece.function.arguments or ""
    assert text == got_text
    assert calls == [FunctionCall(*entry) for entry in got_calls.values()]


async def test_every_field_of_a_reply(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.scripts.append(
        Script(
            "<think>a</think>b",
            tool_calls=[call("add", {"a": 1})],
            usage=USAGE,
            logprobs=None,
            thinking="field",
        )
    )
    assert await reply(backend, ask()) == Reply(
        content="b",
        thinking="field\n\na",
        tool_calls=(FunctionCall("call_1", "add", '{"a": 1}'),),
        finish_reason="tool_calls",
        usage=Usage(100, 20, 64, 12),
        model="test-model",
        id="chatcmpl-1",
        raw="<think>a</think>b",
    )


async def test_logprobs(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.scripts.append(SCRIPTS["logprobs"])
    got = await reply(backend, ask(sampling={"logprobs": True, "top_logprobs": 2}))
    assert got.logprobs is not None
    assert got.logprobs[0] == {
        "token": " yes",
        "logprob": -0.5,
        "top": [{"token": " yes", "logprob": -0.5}, {"token": " no", "logprob": -1.5}],
    }


async def test_a_reply_survives_the_log(server: OpenAIServer, backend: OpenAIBackend) -> None:
    for script in SCRIPTS.values():
        server.scripts.append(script)
        got = await reply(backend, ask(tools=(ADD,)))
        assert Reply.from_record(json.loads(json.dumps(got.record()))) == got


async def test_the_first_piece_is_seen_before_the_server_ends(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("Hello, how are you?", hang="middle", heartbeat=True)
    stream = backend.stream(ask(stream=True))
    assert await asyncio.wait_for(anext(stream), 120) == TextDelta("Hell")
    await stream.aclose()


async def test_thinking_without_its_opening_tag(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.scripts.extend([Script("Let me see.\n</think>\n\nYes.", piece=4)] * 3)
    whole = await reply(backend, ask())
    assert (whole.content, whole.thinking) == ("Yes.", "Let me see.")
    assert await reply(backend, ask(stream=True)) == whole  # though its pieces were text until the tag came
    prefilled = OpenAIBackend(server.url, thinking="prefilled")
    text, thinking, _ = joined(await collect(prefilled, ask(stream=True)))
    assert (text, thinking) == ("Yes.", "Let me see.")


async def test_a_stream_takes_reasoning_back_that_it_gave_as_text(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.scripts.extend(
        [Script("Let me see.\n</think>\n\nYes.", piece=4)] * 2 + [Script("No.", piece=1)] * 2
    )
    first = await collect(backend, ask(stream=True))
    assert any(isinstance(delta, Restart) for delta in first)
    assert (aggregate(first[:-1]).content, aggregate(first[:-1]).thinking) == ("Yes.", "Let me see.")
    again = await collect(backend, ask(stream=True))  # by now the model is known to do that
    assert not any(isinstance(delta, Restart) for delta in again)
    assert "".join(delta.text for delta in again if isinstance(delta, TextDelta)) == "Yes."
    plain = await collect(backend, ask(stream=True))  # it does not always
    assert aggregate(plain[:-1]).content == "No."
    last = await collect(backend, ask(stream=True))
    assert [delta for delta in last if isinstance(delta, TextDelta)] == [
        TextDelta("N"),
        TextDelta("o"),
        TextDelta("."),
    ]


async def test_tags_in_a_structured_reply_are_text(server: OpenAIServer, backend: OpenAIBackend) -> None:
    content = '{"a": "<think>x</think>\\n</think>"}'
    server.scripts.extend([Script(content, piece=3)] * 2)
    form = {"name": "a", "schema": {"type": "object"}, "strict": False}
    for stream in (False, True):
        got = await reply(backend, ask(format=form, stream=stream))
        assert (got.content, got.thinking) == (content, None)


async def test_a_call_within_reasoning_that_is_never_closed(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.scripts.extend([Script(f"<think>I need it.\n{HERMES}", piece=5)] * 2)
    for stream in (False, True):
        got = await reply(backend, ask(tools=(ADD,), stream=stream))
        assert (got.content, got.thinking, got.finish_reason) == ("", "I need it.", "tool_calls")
        assert [call.name for call in got.tool_calls] == ["add"]


async def test_tags_are_left_alone_where_wanted(server: OpenAIServer) -> None:
    server.say("<think>a</think>b")
    got = await reply(OpenAIBackend(server.url, thinking="off"), ask())
    assert (got.content, got.thinking, got.raw) == ("<think>a</think>b", None, None)


async def test_text_tags_are_calls_only_where_tools_were_offered(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.scripts.extend([Script(HERMES), Script(HERMES), Script(HERMES, tool_calls=[call("add", {})])])
    without = await reply(backend, ask())
    assert (without.content, without.tool_calls) == (HERMES, ())
    offered = await reply(backend, ask(tools=(ADD,)))
    assert (offered.content, offered.finish_reason, offered.raw) == ("", "tool_calls", HERMES)
    assert [(c.name, c.arguments) for c in offered.tool_calls] == [("add", '{"a":1,"b":2}')]
    assert offered.tool_calls[0].id.startswith("call_")
    both = await reply(backend, ask(tools=(ADD,)))
    assert [(c.id, c.arguments) for c in both.tool_calls] == [("call_1", "{}")]


# --- one tool call, as different providers write it ---

TWO = [FunctionCall("c1", "add", '{"a":1}'), FunctionCall("c2", "add", '{"a":2}')]


def piece(**entry: Any) -> dict[str, Any]:
    """A tool call piece; name and arguments belong to its function."""
    function = {key: entry.pop(key) for key in ("name", "arguments") if key in entry}
    return entry | ({"function": function} if function else {})


PROVIDERS: dict[str, list[list[dict[str, Any]]]] = {
    "OpenAI": [
        [piece(index=0, id="c1", type="function", name="add", arguments="")],
        [piece(index=0, arguments='{"a"')],
        [piece(index=0, arguments=":1}")],
        [piece(index=1, id="c2", type="function", name="add", arguments="")],
        [piece(index=1, arguments='{"a":2}')],
    ],
    "interleaved": [
        [piece(index=0, id="c1", name="add"), piece(index=1, id="c2", name="add")],
        [piece(index=1, arguments='{"a"'), piece(index=0, arguments='{"a":')],
        [piece(index=0, arguments="1}"), piece(index=1, arguments=":2}")],
    ],
    "id and name repeated in every piece": [
        [piece(index=0, id="c1", name="add", arguments='{"a"')],
        [piece(index=0, id="c1", name="add", arguments=":1}")],
        [piece(index=1, id="c2", name="add", arguments='{"a":2}')],
        [piece(index=1, id="c2", name="add", arguments="")],
    ],
    "null where nothing is new": [
        [piece(index=0, id="c1", name="add", arguments=None)],
        [piece(index=0, id=None, name=None, arguments='{"a":1}')],
        [piece(index=1, id="c2", name="add", arguments='{"a":2}')],
        [piece(index=1, id="", name="", arguments="")],
    ],
    "whole calls without an index": [
        [piece(id="c1", name="add", arguments='{"a":1}'), piece(id="c2", name="add", arguments='{"a":2}')]
    ],
    "pieces without an index": [
        [piece(id="c1", name="add", arguments="")],
        [piece(arguments='{"a":1}')],
        [piece(id="c2", name="add", arguments='{"a"')],
        [piece(arguments=":2}")],
    ],
    "every call is number 0": [
        [piece(index=0, id="c1", name="add", arguments='{"a":1}')],
        [piece(index=0, id="c2", name="add", arguments='{"a":2}')],
    ],
    "arguments are an object": [
        [piece(index=0, id="c1", name="add", arguments={"a": 1})],
        [piece(index=1, id="c2", name="add", arguments={"a": 2})],
    ],
}


@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_way_of_streaming_calls(name: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    base = Script()
    chunks = [base._chunk([{"index": 0, "delta": {"tool_calls": entries}}]) for entries in PROVIDERS[name]]
    chunks.append(base._chunk([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]))
    server.say(chunks=chunks)
    deltas = await collect(backend, ask(tools=(ADD,), stream=True))
    assert isinstance(deltas[-1], Completed)
    assert list(deltas[-1].reply.tool_calls) == TWO
    assert joined(deltas)[2] == TWO


@pytest.mark.parametrize(
    "message",
    [
        {
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
            ]
        },
        {"tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]},  # Ollama
        {"tool_calls": [{"id": "c1", "name": "add", "arguments": {"a": 1}}]},  # flat
    ],
)
async def test_every_way_of_writing_a_call(
    message: dict[str, Any], server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say(
        raw=json.dumps(
            {"choices": [{"message": {"content": None} | message, "finish_reason": "stop"}]}
        ).encode()
    )
    got = await reply(backend, ask(tools=(ADD,)))
    assert got.tool_calls == (TWO[0],)
    assert got.finish_reason == "tool_calls"


async def test_calls_without_ids_get_one_that_lasts(server: OpenAIServer, backend: OpenAIBackend) -> None:
    body = {"choices": [{"message": {"tool_calls": [piece(name="add", arguments="{}")] * 2}}]}
    for _ in range(3):
        server.say(raw=json.dumps(body).encode())
    first = await reply(backend, ask(tools=(ADD,)))
    again = await reply(backend, ask(tools=(ADD,)))
    later = await reply(backend, ask(tools=(ADD,), messages=(user("a"), user("b"))))
    assert first == again
    ids = {c.id for got in (first, later) for c in got.tool_calls}
    assert len(ids) == 4


async def test_the_function_call_of_old(server: OpenAIServer, backend: OpenAIBackend) -> None:
    message = {"content": None, "function_call": {"name": "add", "arguments": '{"a":1}'}}
    server.say(raw=json.dumps({"choices": [{"message": message, "finish_reason": "function_call"}]}).encode())
    got = await reply(backend, ask())
    assert [(c.name, c.arguments, got.finish_reason) for c in got.tool_calls] == [
        ("add", '{"a":1}', "tool_calls")
    ]


async def test_content_in_parts(server: OpenAIServer, backend: OpenAIBackend) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Yes."},
    ]
    server.say(
        raw=json.dumps({"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}).encode()
    )
    got = await reply(backend, ask())
    assert (got.content, got.thinking) == ("Yes.", "hm")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}, Usage(5, 2, 3)),
        (
            {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}},
            Usage(5, 2, 3),
        ),
        ({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None}, None),
        (None, None),
        ({}, None),
    ],
)
async def test_usage_under_other_names(
    usage: Any, expected: Usage | None, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("x", usage=usage)
    assert (await reply(backend, ask())).usage == expected


async def test_a_stream_that_comes_in_one_piece(server: OpenAIServer, backend: OpenAIBackend) -> None:
    body = json.dumps(Script("<think>a</think>b", tool_calls=[call("add", {})]).body()).encode()
    server.say(raw=body)
    deltas = await collect(backend, ask(stream=True))
    assert [type(delta) for delta in deltas] == [ThinkingDelta, TextDelta, ToolCallDelta, Completed]


async def test_an_answer_that_is_streamed_unasked(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(raw=b"".join(Script("Hello.", heartbeat=True).events()), content_type="text/event-stream")
    assert (await reply(backend, ask())).content == "Hello."


async def test_events_without_empty_lines(server: OpenAIServer, backend: OpenAIBackend) -> None:
    raw = b"".join(event.strip() + b"\n" for event in Script("Hello.").events())
    server.say(raw=raw, content_type="text/event-stream")
    assert (await reply(backend, ask(stream=True))).content == "Hello."


async def test_a_stream_that_ends_early_is_not_a_reply(server: OpenAIServer, backend: OpenAIBackend) -> None:
    script = Script("Hello.", done=False)
    script.chunks = script.stream()[:3]
    server.scripts.append(script)
    with pytest.raises(StreamInterrupted) as caught:
        await collect(backend, ask(stream=True))
    assert caught.value.partial == "Hello."


WORDS = (
    "choices message delta content tool_calls function name arguments index id usage logprobs token error type text "
    "finish_reason reasoning refusal"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_whatever_json_comes_back_is_a_reply_or_a_provider_error(value: Any) -> None:
    backend = OpenAIBackend("http://localhost")
    faults = backend._prepare()[2]
    request = ask(tools=(ADD,))
    for body in (value, {"choices": [{"message": value}]}, {"choices": [{"message": {"tool_calls": value}}]}):
        with contextlib.suppress(ProviderError):
            assert isinstance(backend._read(json.dumps(body).encode(), request, faults), Reply)
    for chunk in (value, {"choices": [{"delta": value}]}, {"choices": [{"delta": {"tool_calls": [value]}}]}):
        data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        with contextlib.suppress(ProviderError):
            assert isinstance(backend._read(data, request, faults), Reply)


def test_an_error_in_place_of_a_chunk() -> None:
    with pytest.raises(ErrorObject):
        Assembly(ask()).chunk({"error": {"message": "busy"}})
    with pytest.raises(ProtocolError):
        Assembly(ask()).body({"choices": []})
