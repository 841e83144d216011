"""Signs that a training goes wrong: they warn, and stop the training only with `stop_on`.

None of them proves anything by itself: lengths drift and components grow in trainings that are well. What tells is the held-out
reward, and a component that nobody can argue with.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from transformers import TrainerCallback

from lllm.errors import ConfigError, listing
from lllm.rl.credit import SILENT
from lllm.rl.rewards import Reward
from lllm.rl.rollout import MISSING
from lllm.rl.trainers.reports import curves
from lllm.terminals import warn

Curves = Mapping[str, Sequence[tuple[int, float]]]
RECENT: Final = 10
"""Steps that a sign is read from."""


def _recent(found: Curves, name: str) -> float | None:
    values = [value for _, value in found.get(name, ())[-RECENT:]]
    return statistics.fmean(values) if len(values) >= RECENT // 2 else None


def _early(found: Curves, name: str) -> float | None:
    values = [value for _, value in found.get(name, ())]
    return statistics.fmean(values[:RECENT]) if len(values) >= 2 * RECENT else None


def _silent(found: Curves, rewards: Sequence[Reward]) -> str | None:
    share = _recent(found, "frac_reward_zero_std")
    if share is None or share < 0.8:
        return None
    most = max(SILENT, key=lambda word: _recent(found, f"groups/{word}") or 0.0)
    return f"{share:.0%} of the groups teach nothing; of most of them: {SILENT[most]}"


def _missing(found: Curves, rewards: Sequence[Reward]) -> str | None:
    share = _recent(found, "rollouts/missing")
    return None if share is None or share < 0.05 else f"{share:.0%} of the rollouts have no reward"


def _cut(found: Curves, rewards: Sequence[Reward]) -> str | None:
    share = _recent(found, "rollouts/cut")
    return None if share is None or share < 0.5 else f"{share:.0%} of the rollouts run into a limit"


def _length(found: Curves, rewards: Sequence[Reward]) -> str | None:
    name = "completions/mean_length"
    early, now = _early(found, name), _recent(found, name)
    if not early or now is None or 0.5 < now / early < 2:
        return None
    return f"replies have {now:.0f} tokens, and had {early:.0f} at first"


def _dominated(found: Curves, rewards: Sequence[Reward]) -> str | None:
    if len(rewards) < 2:
        return None
    shares = {
        one.name: abs(one.weight * (_recent(found, f"rewards/{one.name}/mean") or 0.0)) for one in rewards
    }
    total = sum(shares.values())
    name = max(shares, key=lambda one: shares[one])
    if not total or shares[name] / total < 0.95:
        return None
    return f"'{name}' makes {shares[name] / total:.0%} of the reward: the other rewards decide nothing"


def _drifted(found: Curves, rewards: Sequence[Reward]) -> str | None:
    drift = _recent(found, "sampling/drift_mean")
    if drift is None or drift < 0.02:
        return None
    return f"log-probabilities of rollouts and trainer differ by {drift:.3f}: the rollouts are not those of the policy"


SIGNS: Final[Mapping[str, Callable[[Curves, Sequence[Reward]], str | None]]] = {
    "silent": _silent,
    "missing": _missing,
    "cut": _cut,
    "length": _length,
    "dominated": _dominated,
    "drift": _drifted,
}
"""What is looked for: each gives a sentence, or None."""


def signs(history: Sequence[Mapping[str, Any]], rewards: Sequence[Reward]) -> dict[str, str]:
    """Returns the signs in the metrics of a training."""
    found = curves(history)
    return {name: words for name, look in SIGNS.items() if (words := look(found, rewards)) is not None}


class Unscored:
    """Says why rollouts have no reward, or lack a part of it: a reward that raises, an environment that fails. Each once, with
    the first of its words."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def look(self, trained: Sequence[Any], step: int = 0) -> None:
        """Looks at rollouts that are done."""
        found: dict[str, list[str]] = {}
        for one in trained:
            rollout = one.rollout
            lost = {rollout.reason or "missing": rollout.detail or ""} if rollout.status == MISSING else {}
            for name, why in {**rollout.errors, **lost}.items():
                found.setdefault(name, []).append(why)
        for name, reasons in found.items():
            if name in self.told:
                continue
            self.told.add(name)
            count = f"{len(reasons)} of {len(trained)}"
            words = "step %s: '%s' is missing from %s rollouts: %.300s"
            warn(logging.getLogger("lllm.rl"), words, step, name, count, reasons[0])


class Watching(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Looks for signs whenever metrics are logged. Each warns once.

    Args:
        stop_on: names of SIGNS that end the training. Raises ConfigError for one that is not there.
    """

    def __init__(self, rewards: Sequence[Reward], stop_on: Collection[str] = ()) -> None:
        if unknown := set(stop_on) - SIGNS.keys():
            raise ConfigError(f"stop_on has {listing(unknown)}", hint=f"There are {', '.join(SIGNS)}.")
        self.rewards, self.stop_on = tuple(rewards), frozenset(stop_on)
        self.told: dict[str, str] = {}

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See `transformers.TrainerCallback`."""
        for name, words in signs(state.log_history, self.rewards).items():
            if name in self.told:
                continue
            self.told[name] = words
            warn(logging.getLogger("lllm.rl"), "step %s: %s", state.global_step, words)
            if name in self.stop_on:
                control.should_training_stop = True
