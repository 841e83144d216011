"""Extracts text, thinking and refusals from chat-completions messages, wherever servers put them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from lllm.backends.openai.fields import as_list, as_object, as_text, side_object, side_text

# thinking in its own field: DeepSeek and vLLM, OpenRouter and newer vLLM, Ollama
THINKING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")


def thinking_of(message: Mapping[str, Any]) -> str:
    """Thinking from a field of its own. Some servers send the same text under two names."""
    for name in THINKING_FIELDS:
        if (thought := message.get(name)) and (text := _flat(thought)):
            return text
    return ""


def part_of(part: Any, place: str) -> tuple[str, str]:
    """The kind (text, thinking or refusal) and text of one content part; other parts are empty."""
    part = as_object(part, place)
    kind = side_text(part.get("type")) or "text"
    if kind in ("text", "output_text"):
        return "text", as_text(part.get("text"), f"{place}.text")
    if kind == "refusal":
        return kind, as_text(part.get("refusal"), f"{place}.refusal")
    return kind, _flat(part.get(kind) or part.get("text")) if kind in ("thinking", "reasoning") else ""


def _flat(value: Any) -> str:
    """Text, or the text of parts; "" for everything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "".join(side_text(side_object(part).get("text")) or "" for part in value)


def calls_of(message: Mapping[str, Any], place: str) -> list[Any]:
    if calls := message.get("tool_calls"):
        return as_list(calls, f"{place}.tool_calls")
    if call := message.get("function_call"):  # the form before tools
        return [{"index": 0, "function": call}]
    return []


def grows(messages: Sequence[Mapping[str, Any]]) -> bool:
    """True if each message starts with the text of the one before: they grow, and the last is complete."""
    texts = [message.get("content") or "" for message in messages]
    return all(isinstance(a, str) and isinstance(b, str) and b.startswith(a) for a, b in pairwise(texts))
