"""Stops a reply that repeats itself."""

from __future__ import annotations

from typing import Any

from lllm.core.repetition import Repetition, stuck
from lllm.deltas import aggregate
from lllm.models.reply import Reply
from lllm.ports import Delta, Restart, TextDelta, ThinkingDelta, ToolCallDelta


class RepeatWatch:
    """Looks for a reply that has got stuck, while its pieces come. Text, thinking and the arguments of each call are
    texts of their own."""

    __slots__ = ("_deltas", "_limit", "_texts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._texts: dict[Any, Repetition] = {}
        self._deltas: list[Delta] = []

    def stuck(self, delta: Delta) -> bool:
        self._deltas.append(delta)
        if isinstance(delta, Restart):
            self._texts.clear()
        if isinstance(delta, ToolCallDelta):
            return self._grew(delta.index, delta.arguments)
        return isinstance(delta, TextDelta | ThinkingDelta) and self._grew(type(delta), delta.text)

    def _grew(self, key: Any, piece: str) -> bool:
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = Repetition(self._limit)
        return text.grew(piece)

    def reply(self, model: str) -> Reply:
        """What was said until it was stopped. How many tokens that took is unknown: the backend was not asked."""
        return aggregate(self._deltas).with_(finish_reason="repetition", model=model)

    def judged(self, reply: Reply) -> Reply:
        """A reply that came in one piece: nobody could stop it, but it reads the same."""
        if self._deltas or not any(
            stuck(text, self._limit)
            for text in (reply.content, reply.thinking or "", *(call.arguments for call in reply.tool_calls))
        ):
            return reply
        return reply.with_(finish_reason="repetition")
