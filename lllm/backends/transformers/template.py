"""A dialog as the model reads it: the chat template, and the tokens of what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.backends.local.dialog import wire
from lllm.backends.transformers.load import Loaded
from lllm.errors import BadRequestError, UnsupportedError, text_of
from lllm.models.message import Message


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
    read = wire(messages, str(template), name=loaded.name)
    try:
        out: str = loaded.tokenizer.apply_chat_template(
            read, tools=[dict(tool) for tool in tools] or None, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # the template's own language: anything may come out of it
        raise BadRequestError(
            f"the chat template of {loaded.name} refused the dialog: {text_of(error)}"
        ) from error
    return out
