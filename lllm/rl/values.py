"""The values that hooks and rewards can receive, by the names of their parameters."""

from __future__ import annotations

from typing import Any, Final

from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.rl.items import Item
from lllm.rl.rewards import ONE


def values_of(
    item: Item,
    state: Any,
    completion: str,
    messages: tuple[Message, ...],
    reply: Reply | None,
    turns: int,
) -> dict[str, Any]:
    """Returns the values of one rollout for hooks and rewards, by name."""
    return {
        "prompt": item.asked,
        "completion": completion,
        "messages": [*(one.record() for one in prompt_messages(item)), *(one.record() for one in messages)],
        "answer": item.answer,
        "info": item.info,
        "state": state,
        "reply": reply,
        "turns": turns,
    }


def prompt_messages(item: Item) -> tuple[Message, ...]:
    return (Message("user", item.prompt),) if isinstance(item.prompt, str) else item.prompt


HOOKS: Final = {
    "rng": "random.Random with the seed of the rollout",
    "seed": "that seed",
    **{name: about for name, about in ONE.items() if name != "rollout"},
}
"""The values that hooks can receive."""
