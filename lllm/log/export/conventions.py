"""The semantic conventions of OpenTelemetry for generative AI, as far as sessions need them. This module is the only place
that knows their names.

Version 1.41.1, the last in which they are a part of
https://github.com/open-telemetry/semantic-conventions/tree/v1.41.1/docs/gen-ai (status: development); they have moved to a
repository of their own since, which has no release yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.models.message import FunctionCall, Message
from lllm.models.parts import content_text

VERSION: Final = "1.41.1"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"

# operations, and the kinds of their spans (OTLP: 1 is INTERNAL, 3 is CLIENT)
WORKFLOW: Final = "invoke_workflow"
AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
TOOL: Final = "execute_tool"
KIND: Final[Mapping[str, int]] = {WORKFLOW: 1, AGENT: 1, CHAT: 3, TOOL: 1}

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
OUTPUT_TYPE: Final = "gen_ai.output.type"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
ERROR_TYPE: Final = "error.type"

# content: only when asked for
INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
SYSTEM: Final = "gen_ai.system_instructions"
DEFINITIONS: Final = "gen_ai.tool.definitions"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"

SAMPLING: Final[Mapping[str, tuple[str, type]]] = {
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
    "stop": ("gen_ai.request.stop_sequences", list),
}
"""Our sampling values, their names and their types. Others are left out."""

USAGE: Final[Mapping[str, str]] = {
    "prompt": "gen_ai.usage.input_tokens",
    "completion": "gen_ai.usage.output_tokens",
    "cached": "gen_ai.usage.cache_read.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}

PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""The conventions' words for providers that ours are not."""

FINISH: Final[Mapping[str, str]] = {"tool_calls": "tool_call", "repetition": "length"}


def sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of sampling values."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name, kind = SAMPLING.get(key, ("", object))
        if kind is list:
            out[name] = [value] if isinstance(value, str) else [str(item) for item in value]
        elif name and isinstance(value, int | float) and not isinstance(value, bool):
            out[name] = kind(value)
    return out


def messages(given: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in the form of `gen_ai.input.messages`."""
    return [{"role": message.role, "parts": parts(message)} for message in given]


def output(message: Message, finish: str) -> list[dict[str, Any]]:
    """A reply in the form of `gen_ai.output.messages`."""
    return [{"role": "assistant", "parts": parts(message), "finish_reason": FINISH.get(finish, finish)}]


def parts(message: Message) -> list[dict[str, Any]]:
    """The parts of a message."""
    if message.role == "tool":
        return [
            {
                "type": "tool_call_response",
                "id": message.tool_call_id,
                "response": content_text(message.content),
            }
        ]
    out: list[dict[str, Any]] = []
    if message.thinking:
        out.append({"type": "reasoning", "content": message.thinking})
    if isinstance(message.content, str):
        if message.content:
            out.append({"type": "text", "content": message.content})
    else:
        out += [_part(part) for part in message.content]
    for call in message.tool_calls:
        out.append({"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments(call)})
    return out


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "text", "content": str(part.get("text", ""))}
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, Mapping) else url
    if not isinstance(url, str):
        return {"type": str(part.get("type", "unknown"))}  # a generic part: what it holds has no place here
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"type": "blob", "mime_type": head[5:], "modality": "image", "content": data}
    return {"type": "uri", "modality": "image", "uri": url}


def arguments(call: FunctionCall) -> Any:
    """The arguments of a tool call as an object; the text itself where it is none."""
    try:
        return call.parsed()
    except ValueError:
        return call.arguments
