"""An OpenAI-compatible server with scripted behaviour, on a thread and an event loop of its own.

    with OpenAIServer() as server:
        server.say("Hello.")                       # one answer, whole or streamed as the request asks
        server.fault(429, retry_after="2")
        server.say("Hello.", hang="middle")

Requests are kept in `server.requests`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "test-model"


@dataclass
class Seen:
    """A request as it came over the wire."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Script:
    """One answer. Everything below `content` is optional."""

    content: str | None = ""
    thinking: str | None = None
    thinking_field: str = "reasoning_content"
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    refusal: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    )
    # how it is sent
    piece: int = 4  # characters per chunk
    cut: int | None = None  # bytes per network write
    gap: float = 0.0  # seconds between writes
    newline: bytes = b"\n"
    heartbeat: bool = False
    done: bool = True
    chunks: list[Any] | None = None  # the chunks themselves, instead of those made from the content
    # how it fails
    status: int = 200
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hang: str | None = None  # before, middle
    drop: str | None = None  # before, middle

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    def body(self) -> dict[str, Any]:
        """The answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        if self.thinking is not None:
            message[self.thinking_field] = self.thinking
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        choice["logprobs"] = None if self.logprobs is None else {"content": self.logprobs, "refusal": None}
        out = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
        }
        return out if self.usage is None else out | {"usage": self.usage}

    def stream(self) -> list[dict[str, Any]]:
        """The answer as chunks."""
        if self.chunks is not None:
            return self.chunks
        deltas: list[tuple[dict[str, Any], Any]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({self.thinking_field: text}, None) for text in self._cut(self.thinking)]
        logprobs = deque(self.logprobs or ())
        if self.logprobs is not None:
            for text in [entry["token"] for entry in self.logprobs]:
                deltas.append(({"content": text}, {"content": [logprobs.popleft()], "refusal": None}))
        else:
            deltas += [({"content": text}, None) for text in self._cut(self.content)]
        deltas += [({"refusal": text}, None) for text in self._cut(self.refusal)]
        for index, call in enumerate(self.tool_calls):
            function = call["function"]
            head = {"index": index, "id": call["id"], "type": "function"}
            deltas.append(
                ({"tool_calls": [head | {"function": {"name": function["name"], "arguments": ""}}]}, None)
            )
            deltas += [
                ({"tool_calls": [{"index": index, "function": {"arguments": text}}]}, None)
                for text in self._cut(function["arguments"])
            ]
        chunks = [
            self._chunk([{"index": 0, "delta": delta, "logprobs": tokens, "finish_reason": None}])
            for delta, tokens in deltas
        ]
        chunks.append(
            self._chunk([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": self.finish_reason}])
        )
        if self.usage is not None:
            chunks.append(self._chunk([]) | {"usage": self.usage})
        return chunks

    def events(self) -> list[bytes]:
        """The chunks as server-sent events."""
        end = self.newline
        out = self._events(self.stream())
        return [*out, b"data: [DONE]" + end + end] if self.done else out

    def _events(self, chunks: list[dict[str, Any]]) -> list[bytes]:
        end = self.newline
        out = [b": ping" + end + end] if self.heartbeat else []
        for chunk in chunks:
            name = b"event: " + chunk["type"].encode() + end if "type" in chunk else b""
            out.append(name + b"data: " + json.dumps(chunk).encode() + end + end)
            if self.heartbeat:
                out.append(b": ping" + end + end)
        return out

    # the same answer in the words of the Responses API

    def response(self, status: str | None = None) -> dict[str, Any]:
        """The answer in one piece."""
        cut_off = self.finish in ("length", "content_filter")
        output: list[dict[str, Any]] = []
        if self.thinking is not None:
            summary = [{"type": "summary_text", "text": text} for text in self.thinking.split("\n\n")]
            output.append({"id": "rs_1", "type": "reasoning", "summary": summary})
        parts: list[dict[str, Any]] = []
        if self.content:
            parts.append(
                {
                    "type": "output_text",
                    "text": self.content,
                    "annotations": [],
                    "logprobs": self.logprobs or [],
                }
            )
        if self.refusal:
            parts.append({"type": "refusal", "refusal": self.refusal})
        if parts:
            output.append(
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": parts,
                }
            )
        for number, entry in enumerate(self.tool_calls):
            if entry["type"] == "tool_search_call":
                output.append({"id": f"tsc_{number}", **entry})
                continue
            function = entry["function"]
            output.append({"id": f"fc_{number}", "type": "function_call", "call_id": entry["id"], **function})
        usage = self.usage and {
            "input_tokens": self.usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.usage["total_tokens"],
        }
        reason = "max_output_tokens" if self.finish == "length" else self.finish
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": MODEL,
            "output": output,
            "status": status or ("incomplete" if cut_off else "completed"),
            "incomplete_details": {"reason": reason} if cut_off else None,
            "error": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }

    def response_events(self) -> list[bytes]:
        """The answer as server-sent events."""
        whole = self.response()
        chunks: list[dict[str, Any]] = [{"type": "response.created", "response": whole | {"output": []}}]
        for number, item in enumerate(whole["output"]):
            place = {"output_index": number, "item_id": item["id"]}
            empty = (
                item | {"arguments": ""}
                if item["type"] == "function_call"
                else item | {"content": [], "summary": []}
            )
            chunks.append({"type": "response.output_item.added", "item": empty, **place})
            for index, part in enumerate(item.get("summary", ())):
                chunks += [
                    {
                        "type": "response.reasoning_summary_text.delta",
                        "delta": text,
                        "summary_index": index,
                        **place,
                    }
                    for text in self._cut(part["text"])
                ]
            for index, part in enumerate(item.get("content", ())):
                kind = "output_text" if "text" in part else "refusal"
                chunks += [
                    {
                        "type": f"response.{kind}.delta",
                        "delta": text,
                        "content_index": index,
                        "logprobs": [],
                        **place,
                    }
                    for text in self._cut(part.get("text") or part["refusal"])
                ]
            chunks += [
                {"type": "response.function_call_arguments.delta", "delta": text, **place}
                for text in self._cut(item["arguments"] if item["type"] == "function_call" else None)
            ]
            chunks.append({"type": "response.output_item.done", "item": item, **place})
        chunks.append({"type": f"response.{whole['status']}", "response": whole})
        return self._events([chunk | {"sequence_number": number} for number, chunk in enumerate(chunks)])

    def _cut(self, text: str | None) -> list[str]:
        return [text[at : at + self.piece] for at in range(0, len(text), self.piece)] if text else []

    def _chunk(self, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices
        }  # fmt: skip


def call(name: str, arguments: Any, id: str = "call_1") -> dict[str, Any]:
    """A tool call as the wire has it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


