"""OpenAI's Responses API, through the `openai` package: what it adds over chat completions is reasoning summaries.

Nothing is kept at the provider (`store` is false unless asked for): the dialog is sent whole every time, as everywhere.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from lllm.backends.openai.body import Bodies, extra_body, schema_form
from lllm.backends.openai.faults import Faults, misread
from lllm.backends.openai.proxy import Proxy
from lllm.backends.openai.reply import read_token
from lllm.backends.openai.sessions import PerLoop
from lllm.backends.openai.url import Endpoint
from lllm.backends.openai.usage import read_usage
from lllm.backends.openai.watch import Expired, Watch
from lllm.backends.thinking import Mode, Splitter
from lllm.deltas import pieces
from lllm.errors import DependencyError, ProviderError, UnsupportedError
from lllm.models.message import FunctionCall, Message
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta

# chat completions has them, this API has not
_MISSING: Final = (
    "stop",
    "seed",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "prediction",
    "return_token_ids",
    "web_search_options",
)
_PARTS: Final = {"text": "input_text", "image_url": "input_image", "file": "input_file"}
_END: Final = ("response.completed", "response.incomplete", "response.failed")


class Responses:
    """Asks the Responses API. Made by OpenAIBackend, which has checked the key."""

    def __init__(
        self,
        place: Endpoint,
        headers: Mapping[str, str],
        bodies: Bodies,
        faults: Faults,
        mode: Mode,
        proxy: Proxy | None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise DependencyError("openai", "openai", "the Responses API") from None
        if proxy is not None and proxy.socks and find_spec("socksio") is None:
            raise DependencyError("socksio", "socks", f"the SOCKS proxy of {proxy.source}")
        self._bodies, self._faults, self._mode = bodies, faults, mode

        # where we send no key, the package must be told for each request not to want one
        self._headers: dict[str, Any] = {} if "Authorization" in headers else {"Authorization": openai.Omit()}

        def make() -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(
                api_key="in the headers",
                base_url=place.root,
                default_headers=headers,
                default_query=dict(parse_qsl(place.query)),
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False,
                    proxy=None if proxy is None else proxy.url,
                    trust_env=False,
                    verify=ssl.create_default_context(),
                ),
            )

        self._clients: PerLoop[openai.AsyncOpenAI] = PerLoop(
            make,
            lambda client: client.close(),
            alive=lambda client: not client.is_closed(),
            bury=lambda client: None,
        )

    async def aclose(self) -> None:
        await self._clients.close()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """As OpenAIBackend.stream."""
        import openai

        body = self.body(request)
        create = self._clients.get().responses.with_raw_response.create
        timeout = openai.Timeout(None, connect=request.timeouts.connect)
        headers = self._headers
        if request.idempotency_key is not None:
            headers = headers | {"Idempotency-Key": request.idempotency_key}
        fault: ProviderError | None = None
        watch = Watch(request.timeouts, streaming=request.stream)
        following = Following(request, self._mode)
        events: Any = None
        try:
            with watch:
                answer = await create(**body, stream=request.stream, extra_headers=headers, timeout=timeout)
                in_pieces = request.stream and "event-stream" in answer.headers.get("content-type", "")
                data = b"" if in_pieces else await answer.http_response.aread()
            if not in_pieces:
                reply = self._reply(data, request)
                for delta in pieces(reply) if request.stream else ():
                    yield delta
                yield Completed(reply)
                return
            events = answer.parse()
            while True:
                with watch:
                    event = await anext(events, None)
                if event is None:
                    raise self._faults.interrupted(
                        "it ended without its last event", partial=following.partial
                    )
                watch.first_piece(request.timeouts.idle)
                value = event.to_dict(mode="python", warnings=False)
                for delta in following.event(value):
                    yield delta
                if value.get("type") in _END:
                    break
                if value.get("type") == "error":
                    raise self._faults.of_object(value, model=request.model, partial=following.partial)
            reply = self._finished(value.get("response") or {}, request, following.partial)
            for delta in following.close():
                yield delta
            yield Completed(reply)
        except ProviderError:
            raise
        except Exception as error:
            fault = self._fault(error, request, following.partial)
        finally:
            watch.close()
            if events is not None:
                await events.close()
        if fault is not None:
            raise fault

    def body(self, request: Request) -> dict[str, Any]:
        """The request in this API's words, as arguments of `responses.create`."""
        options = self._bodies.options(request)
        for key in _MISSING:
            if key in options:
                raise UnsupportedError(
                    f"the Responses API has no '{key}'", hint="Leave it out, or take api='chat'."
                )
        out: dict[str, Any] = {"model": request.model, "input": input_items(request.messages), "store": False}
        extra = extra_body(request.sampling)
        limit = options.pop("max_tokens", None) or options.pop("max_completion_tokens", None)
        if limit is not None:
            out["max_output_tokens"] = limit
        if effort := options.pop("reasoning_effort", None):
            out["reasoning"] = {"effort": effort} | extra.pop("reasoning", {})
        text: dict[str, Any] = {}
        if request.format is not None and self._bodies.sends_format(request):
            text["format"] = {"type": "json_schema"} | schema_form(request.format)
        if verbosity := options.pop("verbosity", None):
            text["verbosity"] = verbosity
        if text:
            out["text"] = text
        if options.pop("logprobs", None):
            out["include"] = ["message.output_text.logprobs"]
        choice = options.pop("tool_choice", None)
        if isinstance(choice, Mapping) and "function" in choice:
            choice = {"type": "function", "name": choice["function"]["name"]}
        if choice is not None:
            out["tool_choice"] = choice
        if request.tools:
            out["tools"] = [tool_form(tool) for tool in request.tools]
        extra |= {key: options.pop(key) for key in ("top_k", "min_p", "repetition_penalty") if key in options}
        return out | options | ({"extra_body": extra} if extra else {})

    def _reply(self, data: bytes, request: Request) -> Reply:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = None
        if value is None:
            raise self._faults.of_protocol("the answer is not JSON", data, status=200)
        return self._finished(value, request, "")

    def _finished(self, value: Any, request: Request, partial: str) -> Reply:
        if isinstance(value, dict) and value.get("error"):
            raise self._faults.of_object(value["error"], model=request.model, partial=partial)
        try:
            reply = reply_of(value, splitter_for(request, self._mode))
            return reply.with_(enforced=self._bodies.enforced(request))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            words = f"the answer is not a response: {misread(error)}"
        raise self._faults.of_protocol(words, orjson.dumps(value, default=str), status=200, partial=partial)

    def _fault(self, error: Exception, request: Request, partial: str) -> ProviderError:
        import openai

        if isinstance(error, Expired):
            return self._faults.timeout(error.stage, error.seconds, partial=partial)
        if isinstance(error, openai.APIStatusError):
            response = error.response
            return self._faults.of_status(
                response.status_code, response.headers, response.content, model=request.model
            )
        if isinstance(error, openai.APITimeoutError):
            return self._faults.timeout("connect", request.timeouts.connect or 0.0)
        if isinstance(error, openai.APIConnectionError) and not partial:
            return self._faults.unconnected(error.__cause__ or error)
        if isinstance(error, openai.APIError) and error.body is not None:
            return self._faults.of_object(error.body, model=request.model, partial=partial)
        if isinstance(error, ValueError):
            return self._faults.of_protocol(f"the answer cannot be read: {misread(error)}", partial=partial)
        return self._faults.interrupted(error.__cause__ or error, partial=partial)


