"""What samples would have earned in an environment: with its rewards, without a policy."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The samples with the rewards of an environment, whose row each is found by its prompt. One whose row it does not have has
    none. Rewards see the conversation; they see no state, which only a rollout has.

    The scores are events of a session of their own, in `store`.
    """
    rows = {item.text: item for item in reversed(env.items.first())}
    found = [_rollout(one, rows) for one in samples]
    known = [one for one in found if one is not None]
    scored, _ = run(rescored(env.rewards, known, env.limits.score, store=store, name=f"{env.name}-scores"))
    rewards = iter(scored)
    return [
        replace(one, reward=None if rollout is None else next(rewards).reward)
        for one, rollout in zip(samples, found, strict=True)
    ]


def _rollout(sample: Sample, rows: dict[str, Item]) -> Rollout | None:
    asked = [one for one in sample.prompt if one["role"] == "user"]
    item = rows.get(str(asked[-1]["content"])) if asked else None
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
