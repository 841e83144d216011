"""Evaluations: the rollouts of a policy in an environment, with their mean reward and its interval."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from lllm.rl.intervals import t_interval
from lllm.rl.rollout import CUT, MISSING, Rollout


class Difference(NamedTuple):
    """The difference in reward between two evaluations of the same rows.

    Attributes:
        mean: of the differences, row by row; None where no row has a reward in both.
        interval: its 95% interval, by Student's t over the rows, paired; None for fewer than two.
        rows: the number of rows with a reward in both. of, than: the numbers with one in the first, and in the second.
    """

    mean: float | None
    interval: tuple[float, float] | None
    rows: int
    of: int
    than: int

    @property
    def clear(self) -> bool:
        """True if the interval does not contain zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    def __str__(self) -> str:
        if self.mean is None:
            return "no row has a reward in both"
        words = f"{self.mean:+.3f}"
        if self.interval is not None:
            words += f" (95% {self.interval[0]:+.3f} to {self.interval[1]:+.3f})"
        return f"{words} over {self.rows} rows"


class Evaluation(Sequence[Rollout]):
    """The rollouts of a policy, in the order of rows and samples.

    Attributes:
        rollouts: all rollouts. leaks: problems when states and processes were closed, one text each.
    """

    def __init__(self, rollouts: Iterable[Rollout], leaks: Sequence[str] = ()) -> None:
        self.rollouts = list(rollouts)
        self.leaks = list(leaks)

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rollout]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.rollouts[index]

    def __len__(self) -> int:
        return len(self.rollouts)

    def __iter__(self) -> Iterator[Rollout]:
        return iter(self.rollouts)

    @property
    def scored(self) -> list[Rollout]:
        """The rollouts that have a reward."""
        return [one for one in self if one.reward is not None]

    @property
    def missing(self) -> list[Rollout]:
        """The rollouts without a reward: something outside of the policy failed, or a reward did."""
        return [one for one in self if one.reward is None]

    @property
    def cut(self) -> list[Rollout]:
        """The rollouts in which the policy ran into a limit."""
        return [one for one in self if one.status == CUT]

    @property
    def reward(self) -> float | None:
        """The mean over rows of the mean reward of each row; None where no rollout has a reward."""
        means = self._means()
        return statistics.fmean(means) if means else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of `reward`, by Student's t over rows; None for fewer than two rows. The unit is the row: several
        rollouts of one are averaged first."""
        return t_interval(self._means())

    def _means(self) -> list[float]:
        found = [[one.reward for one in group if one.reward is not None] for group in self.groups()]
        return [statistics.fmean(values) for values in found if values]

    @property
    def components(self) -> dict[str, float | None]:
        """The mean of each reward over the rollouts that have it, without its weight."""
        found: dict[str, list[float]] = {}
        for one in self:
            for name, score in one.scores.items():
                found.setdefault(name, [])
                if score.value is not None:
                    found[name].append(score.value)
        return {name: statistics.fmean(values) if values else None for name, values in found.items()}

    @property
    def reasons(self) -> dict[str, int]:
        """The number of rollouts that were cut or are missing, by reason; `reward` counts those of which only the reward is
        missing."""
        counts = Counter(one.reason or "reward" for one in self if one.status != "done" or one.reward is None)
        return dict(sorted(counts.items()))

    def against(self, before: Evaluation) -> Difference:
        """Compares this with another evaluation of the same rows, over the rows that have a reward in both."""
        own, other = self._by_row(), before._by_row()
        pairs = [(own[key], other[key]) for key in own if key in other]
        differences = [one - two for one, two in pairs]
        if not differences:
            return Difference(None, None, 0, len(own), len(other))
        mean = statistics.fmean(differences)
        return Difference(mean, t_interval(differences), len(differences), len(own), len(other))

    def _by_row(self) -> dict[str, float]:
        rows: dict[str, list[float]] = {}
        for one in self.scored:
            rows.setdefault(one.item.key, []).append(one.reward)  # type: ignore[arg-type]
        return {key: statistics.fmean(values) for key, values in rows.items()}

    def groups(self) -> list[list[Rollout]]:
        """The rollouts of each row. Rows of several data sets may have one number, and equal rows of one have several."""
        rows: dict[tuple[int, str], list[Rollout]] = {}
        for one in self:
            rows.setdefault((one.item.index, one.item.key), []).append(one)
        return list(rows.values())

    def record(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "reward": self.reward,
            "interval": None if self.interval is None else list(self.interval),
            "components": self.components,
            "rollouts": len(self),
            "scored": len(self.scored),
            "cut": len(self.cut),
            "missing": len(self.missing),
            "reasons": self.reasons,
        }

    def __repr__(self) -> str:
        return f"Evaluation({self})"

    def __str__(self) -> str:
        if self.reward is None:
            words = "no reward"
        else:
            words = f"reward {self.reward:.3f}"
            if (found := self.interval) is not None:
                words += f" (95% {found[0]:.3f} to {found[1]:.3f})"
        words += f", {len(self.scored)} of {len(self)} rollouts scored"
        if self.cut:
            words += f", {len(self.cut)} cut"
        lost = [one for one in self if one.status == MISSING]
        if lost:
            words += f", {len(lost)} missing ({lost[0].reason}: {(lost[0].detail or '')[:160]})"
        for name, value in self.components.items():
            words += f"; {name} {'-' if value is None else format(value, '.3f')}"
        return words
