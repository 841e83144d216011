"""The engine on `xllamacpp`: llama.cpp's own server code in this process, several requests decoded together."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lllm.backends.llama_cpp.body import Body, body, calls
from lllm.backends.llama_cpp.faults import failed, not_loaded
from lllm.backends.llama_cpp.options import SMALL, Options
from lllm.backends.llama_cpp.options import threads as threads_of
from lllm.backends.llama_cpp.threads import Holder, inside, keep, leaving, loaded, register
from lllm.backends.llama_cpp.xllamacpp import open_server, open_xllamacpp, parameters
from lllm.backends.local.packages import version_of
from lllm.backends.openai.reply import Assembly, ErrorObject
from lllm.backends.thinking import Mode
from lllm.deltas import pieces
from lllm.errors import (
    BadRequestError,
    ConfigError,
    ContextLengthError,
    LLMError,
    ProtocolError,
    ProviderError,
    ProviderTimeout,
    UnsupportedError,
    text_of,
)
from lllm.http.watch import Expired, Watch
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, ToolCallDelta
from lllm.sync import in_thread, spawn

_TEMPLATED: Final = ("messages", "tools")
"""What a chat template is given."""
PAUSE: Final = 0.005
"""Seconds between two looks at a stream that is faster than anybody reads."""
_LATE: Final = {
    "first_token": "said nothing",
    "idle": "said nothing more",
    "total": "did not finish",
    "connect": "could not be reached",
}


class ServerEngine(Holder):
    """One GGUF file in xllamacpp. Safe for concurrent use from any thread and loop.

    Raises DependencyError without `xllamacpp`, LLMInitializationError for a file that cannot be loaded.
    """

    capabilities = Capabilities(
        tools=True, grammar=True, logprobs=True, token_ids=True, seed=True, local=True
    )

    def __init__(self, path: Path, options: Options) -> None:
        self._library = library = open_xllamacpp(path.name)
        self.name = path.name
        self._path, self._options = path, options
        self._threads = threads_of(path, options)
        self._small = path.stat().st_size < SMALL
        self._speed: Mapping[str, float] = {}
        self._key = secrets.token_hex(16)
        self._props: Mapping[str, Any] | None = None
        given = parameters(library, path, options, threads=self._threads, key=self._key)
        try:
            self._server: Any = open_server(library, given)
        except LLMError:
            raise
        except Exception as error:
            raise not_loaded(path, error) from error
        loaded(self._server)
        register(self)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`.

        A streamed reply stops at the next token when it is closed, and so does every reply of a file of 200 MB or more.
        One of a smaller file that nobody follows comes from the engine in one piece, which is a twelfth cheaper, and cannot
        be stopped: nobody waits for it any longer, and the engine finishes it within its context.
        """
        asked = body(request, self.name, self._options.seed)
        watch = Watch(request.timeouts, streaming=request.stream)
        feed: _Feed | None = None
        assembly = _Assembly(request._replace(tools=asked.tools), asked)
        more: dict[str, Any] = {"model": request.model}
        try:
            server = self._server
            if server is None:
                raise ProviderError(f"{self.name} was closed")
            if asked.forced:
                asked.fields["grammar"] = await in_thread(self._calls, asked)
            if asked.whole or not (request.stream or not self._small):
                with watch:
                    answer, ids = await in_thread(self._whole, server, asked.fields)
                more |= ids
                self._note(answer)
                assembly.body(_named(answer, request))
                assembly.close()
                for delta in pieces(assembly.reply()) if request.stream else ():
                    yield delta
            else:
                feed = _Feed(server, asked.fields)
                begun = not request.stream
                while (chunk := await feed.get(watch)) is not None:
                    if not begun:
                        begun = True
                        watch.first_piece(request.timeouts.idle)
                    if "timings" in chunk:
                        self._note(chunk)
                    for delta in assembly.chunk(_named(chunk, request) if asked.tools else chunk):
                        yield delta
                for delta in assembly.close():
                    yield delta
            reply = _without_drawn(assembly.reply().with_(**more), asked)
            if asked.forced and not reply.tool_calls and reply.finish_reason == "stop":
                raise ProviderError(f"{self.name} was made to call a tool, and did not")
        except LLMError:
            raise
        except Expired as error:
            raise ProviderTimeout(
                f"{self.name} {_LATE[error.stage]} within {error.seconds:g} s",
                stage=error.stage,
                seconds=error.seconds,
            ) from error
        except ErrorObject as error:
            raise self._fault(error.value) from error
        except (ValueError, TypeError) as error:  # TypeError: text that is not Unicode
            raise BadRequestError(f"{self.name} refused the request: {text_of(error)}") from error
        except RuntimeError as error:
            raise failed(self.name, error) from error
        finally:
            if feed is not None:
                feed.stop()
        yield Completed(reply)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector per text: the mean of the last layer's states over its tokens. Blocks.

        Raises UnsupportedError where the engine was not loaded with `embedding`, ContextLengthError for a text that is too
        long, ProviderError when the engine fails.
        """
        if not self._options.embedding:
            raise UnsupportedError(
                f"{self.name} was loaded to write", hint="Load it with the option embedding=True."
            )
        if not texts:
            return []
        if not all(texts):
            raise BadRequestError(f"{self.name} refused the request: a text is empty")
        with inside():
            answer = self._server.handle_embeddings({"input": list(texts), "embd_normalize": -1})
        if "data" not in answer:
            raise self._fault(answer.get("error", answer))
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return [[float(value) for value in row["embedding"]] for row in rows]

    def tokenize(self, text: str) -> list[int]:
        """The token ids of a plain text. Blocks."""
        return self._tokens(text, special=False)

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """See `lllm.ports.MeasuringBackend`."""
        asked = body(request, self.name, self._options.seed)
        answer = self._rendered(asked.fields)
        if "error" in answer:
            raise self._fault(answer["error"])
        context: int = self._properties()["default_generation_settings"]["n_ctx"]
        return len(self._tokens(answer["prompt"], special=True)), context

    def info(self) -> dict[str, Any]:
        """What the file says of itself, and how it is loaded. Blocks."""
        props = self._properties()
        (model,) = self._http("GET", "/v1/models")["data"]
        return {
            "architecture": _architecture(self._path),
            "parameters": model["meta"]["n_params"],
            "context": props["default_generation_settings"]["n_ctx"],
            "quantisation": model["meta"].get("ftype") or props.get("model_ftype"),
            "template": props["chat_template"],
            "engine": "xllamacpp",
            "engine_version": version_of("xllamacpp"),
            "threads": self._threads,
            "gpu_layers": self._options.gpu_layers,
            "slots": props["total_slots"],
            **self._speed,
        }

    def speed(self) -> dict[str, float]:
        """`prompt_per_second` and `tokens_per_second` of the latest reply that is done; empty before the first."""
        return dict(self._speed)

    def close(self) -> None:
        """Frees the weights once no reply is under way."""
        self._server = None

    def forget(self) -> bool:
        """In a forked child: the engine's threads are not here, so it can neither answer nor be taken down."""
        server, self._server = self._server, None
        if server is not None:
            keep(server)
        return server is not None

    @property
    def alive(self) -> bool:
        """Whether it can be asked: not closed, and not inherited from a parent process."""
        return self._server is not None

    # --- the ways to the library

    def _whole(self, server: Any, fields: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The answer in one piece, and the token ids where they are wanted."""
        import orjson

        got: list[bytes] = []
        with inside():
            server.handle_chat_completions(orjson.dumps(fields), got.append)
        answer = orjson.loads(got[0])
        if "verbose" not in fields or "__verbose" not in answer:
            return answer, {}
        told = answer["__verbose"]
        prompt = self._tokens(told["prompt"], special=True)
        if (
            len(prompt) != told["tokens_evaluated"]
        ):  # it is written from its tokens, with the spaces that these had got
            prompt = self._tokens(self._rendered(fields)["prompt"], special=True)
        if len(prompt) != told["tokens_evaluated"]:
            raise ProtocolError(
                f"{self.name} read {told['tokens_evaluated']} tokens; its prompt has {len(prompt)}"
            )
        return answer, {"token_ids": told["tokens"], "prompt_token_ids": prompt}

    def _rendered(self, fields: Mapping[str, Any]) -> Any:
        """What the library makes of a dialog and its tools with its chat template, under `prompt`; or its error."""
        return self._http(
            "POST", "/apply-template", {key: fields[key] for key in _TEMPLATED if key in fields}
        )

    def _calls(self, asked: Body) -> str:
        template = self._properties()["chat_template"]
        if "<tool_call>" not in template or "<function=" in template:
            raise UnsupportedError(
                f"{self.name} cannot be made to call a tool: its chat template has no <tool_call> of JSON",
                hint="Leave tool_choice out, or give 'auto' or 'none'.",
            )
        return calls(asked.forced, self._library.json_schema_to_grammar)

    def _properties(self) -> Mapping[str, Any]:
        if self._props is None:
            self._props = self._http("GET", "/props")
        return self._props

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        asked = {"content": text, "add_special": special, "parse_special": special}
        tokens: list[int] = self._http("POST", "/tokenize", asked)["tokens"]
        return tokens

    def _http(self, method: str, path: str, fields: Any = None) -> Any:
        """What the library answers over its own port alone."""
        from http.client import HTTPConnection

        import orjson

        connection = HTTPConnection(self._server.listening_address.removeprefix("http://"), timeout=60)
        try:
            head = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, None if fields is None else orjson.dumps(fields), head)
            answer = orjson.loads(connection.getresponse().read())
        except OSError as error:
            raise failed(self.name, error) from error
        finally:
            connection.close()
        if "error" in answer:
            raise self._fault(answer["error"])
        return answer

    def _note(self, answer: Any) -> None:
        timings = answer.get("timings")
        if timings:
            self._speed = {
                "prompt_per_second": round(timings["prompt_per_second"], 1),
                "tokens_per_second": round(timings["predicted_per_second"], 1),
            }

    def _fault(self, value: Any) -> ProviderError:
        """The engine's error object as one of ours."""
        error = value if isinstance(value, Mapping) else {"message": str(value)}
        message = str(error.get("message", "no message")).replace(str(self._path), self.name)
        if error.get("type") == "exceed_context_size_error" or "too large to process" in message:
            room = error.get("n_ctx")
            reads = "" if room is None else f"reads {room} tokens at once: "
            return ContextLengthError(
                f"{self.name} {reads}{message}",
                hint="Shorten the prompt, give the load option context, or use a bigger model: model_name: openai/...",
                body=message,
            )
        if error.get("type") == "invalid_request_error":
            return BadRequestError(f"{self.name} refused the request: {message}", body=message)
        return failed(self.name, message)


class _Assembly(Assembly):
    """Log-probabilities say which token they are of."""

    __slots__ = ()

    def __init__(self, request: Request, asked: Body) -> None:
        # under a grammar a tag is a part of the value; the engine has taken thinking out where the model's template has it
        mode: Mode = "off" if "response_format" in asked.fields else "auto"
        super().__init__(request, mode, asked.enforced)

    def _tokens(self, choice: Mapping[str, Any]) -> None:
        super()._tokens(choice)
        told = (choice.get("logprobs") or {}).get("content") or ()
        top = self._request.sampling.get("top_logprobs") or 0
        for entry, ours in zip(told, (self._logprobs or [])[-len(told) :], strict=False):
            ours["id"] = entry["id"]
            del ours["top"][top:]

    def chunk(self, chunk: Any) -> Sequence[Delta]:
        return self._with_ids(super().chunk(chunk))

    def close(self) -> Sequence[Delta]:
        return self._with_ids(super().close())

    def _with_ids(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        if not self._request.tools:
            return deltas
        return [
            delta._replace(id=_ident(self._request, delta.index))
            if isinstance(delta, ToolCallDelta) and delta.name and not delta.id
            else delta
            for delta in deltas
        ]

    def _identified(self, number: int, ident: str, name: str, arguments: str) -> FunctionCall:
        return FunctionCall(ident or _ident(self._request, number), name, arguments)


class _Feed:
    """The chunks of one streamed reply, from the engine's thread to the loop. Waking the loop costs as much as a tiny model's
    token: once the reply is under way it is woken every PAUSE at most, and for the end.

    A class and no generator: the loop closes every open generator by itself when it ends, an inner one beside the outer.
    """

    def __init__(self, server: Any, fields: Mapping[str, Any]) -> None:
        import orjson

        self._server = server
        self._read = orjson.loads
        self._body = orjson.dumps({**fields, "stream": True, "stream_options": {"include_usage": True}})
        self._loop = asyncio.get_running_loop()
        self._items: deque[bytes | Exception | None] = deque()
        self._bell: asyncio.Future[None] | None = None
        self._waits = False
        self._early = 4
        self._woken = 0.0
        self._stopped = False
        spawn(self._work)  # not a task: one that outlives its loop would keep the engine alive

    async def get(self, watch: Watch) -> Any:
        """The next chunk, or None after the last. Raises what the engine raised."""
        items = self._items
        while not items:
            await self._more(watch)
        item = items.popleft()
        if item.__class__ is bytes:
            return self._read(item)
        if item is None:
            return None
        raise item  # type: ignore[misc]

    async def _more(self, watch: Watch) -> None:
        self._bell = self._loop.create_future()
        timer = None
        if self._early or (due := self._woken + PAUSE) <= self._loop.time():
            self._early = max(0, self._early - 1)
            self._waits = True
            if self._items:
                return
        else:
            timer = self._loop.call_at(due, self._ring)
        try:
            with watch:
                await self._bell
        finally:
            if timer is not None:
                timer.cancel()
        self._woken = self._loop.time()

    def stop(self) -> None:
        """Ends the generation at the next token."""
        self._stopped = True

    def _put(self, item: bytes | Exception | None) -> None:
        if self._stopped:
            return
        self._items.append(item)
        if self._waits or item.__class__ is not bytes:
            self._waits = False
            try:
                self._loop.call_soon_threadsafe(self._ring)
            except RuntimeError:
                self._stopped = True  # the loop is closed: nobody waits any more

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def _on_chunk(self, chunk: bytes) -> bool:
        if not self._stopped:
            self._put(chunk)
        return self._stopped or leaving()  # True ends the generation

    def _work(self) -> None:
        server, self._server = self._server, None
        try:
            with inside():
                server.handle_chat_completions(self._body, self._on_chunk)
            self._put(None)
        except Exception as error:
            self._put(error)


def _without_drawn(reply: Reply, asked: Body) -> Reply:
    """The reply; where a grammar held it, it is not known how likely its tokens were under it. The engine has one of its own
    for calls, which begins where a call does."""
    begun = asked.tools and (reply.tool_calls or reply.finish_reason == "length")
    if reply.logprobs is None or not (begun or asked.forced or "response_format" in asked.fields):
        return reply
    return reply.with_(logprobs=[{**one, "drawn": None} for one in reply.logprobs])


def _named(answer: Any, request: Request) -> Any:
    """Replaces the engine's random tool-call ids: the same reply gets the same ids, another turn gets others."""
    for choice in answer.get("choices") or ():
        message = choice.get("message") or choice.get("delta") or {}
        for number, call in enumerate(message.get("tool_calls") or ()):
            if call.get("id"):
                call["id"] = _ident(request, call.get("index", number))
    return answer


def _ident(request: Request, number: int) -> str:
    return f"call_{len(request.messages)}_{number + 1}"


def _architecture(path: Path) -> str | None:
    from lllm.backends.gguf_file import read

    try:
        return read(path).architecture
    except ConfigError:  # the package that reads it is missing
        return None
