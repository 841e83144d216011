"""What the pieces of a stream add up to, and the pieces of a reply that is there."""

from __future__ import annotations

from collections.abc import Iterable

from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Restart, TextDelta, ThinkingDelta, ToolCallDelta


def pieces(reply: Reply, chunk: int | None = None) -> list[Delta]:
    """The deltas that a stream of this reply has, in pieces of `chunk` characters (whole by default), without the end."""
    out: list[Delta] = []
    if reply.thinking:
        out += [ThinkingDelta(piece) for piece in _cut(reply.thinking, chunk)]
    if reply.content:
        out += [TextDelta(piece) for piece in _cut(reply.content, chunk)]
    for number, call in enumerate(reply.tool_calls):
        first, *rest = _cut(call.arguments, chunk)
        out.append(ToolCallDelta(number, call.id or None, call.name, first))
        out += [ToolCallDelta(number, arguments=piece) for piece in rest]
    return out


def aggregate(deltas: Iterable[Delta]) -> Reply:
    """The reply that deltas add up to: `aggregate(agent.stream("x"))`.

    The reply of a `Completed`, where one is there. Else what was streamed so far: text, thinking, and tool calls whose
    pieces are joined by their index; `finish_reason` is then `tool_calls` or `stop`, and usage is unknown. A `Restart`
    takes back what came before it.
    """
    text: list[str] = []
    thinking: list[str] = []
    calls: dict[int, list[str]] = {}
    reply: Reply | None = None
    for delta in deltas:
        if isinstance(delta, TextDelta):
            text.append(delta.text)
        elif isinstance(delta, ThinkingDelta):
            thinking.append(delta.text)
        elif isinstance(delta, ToolCallDelta):
            call = calls.setdefault(delta.index, ["", "", ""])
            call[0] = call[0] or delta.id or ""
            call[1] = call[1] or delta.name or ""
            call[2] += delta.arguments
        elif isinstance(delta, Restart):
            text, thinking, calls = [], [], {}
        elif isinstance(delta, Completed):
            reply = delta.reply
    if reply is not None:
        return reply
    return Reply(
        "".join(text),
        "".join(thinking) or None,
        tuple(FunctionCall(id, name, arguments) for _, (id, name, arguments) in sorted(calls.items())),
        "tool_calls" if calls else "stop",
    )


def _cut(text: str, size: int | None) -> list[str]:
    if size is None or not text:
        return [text]
    return [text[at : at + size] for at in range(0, len(text), size)]
