"""A model whose replies are written down: for tests, examples and documentation.

    backend = ScriptedBackend(["Hello.", {"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}, "3."])

It keeps the requests that it saw, so that a test can look at what would have been sent.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeGuard

from lllm.backends.asked import Requests
from lllm.backends.sampling import EXTENSIONS, LOCAL, SAMPLING, check_names
from lllm.core.canonical import encode
from lllm.deltas import aggregate, pieces
from lllm.errors import ConfigError, LLMInferenceError
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import (
    Capabilities,
    Completed,
    Delta,
    Request,
    Restart,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

_DELTAS: Final = (TextDelta, ThinkingDelta, ToolCallDelta, Restart, Completed)
_SAMPLING: Final = frozenset((*SAMPLING, *EXTENSIONS, *LOCAL))
_KEYS: Final = {
    "content",
    "thinking",
    "tool_calls",
    "finish_reason",
    "refusal",
    "usage",
    "model",
    "logprobs",
    "token_ids",
    "prompt_token_ids",
    "raw",
    "delay",
}


class ScriptedBackend:
    """Answers with the given replies, in order.

    Arguments:
        replies: a list, or a function of the Request (plain or async) that returns one item. An item is
            - text, or a Reply (returned unchanged; a missing usage is added);
            - a FunctionCall, or a list of them: the model calls tools;
            - a mapping with `content`, `thinking`, `tool_calls` (FunctionCalls, or mappings with `name` and
              `arguments`, text or mapping), `finish_reason`, `refusal`, `usage`, `logprobs`, `token_ids`, `raw`, and
              `delay` in seconds for this reply alone;
            - an exception, which is raised;
            - a list of deltas, streamed unchanged; without a Completed at the end they are joined to the reply. An
              exception among them is raised at that point: the reply is interrupted.
        delay: seconds before each reply; when streaming, also between two chunks.
        chunk: characters per chunk when streaming; None sends the whole text in one chunk.
        capabilities: all, unless a test needs fewer.
        model: the model name in replies; by default the request's.

    Attributes:
        requests: every Request so far, oldest first; of more than 10,000, the newest.

    A sampling option that no backend knows is refused, as real backends do. Usage is estimated at 4 characters per token.
    One instance may serve any number of concurrent calls: each takes the next item. Raises LLMInferenceError when none is
    left.
    """

    def __init__(
        self,
        replies: Iterable[Any] | Callable[[Request], Any] = (),
        *,
        delay: float = 0.0,
        chunk: int | None = None,
        capabilities: Capabilities | None = None,
        model: str | None = None,
    ) -> None:
        if isinstance(replies, str | Mapping | Reply):
            raise ConfigError(
                f"replies is {type(replies).__name__}, not a list", hint="Type: ScriptedBackend([reply])"
            )
        if chunk is not None and chunk < 1:
            raise ConfigError(f"chunk is {chunk}", hint="It is a number of characters, 1 or more.")
        self._function = replies if callable(replies) else None
        self._items: list[Any] = [] if callable(replies) else list(replies)
        self._delay = delay
        self._chunk = chunk
        self._model = model
        self._lock = threading.Lock()
        self._asked = 0
        self.requests = Requests()
        self.capabilities = capabilities or Capabilities(
            tools=True,
            grammar=True,
            logprobs=True,
            token_ids=True,
            vision=True,
            seed=True,
            files=True,
            tool_parts="tool",
        )

    def __repr__(self) -> str:
        if self._function is not None:
            return f"ScriptedBackend({getattr(self._function, '__name__', 'function')})"
        return f"ScriptedBackend({len(self._items)} replies, {self._asked} asked for)"

    @property
    def remaining(self) -> int:
        """How many replies have not been asked for; 0 for a function."""
        return max(0, len(self._items) - self._asked)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`."""
        if request.sampling:
            self.check_request(request)
        with self._lock:
            asked = self.requests.add(request)
            number = self._asked
            self._asked = number + 1
        if self._function is not None:
            item = self._function(request)
            if type(item) is not str and inspect.isawaitable(item):
                item = await item
        elif number < len(self._items):
            item = self._items[number]
        else:
            raise LLMInferenceError(
                f"the script has {len(self._items)} replies, and reply {number + 1} was asked for",
                hint="Give ScriptedBackend one more reply, or a function of the request.",
            )
        delay = self._delay
        if type(item) is str:  # most are, and nothing else needs to be looked at
            deltas, reply = None, self._reply(item, request, number, asked)
        else:
            if isinstance(item, Mapping) and not isinstance(item, Reply):
                delay = float(item.get("delay", delay))
            if is_error(item):
                if delay:
                    await asyncio.sleep(delay)
                raise fresh(item)
            reply, deltas = self._read(item, request, number, asked)
        if delay:
            await asyncio.sleep(delay)
        if deltas and is_error(deltas[-1]) and not request.stream:
            raise fresh(deltas[-1])
        if request.stream:
            for delta in deltas if deltas is not None else pieces(reply, self._chunk):
                if is_error(delta):
                    raise fresh(delta)
                yield delta
                if delay:
                    await asyncio.sleep(delay)
        yield Completed(reply)

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`. Refuses what every real backend refuses, so that a test cannot hide it."""
        check_names(request.sampling, _SAMPLING)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _reply(self, item: Any, request: Request, number: int, asked: int) -> Reply:
        if isinstance(item, str):
            return Reply.of(content=item, usage=_usage(asked, len(item)), model=self._model or request.model)
        if isinstance(item, Reply):
            return item if item.usage is not None else item.with_(usage=_usage(asked, size(item)))
        if isinstance(item, FunctionCall):
            item = {"tool_calls": [item]}
        elif isinstance(item, Mapping):
            unknown = set(item) - _KEYS
            if unknown:
                from lllm.errors import UnknownKeyError

                raise UnknownKeyError(sorted(unknown)[0], _KEYS, where=f"scripted reply {number + 1}")
        elif isinstance(item, Sequence) and item and all(isinstance(entry, FunctionCall) for entry in item):
            item = {"tool_calls": item}
        else:
            raise ConfigError(
                f"scripted reply {number + 1} is {type(item).__name__}",
                hint="A reply is text, a Reply, FunctionCalls, a mapping, an exception or a list of deltas.",
            )
        calls = tuple(_call(entry, number, at) for at, entry in enumerate(item.get("tool_calls") or ()))
        usage = item.get("usage")
        reply = Reply(
            content=item.get("content") or "",
            thinking=item.get("thinking"),
            tool_calls=calls,
            finish_reason=item.get("finish_reason") or ("tool_calls" if calls else "stop"),
            refusal=item.get("refusal"),
            usage=usage if isinstance(usage, Usage) else Usage.from_record(usage),
            model=item.get("model") or self._model or request.model,
            logprobs=item.get("logprobs"),
            token_ids=item.get("token_ids"),
            prompt_token_ids=item.get("prompt_token_ids"),
            raw=item.get("raw"),
        )
        return reply if reply.usage is not None else reply.with_(usage=_usage(asked, size(reply)))

    def _read(
        self, item: Any, request: Request, number: int, asked: int
    ) -> tuple[Reply, Sequence[Any] | None]:
        """The reply of an item, and its deltas where it is a list of them."""
        if isinstance(item, Sequence) and item and (isinstance(item[0], _DELTAS) or is_error(item[0])):
            return self._joined(item, request, number, asked)
        return self._reply(item, request, number, asked), None

    def _joined(
        self, deltas: Sequence[Any], request: Request, number: int, asked: int
    ) -> tuple[Reply, Sequence[Any]]:
        """The reply that a list of deltas adds up to, and the deltas without their end."""
        for at, delta in enumerate(deltas):
            if is_error(delta):  # the reply is interrupted there, streamed or not
                return Reply(), deltas[: at + 1]
            if not isinstance(delta, _DELTAS):
                raise ConfigError(
                    f"item {at + 1} of scripted reply {number + 1} is {type(delta).__name__}, among deltas",
                    hint='Write TextDelta("...") for text. An exception interrupts the reply.',
                )
        if isinstance(deltas[-1], Completed):
            return self._reply(deltas[-1].reply, request, number, asked), deltas[:-1]
        whole = aggregate(deltas)
        parts = {"content": whole.content, "thinking": whole.thinking, "tool_calls": whole.tool_calls}
        return self._reply(parts, request, number, asked), deltas


def size(reply: Reply) -> int:
    """Characters of a reply."""
    calls = sum(len(call.name) + len(call.arguments) for call in reply.tool_calls)
    return len(reply.content) + len(reply.thinking or "") + calls


def _usage(asked: int, answer: int) -> Usage:
    """About 4 characters per token, and at least one token for anything."""
    return Usage(-(-asked // 4), -(-answer // 4))


def is_error(item: Any) -> TypeGuard[BaseException | type[BaseException]]:
    """True if a scripted item is to be raised: an exception, or an exception class."""
    return isinstance(item, BaseException) or (isinstance(item, type) and issubclass(item, BaseException))


def fresh(error: BaseException | type[BaseException]) -> BaseException:
    """The scripted exception without the traces of an earlier raise."""
    if isinstance(error, type):
        return error(error.__name__)
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _call(entry: Any, number: int, at: int) -> FunctionCall:
    """A tool call, with an id that no other reply of the script has."""
    ident = f"call_{number + 1}_{at + 1}"
    if isinstance(entry, Mapping):
        function = entry.get("function") or entry
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str):
            arguments = encode(arguments).decode()
        return FunctionCall(str(entry.get("id") or ident), function["name"], arguments)
    if not isinstance(entry, FunctionCall):
        raise ConfigError(f"scripted reply {number + 1} has a tool call that is {type(entry).__name__}")
    return entry if entry.id else FunctionCall(ident, entry.name, entry.arguments)
