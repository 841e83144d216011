"""A finished reply, cut into the pieces that a stream of it would have had."""

from __future__ import annotations

from lllm.models.reply import Reply
from lllm.ports import Delta, TextDelta, ThinkingDelta, ToolCallDelta


def pieces(reply: Reply, chunk: int | None = None) -> list[Delta]:
    """The deltas that a stream of this reply has, in pieces of `chunk` characters, without the end."""
    out: list[Delta] = []
    if reply.thinking:
        out += [ThinkingDelta(piece) for piece in cut(reply.thinking, chunk)]
    if reply.content:
        out += [TextDelta(piece) for piece in cut(reply.content, chunk)]
    for number, call in enumerate(reply.tool_calls):
        first, *rest = cut(call.arguments, chunk)
        out.append(ToolCallDelta(number, call.id or None, call.name, first))
        out += [ToolCallDelta(number, arguments=piece) for piece in rest]
    return out


def cut(text: str, size: int | None) -> list[str]:
    """Pieces of `size` characters; the whole when size is None."""
    if size is None or not text:
        return [text]
    return [text[at : at + size] for at in range(0, len(text), size)]
