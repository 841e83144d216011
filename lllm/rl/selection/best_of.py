"""Best of n: a policy does several rollouts of a row, and one of them is kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, LLMError
from lllm.llm.checks import parse_count
from lllm.rl.evaluation import Evaluation
from lllm.rl.rollout import MISSING, Rollout

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

WAYS: Final = {
    "vote": "the reply that was given most often: what an agent in use can do",
    "reward": "the highest reward: an upper bound for every other choice, since it needs the reference answers",
}


class BestOf:
    """A policy that is tried n times on each row, of which one rollout is kept: `env(BestOf("embedded", 8), temperature=1)`.

    Args:
        policy: what an environment takes. n: how often.
        by: `vote`, `reward` (see WAYS), or a function of the replies' texts that gives one of them, plain or async, such as
            `lllm.systems.vote(last_number)` and `lllm.systems.best_of(score)`.

    With greedy sampling all rollouts of a row are the same. For one that is in use, see `lllm.systems.MultiCallSystem`.
    """

    def __init__(self, policy: Any, n: int, by: str | Callable[[list[str]], Any] = "vote") -> None:
        parse_count("n", n)
        if not callable(by) and by not in WAYS:
            raise ConfigError(f"by is {by!r}; it is {', '.join(WAYS)}, or a function of the replies' texts")
        self.policy, self.n, self.by = policy, n, by

    async def rollouts(self, env: RLEnv, rows: Iterable[Any] | None, **more: Any) -> Chosen:
        """Returns the rollouts that are kept, one per row. `more`: see `RLEnv.arollouts`."""
        if more.pop("samples", 1) != 1:
            raise ConfigError("samples is that of BestOf: it is tried n times, and one rollout is kept")
        tried = await env.arollouts(self.policy, rows, samples=self.n, **more)
        return Chosen([await pick(group, self.by) for group in tried.groups()], tried)

    def __repr__(self) -> str:
        return f"BestOf({self.policy!r:.60}, {self.n}, by={self.by!r:.40})"


class Chosen(Evaluation):
    """The rollouts that were kept.

    Attributes:
        tried: all of them.
    """

    def __init__(self, rollouts: Iterable[Rollout], tried: Evaluation) -> None:
        super().__init__(rollouts, tried.leaks)
        self.tried = tried

    def record(self) -> dict[str, Any]:
        """See Evaluation; `tried` is the number of all rollouts."""
        return {**super().record(), "tried": len(self.tried)}


async def pick(group: list[Rollout], by: str | Callable[[list[str]], Any]) -> Rollout:
    """Returns one of the rollouts of a row; the first of equal ones. A missing rollout is returned only where there is no
    other, and one without a reward only where none has a reward."""
    there = [one for one in group if one.status != MISSING] or group[:1]
    if by == "reward":
        scored = [one for one in there if one.reward is not None]
        return max(scored, key=lambda one: one.reward or 0.0) if scored else there[0]
    from lllm.systems import vote

    choose = vote() if by == "vote" else by
    assert callable(choose)
    texts = [one.completion for one in there]
    try:
        found = choose(texts)
        text = await found if inspect.isawaitable(found) else found
    except ConfigError:  # no reply has what is voted by
        return there[0]
    if text not in texts:
        raise LLMError(f"the choice among {len(texts)} replies gave none of them: {str(text)[:80]!r}")
    return there[texts.index(text)]


def calls_of(evaluation: Evaluation) -> int:
    """Returns the number of model calls of an evaluation; of a policy that is a function, its turns."""
    tried = evaluation.tried if isinstance(evaluation, Chosen) else evaluation
    return sum(one.use.model_calls or one.turns for one in tried)
