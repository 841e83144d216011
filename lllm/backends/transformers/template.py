"""A dialog as the model reads it: the chat template, and the tokens of what it writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.backends.thinking import Mode
from lllm.backends.transformers.load import Loaded
from lllm.errors import BadRequestError, UnsupportedError, text_of
from lllm.models.message import Message

_OPENED: Final = re.compile(r"<(think|thinking|reasoning)>\s*\Z")


def render(loaded: Loaded, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
    """Token ids of `text`."""
    return tokens(loaded, text(loaded, messages, tools))


def tokens(loaded: Loaded, rendered: str) -> list[int]:
    """Token ids of a rendered dialog; the template has written all special tokens that the model wants."""
    ids: list[int] = loaded.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def text(loaded: Loaded, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """The dialog in the model's own form, up to where its reply begins.

    Raises UnsupportedError for images and for a model without a chat template, BadRequestError when the template refuses the
    dialog.
    """
    template = loaded.tokenizer.chat_template
    if not template:
        raise UnsupportedError(
            f"{loaded.name} has no chat template, so it is not said how it reads a dialog",
            hint="Give the load option chat_template: a Jinja template, or use a model that was trained to chat.",
        )
    thoughts = "reasoning_content" in str(template)
    wire = [_wire(loaded, message, thoughts) for message in messages]
    try:
        out: str = loaded.tokenizer.apply_chat_template(
            wire, tools=[dict(tool) for tool in tools] or None, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # the template's own language: anything may come out of it
        raise BadRequestError(
            f"the chat template of {loaded.name} refused the dialog: {text_of(error)}"
        ) from error
    return out


def thinking_mode(loaded: Loaded, rendered: str) -> Mode:
    """`prefilled` when the rendered dialog ends inside an opened thinking tag, else `auto`."""
    return "prefilled" if _OPENED.search(rendered[-64:]) else "auto"


def _wire(loaded: Loaded, message: Message, thoughts: bool) -> dict[str, Any]:
    if not isinstance(message.content, str) and any(part.get("type") != "text" for part in message.content):
        raise UnsupportedError(f"{loaded.name} reads text only: a message holds an image or file")
    # no template knows `developer`; many join content to other text, which null cannot be
    role = "system" if message.role == "developer" else message.role
    wire = {**message.to_dict(), "role": role, "content": message.text}
    for call in wire.get("tool_calls", ()):
        call["function"]["arguments"] = _arguments(call["function"]["arguments"])
    if thoughts and message.thinking is not None:
        wire["reasoning_content"] = message.thinking
    return wire


def _arguments(written: str) -> Any:
    """Templates walk over arguments; a text that is no object stays as the model wrote it."""
    from lllm.core.canonical import decode

    try:
        value = decode(written) if written.strip() else {}
    except ValueError:
        return written
    return value if isinstance(value, dict) else written
