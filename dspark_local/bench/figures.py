"""Means and intervals of ratios."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RESAMPLES = 2000


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the geometric mean, by the bootstrap (percentiles; the same for the same ratios).

    NaN of fewer than two.
    """
    if len(ratios) < 2:  # noqa: PLR2004 - one value has no spread
        return math.nan, math.nan
    logs = np.log(ratios)
    draws = np.random.default_rng(0).choice(logs, (_RESAMPLES, logs.size)).mean(axis=1)
    low, high = np.exp(np.percentile(draws, (2.5, 97.5)))
    return float(low), float(high)
