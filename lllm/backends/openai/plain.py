"""Reads an answer of the plain form, which nearly all of them have: text or tool calls, nothing odd, nothing of a provider's
own. Any other is for `Reading`, which gives the same reply for a plain one and takes several times as long."""

from __future__ import annotations

from typing import Any, Final

import orjson

from lllm.backends.openai.fields import has_long_number, side_text
from lllm.backends.openai.sent import TAKEN
from lllm.backends.openai.usage import read_usage
from lllm.backends.thinking import is_text
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Request

_MESSAGE: Final = frozenset(
    ("role", "content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning")
)
_ABSENT: Final = ("refusal", "function_call", "reasoning_content", "reasoning")
_CALL: Final = frozenset(("id", "index", "type", "function"))
_FUNCTION: Final = frozenset(("name", "arguments"))
_REASONS: Final = frozenset(("stop", "length", "tool_calls"))


def plain_reply(data: bytes, request: Request, mode: str, enforced: str | None) -> Reply | None:
    """The reply of an unstreamed answer, or None: it is not plain. `enforced`: what the reply records if an output schema was
    requested."""
    if request.sampling and "extra_body" in request.sampling:  # it may ask for several replies
        return None
    try:
        body = orjson.loads(data)
    except ValueError:
        return None
    if body.__class__ is not dict or body.get("error") or "prompt_token_ids" in body:
        return None
    choices = body.get("choices")
    choice = choices[0] if choices.__class__ is list and choices else None
    if choice.__class__ is not dict or "error" in choice or choice.get("logprobs") or "token_ids" in choice:
        return None
    reason, message = choice.get("finish_reason"), choice.get("message")
    if reason.__class__ is not str or reason not in _REASONS or message.__class__ is not dict:
        return None
    if not message.keys() <= _MESSAGE:
        return None
    for name in _ABSENT:
        if message.get(name):
            return None
    content = message.get("content")
    if content is None:
        content = ""
    elif content.__class__ is not str or not is_text(content, mode, request.literal_tags):
        return None
    calls: tuple[FunctionCall, ...] = ()
    if (asked := message.get("tool_calls")) and (calls := _calls(asked, cut=reason == "length")) == ():
        return None
    if has_long_number(data):
        return None
    return Reply.of(
        content=content,
        tool_calls=calls,
        finish_reason="tool_calls" if calls and reason == "stop" else reason,
        usage=read_usage(body.get("usage") or None),
        model=side_text(body.get("model")),
        id=side_text(body.get("id")),
        enforced=None if request.format is None else enforced,
    )


def _calls(entries: Any, *, cut: bool) -> tuple[FunctionCall, ...]:
    """The calls; none where one of them is not plain. `cut`: the token limit ended the answer."""
    if entries.__class__ is not list:
        return ()
    out = []
    for entry in entries:
        if entry.__class__ is not dict or not entry.keys() <= _CALL:
            return ()
        function, ident = entry.get("function"), entry.get("id")
        if function.__class__ is not dict or function.keys() != _FUNCTION:
            return ()
        name, arguments = function["name"], function["arguments"]
        if name.__class__ is not str or arguments.__class__ is not str or ident.__class__ is not str:
            return ()
        if TAKEN.fullmatch(ident) is None or (cut and not arguments):
            return ()
        out.append(FunctionCall(ident, name, arguments or "{}"))
    return tuple(out)
