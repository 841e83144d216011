"""A dialog as chat templates read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lllm.backends.thinking import Mode
from lllm.backends.thinking_forms import closers_after
from lllm.errors import UnsupportedError
from lllm.models.message import Message


def wire(messages: Iterable[Message], template: str, *, name: str) -> list[dict[str, Any]]:
    """The messages that `template` walks over. `name` is the model's, for the message of UnsupportedError, which images and
    files raise."""
    thoughts = "reasoning_content" in template
    return [_one(message, thoughts, name) for message in messages]


def thinking_mode(rendered: str) -> Mode:
    """`prefilled` if the rendered dialog ends inside reasoning opened by the template, else `auto`."""
    return "prefilled" if closers_after(rendered) else "auto"


def _one(message: Message, thoughts: bool, name: str) -> dict[str, Any]:
    if not isinstance(message.content, str) and any(part.get("type") != "text" for part in message.content):
        raise UnsupportedError(f"{name} reads text only: a message holds an image or file")
    # no template knows `developer`; many join content to other text, which null cannot be
    role = "system" if message.role == "developer" else message.role
    made = {**message.to_dict(), "role": role, "content": message.text}
    for call in made.get("tool_calls", ()):
        call["function"]["arguments"] = _arguments(call["function"]["arguments"])
    if thoughts and message.thinking is not None:
        made["reasoning_content"] = message.thinking
    return made


def _arguments(written: str) -> Any:
    """Templates walk over arguments; a text that is no object stays as the model wrote it."""
    from lllm.core.canonical import decode

    try:
        value = decode(written) if written.strip() else {}
    except ValueError:
        return written
    return value if isinstance(value, dict) else written
