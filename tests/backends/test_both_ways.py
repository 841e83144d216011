"""One rule: an answer gives the same reply, or the same error, in one piece and as a stream, however a server streams it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.errors import ProtocolError, ProviderError, QuotaError, ServerError, StreamInterrupted
from lllm.http.sse import SSEParser
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Completed, Request
from tests.backends.helpers import ADD, ask, collect, joined, reply
from tests.fuzz import answers
from tests.fuzz.streams import cut, streamed
from tests.fuzz.wire import Wire, check_deltas, check_reply, fuzz, same
from tests.servers.openai_server import OpenAIServer

CHAT = answers.CHAT
SEEDS = 60


@pytest.fixture(scope="module")
def wire() -> Wire:
    return Wire()


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_every_answer_whole_and_as_a_stream(name: str, tools: bool, wire: Wire) -> None:
    request = ask(tools=(ADD,) if tools else ())
    body = CHAT[name]
    whole = wire.whole(json.dumps(body).encode(), request)
    if isinstance(whole, Reply):
        check_reply(whole)
    for seed in range(SEEDS):
        rng = random.Random(f"{name}/{seed}")
        data = streamed(body, rng)
        pieces, deltas = wire.pieces(cut(data, rng), request)
        assert same(whole, pieces), data.decode()
        assert same(whole, wire.whole(data, request)), "a stream that came in one piece"
        if isinstance(pieces, Reply):
            check_deltas(deltas, pieces)


@pytest.mark.parametrize("name", CHAT)
async def test_every_answer_over_a_connection(
    name: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    outcomes = []
    for stream, kind in ((False, "application/json"), (True, "application/json"), (True, "text/plain")):
        server.say(raw=json.dumps(CHAT[name]).encode(), content_type=kind)
        outcomes.append(await came(backend, ask(tools=(ADD,), stream=stream)))
    for seed in range(2):
        data = streamed(CHAT[name], random.Random(f"{name}/{seed}"))
        for stream in (True, False):
            server.say(raw=data, content_type="text/event-stream")
            outcomes.append(await came(backend, ask(tools=(ADD,), stream=stream)))
    assert all(same(outcomes[0], outcome) for outcome in outcomes[1:])


async def came(backend: OpenAIBackend, request: Request) -> Reply | ProviderError:
    try:
        return await reply(backend, request)
    except ProviderError as error:
        return error


WANTED: dict[str, Any] = {
    "choices null": (ProtocolError, "'choices' is missing or empty"),
    "usage alone": (ProtocolError, "'choices' is missing or empty"),
    "message null": (ProtocolError, "'message' is missing"),
    "a text completion": (ProtocolError, "text completion"),
    "an error object": (ServerError, "busy"),
    "an error of the choice": (ServerError, "upstream"),
    "an error of MiniMax": (QuotaError, "insufficient balance"),
    "error": (ServerError, "finish reason 'error'"),
    "abort": (StreamInterrupted, "finish reason 'abort'"),
    "resources": (ServerError, "insufficient_system_resource"),
    "bogus": (ProviderError, "unknown finish reason, 'bogus'"),
    "finish reason of a number": (ProviderError, "unknown finish reason, '5'"),
}


@pytest.mark.parametrize("name", WANTED)
def test_what_is_no_answer_is_an_error(name: str, wire: Wire) -> None:
    kind, words = WANTED[name]
    error = wire.whole(json.dumps(CHAT[name]).encode(), ask())
    assert type(error) is kind
    assert words in str(error)
    assert error.partial == ("half of" if name in ("error", "abort", "resources", "bogus") else error.partial)


# --- streams as they are


def stream(*events: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + end


def chunk(delta: Any = None, finish: Any = None, **choice: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish, **choice}],
    }


HELLO = (chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo."}))
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
FULL = {"role": "assistant", "content": "Hello.", "tool_calls": [CALL]}
CALLED = chunk({"tool_calls": [{**CALL, "index": 0}]})
WHOLE = Reply(
    "Hello.", tool_calls=(FunctionCall("c1", "add", '{"a":1}'),), finish_reason="tool_calls", id="x"
)

STREAMS: dict[str, tuple[bytes, Any]] = {
    "a full message at the end": (
        stream(*HELLO, CALLED, chunk(None, "tool_calls", message=FULL)), WHOLE,
    ),
    "a full message at the end, without a delta": (
        stream(*HELLO, CALLED, {"choices": [{"index": 0, "message": FULL, "finish_reason": "tool_calls"}]}), WHOLE,
    ),
    "a full message has the calls": (stream(*HELLO, chunk(None, "stop", message=FULL)), WHOLE),
    "a full message alone": (stream(chunk(None, "stop", message=FULL)), WHOLE),
    "a full message that grows beside deltas": (
        stream(*(chunk({"content": text}, message={"content": "Hello."[: at + 1]}) for at, text in enumerate("Hello.")),
               chunk(None, "stop")), Reply("Hello.", id="x"),
    ),
    "messages that grow": (
        stream(*({"id": "x", "choices": [{"message": {"content": "Hello."[:at]}}]} for at in range(7)), chunk(None, "stop")),
        Reply("Hello.", id="x"),
    ),
    "messages that are pieces": (
        stream(*({"id": "x", "choices": [{"message": {"content": text}}]} for text in "Hello."), chunk(None, "stop")),
        Reply("Hello.", id="x"),
    ),
    "the whole call again": (stream(*HELLO, CALLED, CALLED, chunk(None, "tool_calls")), WHOLE),
    "the reason in pieces of its own": (
        stream(*HELLO, CALLED, chunk(None, "tool_calls"), chunk({"content": ""}, "stop")), WHOLE,
    ),
    "null as a word": (stream(chunk({"content": "Hello."}, "null"), chunk(None, "stop")), Reply("Hello.", id="x")),
    "another delta than an object": (stream(chunk("Hello.")), ProtocolError),
    "PHP's empty object": (stream(*HELLO, chunk([], "stop")), Reply("Hello.", id="x")),
    "[DONE] alone": (stream(), ProtocolError),
    "usage alone": (stream({"id": "x", "choices": [], "usage": {"prompt_tokens": 1}}), ProtocolError),
    "choices null": (stream({"id": "x", "choices": None}), ProtocolError),
    "a number": (stream(5), ProtocolError),
    "legacy text": (stream({"choices": [{"index": 0, "text": "Hi", "finish_reason": None}]}), ProtocolError),
    "an error object": (stream(*HELLO, {"error": {"message": "busy"}}), ServerError),
    "an error of vLLM": (stream(*HELLO, {"object": "error", "message": "busy", "code": 500}), ServerError),
    "an error event": (b"event: error\ndata: overloaded\n\n", ServerError),
    "an error event of an object": (b'event: error\ndata: {"message": "busy"}\n\n', ServerError),
    "an error of the choice": (stream(chunk(None, "error", error={"code": 502, "message": "gone"})), ServerError),
    "no end": (stream(*HELLO, end=b""), StreamInterrupted),
    "an end without [DONE]": (stream(*HELLO, chunk(None, "stop"), end=b""), Reply("Hello.", id="x")),
    "usage that is cut off": (stream(*HELLO, chunk(None, "stop"), end=b'data: {"usage": {"pro'), Reply("Hello.", id="x")),
    "halves of a character": (
        b'data: {"id":"x","choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
        b'data: {"id":"x","choices":[{"delta":{"content":"\\ude00b"},"finish_reason":"stop"}]}\n\n',
        Reply("a\U0001f600b", id="x"),
    ),
    "half a character": (
        b'data: {"id":"x","choices":[{"delta":{"content":"a\\ud83d"},"finish_reason":"stop"}]}\n\n', Reply("a\ufffd", id="x"),
    ),
    "NaN in a side field": (
        b'data: {"id":"x","choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-Infinity}]},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":NaN}}\n\n', None,
    ),
    "two answers": (stream(*({"id": "x", "choices": [{"index": n, "delta": {"content": "ab"[n]}}]} for n in (0, 1, 0)),
                           chunk(None, "stop")), Reply("aa", id="x")),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_of_all_kinds(name: str, server: OpenAIServer, backend: OpenAIBackend) -> None:
    data, wanted = STREAMS[name]
    sampling = {"extra_body": {"n": 2}} if name == "two answers" else {}
    for raw in (
        data,
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + data,
        b": hi\n\n" + data,
    ):
        server.say(raw=raw, content_type="text/event-stream")
        request = ask(tools=(ADD,), sampling=sampling, stream=True)
        if isinstance(wanted, type):
            with pytest.raises(ProviderError) as caught:
                await collect(backend, request)
            assert type(caught.value) is wanted
            assert caught.value.partial == ("Hello." if b'"lo."' in raw else "")
            continue
        deltas = await collect(backend, request)
        last = deltas[-1]
        assert isinstance(last, Completed)
        if wanted is not None:
            assert last.reply == wanted
        else:
            assert (last.reply.content, last.reply.logprobs) == ("a", None)
        text, _, calls = joined(deltas)
        assert (text, tuple(calls)) == (last.reply.content, last.reply.tool_calls)


async def test_a_connection_that_breaks_behind_the_end_costs_nothing() -> None:
    """The finish reason has come: all that was to follow is usage."""
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        body = stream(*HELLO, chunk(None, "stop"), end=b"")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        await writer.drain()
        writer.close()  # without the last chunk

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        backend = OpenAIBackend(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        assert (await reply(backend, ask(stream=True))).content == "Hello."
        await backend.aclose()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_a_byte_order_mark_is_no_part_of_the_first_event(size: int) -> None:
    data = b"\xef\xbb\xbfdata: one\n\ndata: \xef\xbb\xbftwo\n\n"
    parser, found = SSEParser(), []
    for at in range(0, len(data), size):
        found += parser.feed(data[at : at + size])
    assert [event.data for event in found + parser.close()] == [b"one", b"\xef\xbb\xbftwo"]
    short = SSEParser()
    assert [*short.feed(b"\xef\xbb"), *short.close()] == []


def test_damaged_answers_give_replies_or_errors_of_ours() -> None:
    """A sample of `python -m tests.fuzz.wire --count 100000`."""
    tally, wrong = fuzz(2500, seed=8)
    assert not wrong, wrong[0]
    assert tally["reply"] > 1000
    assert tally["ProtocolError"] > 1000
