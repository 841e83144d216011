"""ContextAgent: an agent that is given a text to work with."""

from __future__ import annotations

from typing import Any

from lllm.agents.basic import BasicAgent
from lllm.llm.context import Context, parse_place


class ContextAgent(BasicAgent):
    """A BasicAgent whose every conversation has a text in it, fenced as data: `ContextAgent("reader", model, notes)`.

    Args:
        context: the text. place: `user`, before what is asked first, or `system`, behind the system prompt.
        budget: tokens that the fenced text may have, counted by the model's tokenizer where that is here. Longer text is an
            error (`ContextTooLong`), or with `cut=True` its beginning, with a sentence about the rest.
    """

    def __init__(
        self, agent_id: str, model: Any = None, context: str | None = None, *, place: str = "user",
        budget: int | None = None, cut: bool = False, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(agent_id, model, **settings)
        self._context = Context.of(self, context, parse_place(place), budget, cut)
