"""Pinned messages: those that a request is never without, however long the dialog gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lllm.core.window import pin
from lllm.llm.dialog import messages_from
from lllm.models.message import Message


def pinned(message: str | Message | Mapping[str, Any]) -> Message:
    """The message, to be kept where a `window` leaves out others: `agent(pinned("My name is Bob."))`,
    `dialog.append(pinned(...))`. Text is a user message. No provider is told of it.

    Raises:
        ConfigError: it is no message.
    """
    (found,) = messages_from([Message("user", message) if isinstance(message, str) else message])
    return pin(found)
