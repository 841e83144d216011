"""Agents that remember one conversation, where steps run side by side: nobody could say which call comes first in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from lllm.errors import ConfigError
from lllm.llm.memory import AGENT, SCOPES

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.steps.base import Step

FORGETS: Final = "agent.with_(memory=False)"


def remembering(step: Step, scopes: Iterable[str] = SCOPES) -> Iterator[Agent]:
    """The agents of a step, and of the steps and systems within it, that remember a conversation of one of these scopes."""
    from lllm.steps.calls import ModelStep, SystemStep

    found: Iterable[Agent | None] = ()
    if isinstance(step, ModelStep):
        found = (step._agent,)
    elif isinstance(step, SystemStep):
        found = getattr(step.system, "agents", {}).values()
    for agent in found:
        if agent is not None and agent.memory in scopes:
            yield agent
    for _, member in step.members:
        yield from remembering(member, scopes)


def check_batch(step: Step, limit: int, in_session: bool) -> None:
    """ConfigError where the items of a batch would go on with one conversation: with that of the agent itself, or with that of
    the session which they are a part of."""
    for agent in remembering(step, SCOPES if in_session else (AGENT,)):
        if in_session and limit == 1:
            continue  # one after the other, in one session
        each = "" if in_session else ", or memory='session' for a conversation of each item's own"
        raise ConfigError(
            f"the agent '{agent.name}' remembers one conversation, and a batch of '{step.name}' would ask it about all items",
            hint=f"Take {FORGETS}{each}."
            + (" Or limit=1, for one item after the other." if in_session else ""),
        )


def check_map(step: Step, limit: int) -> None:
    """ConfigError where items that run side by side would go on with one conversation."""
    agent = next(remembering(step), None)
    if agent is not None and limit > 1:
        raise ConfigError(
            f"the agent '{agent.name}' remembers one conversation, and map would ask it {limit} things at once",
            hint=f"Take {FORGETS}, or map(..., limit=1) for one item after the other.",
        )


def check_branches(branches: Iterable[Step]) -> None:
    """ConfigError where two branches would go on with one conversation."""
    seen: set[int] = set()
    for branch in branches:
        own = {id(agent._memory): agent for agent in remembering(branch)}
        for key, agent in own.items():
            if key in seen:
                raise ConfigError(
                    f"the agent '{agent.name}' remembers one conversation, and two branches of parallel would ask it at once",
                    hint=f"Take {FORGETS} in them, or agent.with_() for a second conversation.",
                )
        seen |= own.keys()