class Following:
    """The deltas of a stream's events."""

    def __init__(self, request: Request, mode: Mode) -> None:
        self._splitter = splitter_for(request, mode)
        self._calls: dict[Any, int] = {}
        self._part: tuple[Any, Any] | None = None

    @property
    def partial(self) -> str:
        return self._splitter.content

    def event(self, event: Mapping[str, Any]) -> Sequence[Delta]:
        kind = event.get("type")
        if kind == "response.output_text.delta":
            return self._splitter.feed(event.get("delta") or "")
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            part = (event.get("output_index"), event.get("summary_index"))
            gap = "\n\n" if self._part is not None and self._part != part else ""
            self._part = part
            return self._splitter.thought(gap + (event.get("delta") or ""))
        if kind == "response.output_item.added":
            item = event.get("item") or {}
            if item.get("type") == "function_call":
                number = self._calls.setdefault(event.get("output_index"), len(self._calls))
                return (
                    ToolCallDelta(number, item.get("call_id"), item.get("name"), item.get("arguments") or ""),
                )
        if kind == "response.function_call_arguments.delta" and event.get("output_index") in self._calls:
            return (ToolCallDelta(self._calls[event["output_index"]], arguments=event.get("delta") or ""),)
        return ()

    def close(self) -> Sequence[Delta]:
        return [
            piece
            for piece in self._splitter.finish()
            if isinstance(piece, TextDelta | ThinkingDelta | Restart)
        ]


