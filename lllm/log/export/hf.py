"""A session as a trace that the Hugging Face Hub shows: the Session Trace Simple Format (STS-Format).

Described at https://huggingface.co/docs/hub/session-traces-format (read in November 2026): a JSONL file whose first line is
{"type": "session", "harness", "id", "name"}, every other {"type": "message", "message": {role, content,
reasoningContent, toolCalls, toolCallId, timestamp, model}}. Uploaded to a dataset or bucket, it opens in the viewer of
https://huggingface.co/docs/hub/agent-traces.

What the program's own agent calls said is there in the order in which it happened, with the replies that were rejected and
what the model was told then. The inner talk of an agent that is a tool of another is left out; its answer is the tool's
result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lllm.log.export.lines import line
from lllm.log.export.source import Source
from lllm.models.message import Message

HARNESS: Final = "lllm"
ROLES: Final = {"developer": "system"}
"""The roles that the format writes otherwise."""


def write(source: Source) -> Iterator[str]:
    """The header, then one line per message."""
    told = source.summary
    yield line({"type": "session", "harness": HARNESS, "id": told.session, "name": told.name})
    own = {call for call, info in source.state.infos.items() if info.parent is None}
    for row in source.rows:
        if row.call not in own:
            continue
        if row.kind == "result":
            message = Message("tool", row.text, tool_call_id=row.detail["id"])
        elif row.kind in ("message", "reply", "prompt"):
            message = Message.from_dict(row.detail["message"])
        else:
            continue
        yield line({"type": "message", "message": _message(message, row.detail, row.at)})


def _message(message: Message, detail: Mapping[str, Any], at: int) -> dict[str, Any]:
    out: dict[str, Any] = {"role": ROLES.get(message.role, message.role), "content": message.text}
    if message.thinking:
        out["reasoningContent"] = message.thinking
    if message.tool_calls:
        out["toolCalls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["toolCallId"] = message.tool_call_id
    out["timestamp"] = at // 1000
    if message.role == "assistant" and detail.get("model"):
        out["model"] = detail["model"]
    return out
