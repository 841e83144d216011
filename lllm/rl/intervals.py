"""Confidence intervals of means, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_T95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    12: 2.179, 15: 2.131, 20: 2.086, 25: 2.060, 30: 2.042, 40: 2.021, 60: 2.000, 120: 1.980,
}  # fmt: skip
"""The two-sided 95% value of Student's t, by degrees of freedom."""


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns the 95% interval of the mean of independent values, as (low, high); None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = _t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def _t95(freedom: int) -> float:
    """Returns the value of the next lower degree in the table, so that the interval is never too narrow."""
    return _T95[max(one for one in _T95 if one <= freedom)]