def input_items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A dialog as this API's items."""
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id or "",
                    "output": message.text,
                }
            )
            continue
        if message.content:
            content: Any = message.content
            if not isinstance(content, str):
                content = (
                    message.text if message.role == "assistant" else [input_part(part) for part in content]
                )
            items.append({"role": message.role, "content": content})
        items += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    return items


def input_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A content part in this API's words."""
    kind = str(part.get("type"))
    if kind not in _PARTS:
        return dict(part)
    if kind == "image_url":
        image = part["image_url"]
        image = {"url": image} if isinstance(image, str) else image
        return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}
    inner = part.get("file") or {} if kind == "file" else {"text": part["text"]}
    return {"type": _PARTS[kind]} | dict(inner)


def tool_form(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in this API's words. Strict only where the tool says so: the default here is the opposite of chat's."""
    function = tool["function"]
    return {
        "type": "function",
        "name": function["name"],
        "description": function.get("description"),
        "parameters": function.get("parameters"),
        "strict": bool(function.get("strict", False)),
    }


def splitter_for(request: Request, mode: Mode) -> Splitter:
    """What tells reasoning and text of the replies to a request apart."""
    return Splitter(
        mode,
        tools=bool(request.tools),
        literal=request.literal_tags,
        structured=request.format is not None,
    )


def reply_of(response: Mapping[str, Any], splitter: Splitter) -> Reply:
    """A finished response as a Reply, told apart by a fresh `splitter`."""
    thoughts: list[str] = []
    calls: list[FunctionCall] = []
    refusal: list[str] = []
    logprobs: list[dict[str, Any]] | None = None
    for item in response["output"]:
        if item["type"] == "message":
            for part in item["content"]:
                if part["type"] == "output_text":
                    splitter.feed(part["text"])
                    if part.get("logprobs"):
                        logprobs = (logprobs or []) + [read_token(entry) for entry in part["logprobs"]]
                elif part["type"] == "refusal":
                    refusal.append(part["refusal"])
        elif item["type"] == "reasoning":
            thoughts += [part["text"] for part in (item.get("summary") or item.get("content") or ())]
        elif item["type"] == "function_call":
            calls.append(FunctionCall(item["call_id"], item["name"], item["arguments"]))
    if thoughts:
        splitter.thought("\n\n".join(thoughts))
    splitter.finish()
    finish = "tool_calls" if calls else "stop"
    if response.get("status") == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason") or "length"
        finish = "length" if reason == "max_output_tokens" else reason
    content, raw = splitter.content, splitter.raw
    return Reply(
        content=content,
        thinking=splitter.thinking,
        tool_calls=tuple(calls or splitter.calls),
        finish_reason=finish,
        refusal="".join(refusal) or None,
        usage=read_usage(response.get("usage")),
        model=response.get("model"),
        id=response.get("id"),
        logprobs=logprobs,
        raw=None if raw == content else raw,
    )