class OpenAIServer:
    """See above. `url` ends in `/v1`."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.scripts: deque[Script] = deque()
        self.forever: Script | None = None
        """What is answered when no script is left."""
        self.answer: Callable[[Any], Script] | None = None
        """Gives the answer for a request's body, when no script is left."""
        self.raws: dict[str, bytes] = {}
        """What is answered at a path, whatever is asked: JSON."""
        self.accepted = 0
        """Sockets that were ever opened."""
        self.busy = self.peak = 0
        """Requests that are worked on now, and the most that ever were."""
        self.pause = 0.0
        """Seconds before every answer."""
        self._loop = asyncio.SelectorEventLoop()  # a plain one, whatever loop the tests run in
        self._thread = threading.Thread(target=self._run, name="openai-server", daemon=True)
        self._started = threading.Event()
        self._release = asyncio.Event()
        self._runner: web.AppRunner
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """Sockets that are open now."""
        return len(self._runner.server.connections) if self._runner.server else 0

    def say(self, content: str | None = "", **script: Any) -> Script:
        self.scripts.append(Script(content, **script))
        return self.scripts[-1]

    def fault(
        self,
        status: int,
        message: str = "it did not work",
        *,
        code: str | None = None,
        type: str | None = None,
        retry_after: str | None = None,
        **script: Any,
    ) -> Script:
        body = {"error": {"message": message, "type": type, "param": None, "code": code}}
        headers = script.pop("headers", {}) | ({} if retry_after is None else {"Retry-After": retry_after})
        return self.say(status=status, raw=json.dumps(body).encode(), headers=headers, **script)

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        assert self._started.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        self._release.set()
        # asyncio loses a connection that is accepted while its server is closed: an unclosed socket, in any later test
        assert isinstance(site._server, asyncio.Server)
        for listening in site._server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        await self._runner.cleanup()
        for transport in list(self._known):
            transport.abort()  # where nobody reads what was written, closing alone would wait for that
        for _ in range(3):
            await asyncio.sleep(0)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            await asyncio.sleep(self.pause)
            return await self._scripted(request)
        finally:
            self.busy -= 1

    async def _scripted(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        assert request.transport is not None
        if request.transport not in self._known:
            self._known.add(request.transport)
            self.accepted += 1
        self.requests.append(Seen(request.path, dict(request.query), request.headers, data))
        if request.path in self.raws:
            return web.Response(body=self.raws[request.path], content_type="application/json")
        if self.scripts:
            script = self.scripts.popleft()
        elif self.answer is not None:
            script = self.answer(json.loads(data))
        elif self.forever is not None:
            script = self.forever
        else:
            return web.json_response({"error": {"message": "the test gave no script"}}, status=418)
        if script.hang == "before":
            await self._release.wait()
        if script.drop == "before":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if script.raw is not None:
            return web.Response(
                body=script.raw,
                status=script.status,
                headers=script.headers,
                content_type=script.content_type,
            )
        if not json.loads(data).get("stream"):
            return await self._whole(request, script)
        return await self._stream(request, script)

    async def _whole(self, request: web.Request, script: Script) -> web.StreamResponse:
        value = script.response() if request.path.endswith("/responses") else script.body()
        data = json.dumps(value).encode()
        if script.hang is None and script.drop is None:
            return web.Response(body=data, headers=script.headers, content_type=script.content_type)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": str(len(data))}
        )
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        await self._fail(request, script)
        return response

    async def _stream(self, request: web.Request, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | script.headers)
        await response.prepare(request)
        events = script.response_events() if request.path.endswith("/responses") else script.events()
        if script.hang == "middle" or script.drop == "middle":
            events = events[: len(events) // 2]
        data = b"".join(events)
        writes = (
            events
            if script.cut is None
            else [data[i : i + script.cut] for i in range(0, len(data), script.cut)]
        )
        for piece in writes:
            await response.write(piece)
            await asyncio.sleep(script.gap)
        if script.hang == "middle" or script.drop == "middle":
            await self._fail(request, script)
        return response

    async def _fail(self, request: web.Request, script: Script) -> None:
        if script.hang == "middle":
            await self._release.wait()
        else:
            assert request.transport is not None
            request.transport.close()
