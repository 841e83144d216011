"""Checks of chat templates: only where a template renders earlier turns unchanged is a conversation of several turns one
row."""

from __future__ import annotations

from typing import Any, Final

from lllm.errors import LLMError, text_of

_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "probe", "arguments": {"x": 1}},
}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "Probes.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}
_TALK: Final[list[dict[str, Any]]] = [
    {"role": "user", "content": "First."},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "result", "tool_call_id": "call_1"},
    {"role": "assistant", "content": " Second, with spaces. "},
    {"role": "user", "content": "Third."},
]


def changes(tokenizer: Any) -> str | None:
    """Returns a description of how the template of a tokenizer changes earlier turns; None where each prompt begins with the
    prompt and the reply before it. The check renders a tool call, its result, and a text with spaces at both ends."""
    before = ""
    for end in range(1, len(_TALK) + 1):
        if _TALK[end - 1]["role"] == "assistant":
            continue
        try:
            prompt = str(
                tokenizer.apply_chat_template(
                    _TALK[:end], tools=[_TOOL], add_generation_prompt=True, tokenize=False
                )
            )
        except Exception as error:  # templates raise what they like
            words = error.message if isinstance(error, LLMError) else text_of(error)
            return f"it cannot render a conversation with tools: {words[:200]}"
        if not prompt.startswith(before):
            place = next(
                (at for at, (one, other) in enumerate(zip(before, prompt, strict=False)) if one != other),
                min(len(before), len(prompt)),
            )
            return f"where it had {before[place : place + 40]!r}, it has {prompt[place : place + 40]!r} a turn later"
        before = prompt
    return None
