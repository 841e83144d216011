"""OpenAI's chat completions: from their arguments to a Request, and from deltas and a Reply to their bodies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.models.reply import Reply, Usage
from lllm.ports import Completed, Delta, TextDelta, ThinkingDelta, ToolCallDelta

ARGUMENTS: Final = (
    "tools",
    "tool_choice",
    "response_format",
    "logprobs",
    "top_logprobs",
    "max_completion_tokens",
    "stream_options",
)
"""Arguments of a chat completion beside the sampling settings."""

Body = dict[str, Any]


def messages(given: Any) -> tuple[Message, ...]:
    """A dialog in OpenAI's form, or a text as one question. ConfigError says which message is wrong."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, Sequence) or isinstance(given, bytes) or not given:
        raise ConfigError(
            f"messages is {type(given).__name__}, or empty",
            hint='Type: [{"role": "user", "content": "..."}]',
        )
    out = []
    for number, item in enumerate(given):
        if isinstance(item, Message):
            out.append(item)
            continue
        if not isinstance(item, Mapping):
            raise ConfigError(f"messages[{number}] is {type(item).__name__}, not a mapping")
        try:
            out.append(Message.from_dict(item))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"messages[{number}]: {error}") from error
    return tuple(out)


def schema(response_format: Any) -> dict[str, Any] | None:
    """`Request.format` of a `response_format`. `json_object` is any object."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"name": "object", "schema": {"type": "object"}, "strict": False}
    if kind == "json_schema":
        given = response_format.get("json_schema")
        if isinstance(given, Mapping) and isinstance(given.get("schema"), Mapping):
            return {
                "name": str(given.get("name", "reply")),
                "schema": dict(given["schema"]),
                "strict": bool(given.get("strict", True)),
            }
    raise ConfigError(
        f"response_format is {response_format!r}",
        hint='Type: {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}',
    )


def identity() -> str:
    """An id as OpenAI's look."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def body(reply: Reply, model: str) -> Body:
    """A reply as a chat completion, with an id, the time and the model's name."""
    return {**reply.to_openai(), "id": reply.id or identity(), "created": int(time.time()), "model": model}


def chunks(deltas: Iterator[Delta], model: str, *, usage: bool = False) -> Iterator[Body]:
    """The chunks of a streamed completion: the role first, then the pieces, then the reason why it ended; with `usage`
    one more, without choices, that has the count."""
    head: Body = {
        "id": identity(),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def chunk(delta: Body, reason: str | None = None) -> Body:
        choice: Body = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**head, "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for delta in deltas:
        if isinstance(delta, TextDelta):
            yield chunk({"content": delta.text})
        elif isinstance(delta, ThinkingDelta):
            yield chunk({"reasoning_content": delta.text})
        elif isinstance(delta, ToolCallDelta):
            yield chunk({"tool_calls": [_call(delta)]})
        elif isinstance(delta, Completed):
            last = chunk({}, delta.reply.finish_reason)
            if delta.reply.logprobs is not None:
                last["choices"][0]["logprobs"] = delta.reply.to_openai()["choices"][0]["logprobs"]
            yield last
            if usage:
                count = delta.reply.with_(usage=delta.reply.usage or Usage()).to_openai()["usage"]
                yield {**head, "choices": [], "usage": count}


def _call(delta: ToolCallDelta) -> Body:
    function = {"arguments": delta.arguments, **({"name": delta.name} if delta.name else {})}
    begun = {"id": delta.id, "type": "function"} if delta.id else {}
    return {"index": delta.index, **begun, "function": function}
