"""Every fault has its class, says what to do next, and never shows the key."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.faults import CODES, STATUS
from lllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailed,
    ContextLengthError,
    ModelNotFoundError,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    UnsupportedError,
)
from lllm.models.reply import Reply
from lllm.ports import Request
from tests.backends.helpers import ask, collect, reply
from tests.servers.openai_server import OpenAIServer, Script

KEY = "sk-secret-of-the-test"
HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not here</body></html>"


async def fault(backend: OpenAIBackend, request: Request) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await collect(backend, request)
    return caught.value


# status, body of the error object (or bytes), class, retryable, words in its text
FAULTS: list[tuple[int, Any, type[ProviderError], bool, str]] = [
    (400, {"message": "bad"}, BadRequestError, False, "bad"),
    (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, AuthenticationError, False, "came from api_key"),
    (402, {"message": "Insufficient Balance"}, QuotaError, False, "credit"),
    (403, {"message": "no"}, AuthenticationError, False, "allowed to use 'test-model'"),
    (404, {"message": "The model does not exist", "code": "model_not_found"}, ModelNotFoundError, False, "model_name"),
    (404, b"404 page not found", ModelNotFoundError, False, "base_url"),
    (404, HTML, ModelNotFoundError, False, "most end in /v1"),
    (405, {"detail": "Method Not Allowed"}, BadRequestError, False, "base_url"),
    (408, {"message": "slow"}, ServerError, True, "slow"),
    (409, {"message": "conflict"}, BadRequestError, False, "conflict"),
    (413, b"too big", BadRequestError, False, "too big"),
    (418, {"message": "teapot"}, BadRequestError, False, "teapot"),
    (422, {"detail": [{"loc": ["body", "x"], "msg": "Field required"}]}, BadRequestError, False, "Field required"),
    (429, {"message": "slow down", "code": "rate_limit_exceeded"}, RateLimitError, True, "slow down"),
    (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, QuotaError, False, "credit"),
    (500, {"message": "oh"}, ServerError, True, "oh"),
    (501, {"message": "no such thing"}, ServerError, False, "no such thing"),
    (502, HTML, ServerError, True, "HTML"),
    (503, b"", ServerError, True, "no explanation"),
    (529, {"message": "Overloaded", "type": "overloaded_error"}, ServerError, True, "Overloaded"),
    (400, {"message": "x", "code": "context_length_exceeded"}, ContextLengthError, False, "Shorten"),
    (
        400,
        {"message": "This model's maximum context length is 4096 tokens.", "type": "BadRequestError", "code": 400},
        ContextLengthError,
        False,
        "4096",
    ),
    (400, {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
     ContextLengthError, False, "Shorten"),
    (400, {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."},
     ContextLengthError, False, "Shorten"),
    (400, {"message": "prompt is too long: 9 tokens > 8 maximum"}, ContextLengthError, False, "Shorten"),
    (400, {"message": 'registry/m does not support tools'}, UnsupportedError, False, "tools"),
    (
        400,
        {"message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'},
        UnsupportedError,
        False,
        "tool calling",
    ),
    (400, {"message": "no such model", "code": "model_not_found"}, ModelNotFoundError, False, "model_name"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "body", "kind", "retryable", "words"), FAULTS)
async def test_a_status_has_its_class(
    status: int,
    body: Any,
    kind: type[ProviderError],
    retryable: bool,
    words: str,
    stream: bool,
    server: OpenAIServer,
    backend: OpenAIBackend,
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps({"error": body}).encode()
    server.say(status=status, raw=raw, content_type="text/html" if body is HTML else "application/json")
    error = await fault(backend, ask(stream=stream))
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.status == status
    assert words in str(error)
    assert error.body == raw.decode().strip()
    assert str(status) in error.message
    assert server.url in error.message
    assert error.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no"}},
        {"error": "no"},
        {"object": "error", "message": "no", "type": "BadRequestError"},
        {"detail": "no"},
        [{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}],
        {"error": {"message": "Provider returned error", "metadata": {"raw": "no"}}},
        "no",
    ],
)
async def test_every_shape_of_error_body(body: Any, server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(status=400, raw=json.dumps(body).encode())
    error = await fault(backend, ask())
    assert type(error) is BadRequestError
    assert error.message.endswith("no")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"message": "busy", "code": 429}, RateLimitError),
        ({"message": "busy", "code": "502"}, ServerError),
        ({"message": "oh", "type": "server_error"}, ServerError),
        ({"message": "no", "type": "invalid_request_error"}, BadRequestError),
        ({"message": "too much", "code": "context_length_exceeded"}, ContextLengthError),
        ("something", ServerError),
    ],
)
async def test_an_error_in_an_answer_of_200(
    value: Any, kind: type[ProviderError], stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    if stream:
        script = Script("Hello.")
        server.say(chunks=[*script.stream()[:2], {"error": value}])
    else:
        server.say(raw=json.dumps({"error": value}).encode())
    error = await fault(backend, ask(stream=stream))
    assert type(error) is kind
    assert error.partial == ("Hell" if stream else "")


async def test_an_error_event_in_a_stream(server: OpenAIServer, backend: OpenAIBackend) -> None:
    raw = b'event: error\ndata: {"message": "busy", "type": "overloaded_error"}\n\n'
    server.say(raw=raw, content_type="text/event-stream")
    assert type(await fault(backend, ask(stream=True))) is ServerError


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("raw", "content_type", "words"),
    [
        (HTML, "text/html", "web page"),
        (b"OK", "text/plain", "base_url"),
        (b"", "application/json", "not JSON"),
        (b'{"choices": [', "application/json", "not JSON"),
        (b'{"choices": []}', "application/json", "'choices' is missing or empty"),
        (b'{"object": "list", "data": []}', "application/json", "'choices' is missing or empty"),
        (b'{"message": {"content": "x"}, "done": true}', "application/json", "under /v1"),
        (b'{"choices": [{"index": 0, "text": "x"}]}', "application/json", "text completion"),
        (b'{"choices": [{"index": 0}]}', "application/json", "cannot be read: 'message' is missing"),
        (b'{"choices": [7]}', "application/json", "must be an object, got a number"),
        (
            b'{"choices": [{"message": {"content": [[]]}}]}',
            "application/json",
            "must be an object, got a list",
        ),
        (b"[1, 2]", "application/json", "must send an object, got list"),
        (b"\xff\xfe", "application/json", "not JSON"),
    ],
)
async def test_an_answer_that_is_not_one(
    raw: bytes, content_type: str, words: str, stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say(raw=raw, content_type=content_type)
    error = await fault(backend, ask(stream=stream))
    assert type(error) is ProtocolError
    assert error.status == 200
    if raw:
        assert words in str(error)
    assert not re.search(r"(Key|Type|Attribute|Value|Index|Decode)Error|object has no|\bNoneType", str(error))
    assert error.__context__ is None


async def test_a_piece_that_is_not_json(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(
        raw=b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\ndata: {oops\n\n',
        content_type="text/event-stream",
    )
    error = await fault(backend, ask(stream=True))
    assert type(error) is ProtocolError
    assert error.partial == "Hel"
    assert "{oops" in (error.body or "")


async def test_a_refusal_is_a_reply(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(None, refusal="I will not.")
    got = await reply(backend, ask())
    assert isinstance(got, Reply)
    assert (got.content, got.refusal) == ("", "I will not.")


NOW = datetime(2026, 11, 21, 4, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": " 30 "}, 30.0),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": format_datetime(NOW.replace(minute=1), usegmt=True)}, 60.0),
        ({"Retry-After": format_datetime(NOW.replace(year=2025), usegmt=True)}, 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 04:00:05 GMT"}, 5.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After-Ms": "x", "Retry-After": "9"}, 9.0),
    ],
)
async def test_how_long_to_wait(headers: dict[str, str], seconds: float | None, server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, clock=NOW.timestamp)
    server.fault(429, headers=headers)
    assert (await fault(backend, ask())).retry_after == seconds


async def test_a_long_body_is_cut(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.fault(400, "x" * 5000)
    error = await fault(backend, ask())
    assert len(error.body or "") == 2000
    assert len(error.message) < 500


# --- the network ---


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_listens(stream: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets this port meanwhile
        error = await fault(OpenAIBackend(f"http://127.0.0.1:{taken.getsockname()[1]}"), ask(stream=stream))
    assert type(error) is ConnectionFailed
    assert error.retryable
    assert "Is the server running" in str(error)
    assert error.__context__ is None


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await fault(OpenAIBackend("http://nowhere.localhost:1"), ask())
    assert type(error) is ConnectionFailed
    assert "nowhere.localhost" in str(error)


async def test_a_server_that_does_not_speak_tls(server: OpenAIServer) -> None:
    error = await fault(OpenAIBackend(server.url.replace("http:", "https:")), ask())
    assert type(error) is ConnectionFailed


async def test_a_server_that_does_not_speak_http() -> None:
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        error = await fault(OpenAIBackend(f"http://127.0.0.1:{port}"), ask())
    assert type(error) is ProtocolError
    assert "not an HTTP answer" in str(error)


@pytest.mark.parametrize("stream", [False, True])
async def test_dropped_before_the_answer(stream: bool, server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello.", drop="before")
    error = await fault(backend, ask(stream=stream))
    assert type(error) is ConnectionFailed
    assert error.retryable


@pytest.mark.parametrize("text", ["Hi.", "long " * 300_000])  # aiohttp sends the second as a stream
@pytest.mark.parametrize("stream", [False, True])
async def test_a_used_connection_that_was_closed_is_no_fault(
    stream: bool, text: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    """A server may close what it kept open at any time: the request goes out once more, on a new connection."""
    server.say("One.")
    server.say("never", drop="before")
    server.say("Two.")
    assert (await reply(backend, ask())).content == "One."
    assert (await reply(backend, ask(text, stream=stream))).content == "Two."
    assert [request.json["messages"][0]["content"] for request in server.requests] == ["Hi.", text, text]


async def test_a_new_connection_that_is_closed_is_a_fault(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("One.")
    server.say("never", drop="before")
    server.say("never", drop="before")
    server.say("Two.")
    await reply(backend, ask())
    assert type(await fault(backend, ask())) is ConnectionFailed
    assert len(server.requests) == 3  # the used connection, a new one, and no more
    assert (await reply(backend, ask())).content == "Two."


async def test_no_used_connection_serves_the_second_try() -> None:
    """Where several were kept, all of them may have been closed: with a server that answers once per connection."""
    body = b'{"choices": [{"message": {"role": "assistant", "content": "One."}, "finish_reason": "stop"}]}'
    arrived = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            arrived += 1
            if not number:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        backend = OpenAIBackend(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        await asyncio.gather(*[reply(backend, ask()) for _ in range(3)])  # three connections are kept
        assert arrived == 3
        assert (await reply(backend, ask())).content == "One."
        assert arrived == 5
        await backend.aclose()


async def test_dropped_within_a_stream(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", drop="middle")
    error = await fault(backend, ask(stream=True))
    assert type(error) is StreamInterrupted
    assert error.retryable
    assert error.partial.startswith("Hello, h")
    assert "proxy" in str(error)
    assert "concurrency" in str(error)


async def test_dropped_within_a_whole_answer(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("Hello, how are you?", drop="middle")
    assert type(await fault(backend, ask())) is StreamInterrupted


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(
    status: int, stream: bool, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    with OpenAIServer() as elsewhere:
        server.say(raw=b"", status=status, headers={"Location": f"{elsewhere.url}/chat/completions?x=1"})
        error = await fault(backend, ask(stream=stream))
        assert not elsewhere.requests
    assert type(error) is ProtocolError
    assert error.status == status
    assert elsewhere.url in str(error)
    assert "base_url" in str(error)


# --- secrets ---


def everything(error: BaseException) -> str:
    parts = [str(error), repr(error), repr(vars(error))]
    parts += [everything(chained) for chained in (error.__cause__, error.__context__) if chained is not None]
    return "\n".join(parts)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_key_is_in_no_error(stream: bool, server: OpenAIServer) -> None:
    query, header = "query-secret-of-the-test", "header-secret-of-the-test"
    backend = OpenAIBackend(f"{server.url}?api-key={query}", KEY, headers={"X-Token": header})
    said = f"Incorrect API key {KEY} with {header} at {server.url}?api-key={query}"
    server.fault(401, said)
    server.fault(404, said)
    server.fault(500, said)
    server.say(raw=said.encode(), content_type="text/plain")
    server.say(raw=json.dumps({"error": {"message": said}}).encode())
    server.say(raw=json.dumps({"choices": [{"message": {"content": [said]}}]}).encode())
    server.say(raw=b"", status=307, headers={"Location": f"https://elsewhere/{KEY}?{query}"})
    server.say(raw=f"data: {{{said}\n\n".encode(), content_type="text/event-stream")
    server.say(said, drop="middle")
    server.say("x", drop="before")
    while server.scripts:
        text = everything(await fault(backend, ask(stream=stream)))
        assert KEY not in text
        assert header not in text
        assert query not in text
    assert KEY not in repr(backend)
    assert query not in repr(backend)
    assert KEY not in repr(backend._prepare()[1])


async def test_the_hint_names_the_variable_and_not_its_value(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    backend = OpenAIBackend()
    server.fault(401)
    text = str(await fault(backend, ask()))
    assert "OPENAI_API_KEY" in text
    assert KEY not in text
    server.fault(404)
    assert "OPENAI_BASE_URL" in str(await fault(backend, ask()))


async def test_without_a_key_the_hint_says_so(server: OpenAIServer) -> None:
    server.fault(401)
    assert "No key was sent" in str(await fault(OpenAIBackend(server.url), ask()))


def test_the_tables_are_of_the_tree() -> None:
    assert all(issubclass(kind, ProviderError) for kind in [*STATUS.values(), *CODES.values()])
    assert all(code == code.lower() for code in CODES)
