"""Scoring samples with the rewards of an environment, without a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lllm.models.message import Message
from lllm.rl.items import Item
from lllm.rl.rollout import Rollout
from lllm.rl.samples import Sample
from lllm.rl.scoring import rescored
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.ports import LogStore
    from lllm.rl.environment import RLEnv


def score_samples(samples: Sequence[Sample], env: RLEnv, *, store: LogStore | None = None) -> list[Sample]:
    """Returns the samples with the rewards of an environment. The row of a sample is the one that it was a rollout of, else the
    only one with its prompt; a sample without a row has no reward. Rewards see the conversation, and None as the state.

    The scores are events of a session of their own, in `store`.
    """
    items = env.items.first()
    keys = {item.key: item for item in items}
    prompts: dict[str, Item | None] = {}
    for item in items:  # None: several rows that differ ask the same
        known = prompts.setdefault(item.text, item)
        if known is not None and known.key != item.key:
            prompts[item.text] = None
    found = [_rollout(one, keys, prompts) for one in samples]
    known_ones = [one for one in found if one is not None]
    scored, _ = run(
        rescored(env.rewards, known_ones, env.limits.score, store=store, name=f"{env.name}-scores")
    )
    rewards = iter(scored)
    return [
        replace(one, reward=None if rollout is None else next(rewards).reward)
        for one, rollout in zip(samples, found, strict=True)
    ]


def _rollout(sample: Sample, keys: Mapping[str, Item], prompts: Mapping[str, Item | None]) -> Rollout | None:
    asked = [one for one in sample.prompt if one["role"] == "user"]
    item = keys.get(sample.item or "")
    if item is None and asked:
        item = prompts.get(Message.from_record(asked[-1]).text)
    if item is None:
        return None
    messages = tuple(Message.from_record(one) for one in sample.completion)
    replies = [one for one in messages if one.role == "assistant"]
    return Rollout(
        item,
        sample.sample,
        completion=replies[-1].text if replies else "",
        messages=messages,
        turns=len(replies),
        session=sample.session,
    )
