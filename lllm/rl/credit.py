"""Credit: what a rollout is worth beside the others of its row."""

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
    """The rewards of the rollouts of one row; None for those that are missing, which are no part of the baseline.

    Attributes:
        silent: why the group teaches nothing: `all best`, `all worst` (given the range of rewards), `identical`, `too few`; None
            where it does.
    """

    rewards: tuple[float | None, ...]
    mean: float
    deviation: float
    silent: str | None

    @classmethod
    def of(
        cls, rewards: Sequence[float | None], best: float | None = None, worst: float | None = None
    ) -> Group:
        known = [one for one in rewards if one is not None]
        mean = statistics.fmean(known) if known else 0.0
        deviation = statistics.stdev(known) if len(known) > 1 else 0.0
        silent: str | None = None
        if len(known) < 2:
            silent = "too few"
        elif max(known) - min(known) < 1e-9:
            silent = "all best" if known[0] == best else "all worst" if known[0] == worst else "identical"
        return cls(tuple(rewards), mean, deviation, silent)


def advantages_of(groups: Sequence[Group], scale: Any = "group") -> list[float]:
    """The advantage of each rollout, in order: its reward less the mean of its group, divided by the standard deviation of the
    group (`group`), of all (`batch`), or by nothing (`none`). 0 for those that are missing.

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
        few = group.silent == "too few"
        found += [0.0 if one is None or few else (one - group.mean) / divisor for one in group.rewards]
    return found
