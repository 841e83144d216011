"""Credit: the advantage of a rollout over the other rollouts of its row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lllm.errors import ConfigError

SMALL = 1e-4
"""Added to the standard deviation that advantages are divided by, as TRL does."""


@dataclass(frozen=True)
class Group:
    """The rewards of the rollouts of one row; None for missing rollouts, which do not count in the baseline.

    Attributes:
        silent: why the group teaches nothing, a word of SILENT; None where it does.
    """

    rewards: tuple[float | None, ...]
    mean: float
    deviation: float
    silent: str | None

    @classmethod
    def of(
        cls,
        rewards: Sequence[float | None],
        texts: Sequence[Any] = (),
        *,
        best: float | None = None,
        worst: float | None = None,
    ) -> Group:
        """The group of some rewards. `texts`: what was written, for each; `best`, `worst`: the rewards that a rollout can have,
        or has had."""
        known = [one for one in rewards if one is not None]
        mean = statistics.fmean(known) if known else 0.0
        deviation = statistics.stdev(known) if len(known) > 1 else 0.0
        silent: str | None = None
        if len(known) < 2:
            silent = "few"
        elif max(known) - min(known) < _EQUAL:
            if best is not None and worst is not None and best - worst > _EQUAL:
                silent = (
                    "solved" if known[0] > best - _EQUAL else "failed" if known[0] < worst + _EQUAL else None
                )
            if silent is None:
                silent = "identical" if texts and all(one == texts[0] for one in texts) else "equal"
        return cls(tuple(rewards), mean, deviation, silent)


SILENT = {
    "solved": "all of its rollouts have the best reward: harder rows would teach more",
    "failed": "all of its rollouts have the worst reward: easier rows, or a better start, would teach more",
    "identical": "all of its rollouts are the same: raise the temperature",
    "equal": "all of its rewards are equal: a finer reward would tell its rollouts apart",
    "few": "fewer than two of its rollouts have a reward",
}
"""Why a group of rollouts teaches nothing, and what would help."""
_EQUAL = 1e-9


def advantages_of(groups: Sequence[Group], scale: Any = "group") -> list[float]:
    """Returns the advantage of each rollout, in order: its reward minus the mean of its group, divided by the standard
    deviation of the group (`group`), of the whole batch (`batch`), or not divided (`none`). 0 for missing rollouts.

    Formula: GRPO, Shao et al. 2024 (arXiv 2402.03300), with the sample standard deviation, as TRL's GRPOTrainer.
    """
    if scale is True:
        scale = "group"
    if scale is False:
        scale = "none"
    if scale not in ("group", "batch", "none"):
        raise ConfigError(f"scale_rewards is {scale!r}; it is group, batch or none")
    everything = [one for group in groups for one in group.rewards if one is not None]
    spread = statistics.stdev(everything) if len(everything) > 1 else 0.0
    found: list[float] = []
    for group in groups:
        divisor = {"none": 1.0, "batch": spread + SMALL, "group": group.deviation + SMALL}[scale]
        few = group.silent == "few"
        found += [0.0 if one is None or few else (one - group.mean) / divisor for one in group.rewards]
    return found
