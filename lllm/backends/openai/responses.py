"""OpenAI's Responses API, through the `openai` package: what it adds over chat completions is reasoning summaries.

Nothing is kept at the provider (`store` is false unless asked for): the dialog is sent whole every time, as everywhere.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import parse_qsl

from lllm.backends.openai.body import Bodies, extra_body, schema_form
from lllm.backends.openai.families import takes_back
from lllm.backends.openai.faults import MISREAD, Faults, shown
from lllm.backends.openai.fields import Unreadable, loads, side_object, side_text
from lllm.backends.openai.parameters import acceptable
from lllm.backends.openai.response_reading import NAMESPACE, REASONING, Following, reply_of
from lllm.backends.openai.sent import Renamed
from lllm.backends.openai.tool_search import ToolSearch, tool_search_of
from lllm.backends.openai.url import Endpoint
from lllm.backends.openai.usage import read_usage
from lllm.backends.thinking import Mode
from lllm.deltas import pieces
from lllm.errors import DependencyError, ProtocolError, ProviderError, UnsupportedError
from lllm.http.forward_proxy import ForwardProxy
from lllm.http.sessions import PerLoop
from lllm.http.sse import BOM, Event, SSEParser
from lllm.http.watch import Expired, Watch
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request

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


class Responses:
    """Asks the Responses API. Made by OpenAIBackend, which has checked the key."""

    def __init__(
        self,
        place: Endpoint,
        headers: Mapping[str, str],
        bodies: Bodies,
        faults: Faults,
        mode: Mode,
        proxy: ForwardProxy | None,
        *,
        tool_search: bool = False,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise DependencyError("openai", "openai", "the Responses API") from None
        if proxy is not None and proxy.socks and find_spec("socksio") is None:
            raise DependencyError("socksio", "socks", f"the SOCKS proxy of {proxy.source}")
        self._bodies, self._faults, self._mode = bodies, faults, mode
        self._tool_search = tool_search
        self._place = f"{place.root}/responses"  # chat completions cannot read its items

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
        fault: ProviderError | None = None
        watch = Watch(request.timeouts, streaming=request.stream)
        following = Following(request, self._mode)
        response: Any = None
        try:
            with watch:
                answer = await create(
                    **body, stream=request.stream, extra_headers=self._headers, timeout=timeout
                )
                response = answer.http_response
                in_pieces = request.stream and "json" not in answer.headers.get("content-type", "")
                data = b"" if in_pieces else await response.aread()
            if not in_pieces:
                reply = self._reply(data, request)
                for delta in pieces(reply) if request.stream else ():
                    yield delta
                yield Completed(reply)
                return
            parser, arriving = SSEParser(), response.aiter_bytes()
            piece: bytes | None = b""
            while following.last is None and piece is not None:
                with watch:
                    piece = await anext(arriving, None)
                events = parser.close() if piece is None else parser.feed(piece)
                for event in events:
                    if following.last is None:
                        for delta in self._deltas(event, following, request):
                            yield delta
                if events:
                    watch.first_piece(request.timeouts.idle)
            if following.last is None:
                raise self._faults.interrupted("it ended without its last event", partial=following.partial)
            reply = self._finished(following.last, request, following.partial)
            for delta in following.close():
                yield delta
            yield Completed(reply)
        except ProviderError:
            raise
        except Exception as error:
            fault = self._fault(error, request, following.partial)
        finally:
            if response is not None:
                await response.aclose()
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
        forms = [tool_form(acceptable(tool)) for tool in request.tools]
        search = tool_search_of(request, forms) if self._tool_search else None
        out: dict[str, Any] = {
            "model": request.model,
            "input": input_items(request.messages, self._place, request.model, search),
            "store": False,
        }
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
            out["tools"] = forms if search is None else search.listed()
        extra |= {key: options.pop(key) for key in ("top_k", "min_p", "repetition_penalty") if key in options}
        return out | options | ({"extra_body": extra} if extra else {})

    def _reply(self, data: bytes, request: Request) -> Reply:
        """The reply of an unstreamed answer. A server may stream even if not asked to."""
        data = data.removeprefix(BOM)
        following = Following(request, self._mode)
        if not data.lstrip().startswith((b"{", b"[")):
            parser = SSEParser()
            for event in [*parser.feed(data), *parser.close()]:
                if following.last is None:
                    for _ in self._deltas(event, following, request):
                        pass
            if following.last is None:
                raise self._faults.of_protocol("the answer is not JSON", data, status=200)
            return self._finished(following.last, request, following.partial)
        try:
            value = loads(data, edges=False)[0]
        except Unreadable:
            value = Unreadable
        if value is Unreadable:
            raise self._faults.of_protocol("the answer is not JSON", data, status=200)
        return self._finished(value, request, "")

    def _deltas(self, event: Event, following: Following, request: Request) -> Sequence[Delta]:
        if event.data.strip() in (b"", b"[DONE]"):
            return ()
        try:
            try:
                value = loads(event.data, edges=False)[0]
            except Unreadable:
                raise ProtocolError("the answer cannot be read: part of it is not JSON") from None
            return following.event(value)
        except MISREAD as error:
            fault = self._faults.of_misread(error, event.data, model=request.model, partial=following.partial)
        raise fault

    def _finished(self, value: Any, request: Request, partial: str) -> Reply:
        try:
            reply = reply_of(value, request, self._mode, self._place)
            return reply.with_(enforced=self._bodies.enforced(request))
        except MISREAD as error:
            fault = self._faults.of_misread(
                error,
                shown(value).encode(),
                model=request.model,
                partial=partial or getattr(error, "partial", ""),
            )
        whole = side_object(value)
        fault.usage, fault.model = read_usage(whole.get("usage")), side_text(whole.get("model"))
        raise fault

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
        return self._faults.interrupted(error.__cause__ or error, partial=partial)


def input_items(
    messages: Sequence[Message], place: str | None = None, model: str = "", search: ToolSearch | None = None
) -> list[dict[str, Any]]:
    """A dialog as this API's items; reasoning, and namespaces of calls, that came from `place` are included for models of the
    same family. `search`: writes searches for deferred tools."""
    items: list[dict[str, Any]] = []
    renamed = Renamed(place, model)
    for message in messages:
        message = renamed.message(message)
        own = message.extra_from is not None and takes_back(message.extra_from, place, model)
        if message.extra and own:
            items += message.extra.get(REASONING, ())
        if search is not None and message.role == "tool" and search.answers(message):
            items += search.result(message)
            continue
        if message.role == "tool":
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id or "",
                    "output": message.text
                    if isinstance(message.content, str)
                    else [input_part(part) for part in message.content],
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
        for call in message.tool_calls:
            if search is not None and call.name == search.finder:
                items.append(search.call(call))
                continue
            item = {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
            space = (call.extra or {}).get(NAMESPACE) if own else None
            items.append(item if space is None else {**item, NAMESPACE: space})
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
