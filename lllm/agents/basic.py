"""BasicAgent: a prompt in, text out."""

from __future__ import annotations

from typing import Any

from lllm.agents.base import BaseAgent


class BasicAgent(BaseAgent):
    """An agent that answers: `await BasicAgent("writer", model).run("Write.")`; in blocking code `agent("Write.").content`."""

    async def run(self, prompt: str, **kwargs: Any) -> str:
        """The text of the reply to a prompt. `kwargs` are settings of this call: temperature, max_tokens, ..."""
        return await self._stream_and_aggregate(prompt, **kwargs)
