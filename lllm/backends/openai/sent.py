"""Prepares messages for one endpoint: it gets its own keys back, but not those of others."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any, Final

from lllm.backends.openai.extras import returned
from lllm.backends.openai.families import takes_back
from lllm.models.message import FunctionCall, Message

TAKEN: Final = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""Pattern of a tool call id that every provider accepts."""


class Renamed:
    """Replaces tool call ids from another endpoint that `place` may refuse: OpenAI accepts 40 characters, Anthropic
    letters, digits, `_` and `-`. A call and the message that answers it get the same new id, which is deterministic.
    `model` is the requested model: see `takes_back`."""

    def __init__(self, place: str | None, model: str = "") -> None:
        self._place = place
        self._model = model
        self.ids: dict[str, str] = {}
        """New ids of the calls whose results are still to come."""

    def message(self, message: Message) -> Message:
        if message.tool_call_id is not None:
            found = self.ids.get(message.tool_call_id)
            return message if found is None else replace(message, tool_call_id=found)
        if not message.tool_calls:
            return message
        made = message.extra_from
        if made is None or takes_back(made, self._place, self._model):
            self.ids.clear()  # a repeated id means the later call
            return message
        self.ids = {call.id: _id(call) for call in message.tool_calls if not TAKEN.fullmatch(call.id)}
        calls = tuple(call.with_id(self.ids.get(call.id, call.id)) for call in message.tool_calls)
        return replace(message, tool_calls=calls) if self.ids else message


def form(message: Message, place: str | None, model: str = "") -> dict[str, Any]:
    """A message in the chat-completions form, with the keys added by this endpoint's model or by the caller."""
    if message.extra_from is not None and not takes_back(message.extra_from, place, model):
        return message.to_dict()
    return replace(message, extra=returned(message.extra)).to_dict(extra=True)


def _id(call: FunctionCall) -> str:
    return "call_" + hashlib.sha256(call.id.encode("utf-8", "replace")).hexdigest()[:24]
