"""Pearson's chi-square, at a level so low that a false alarm is rarer than a broken machine."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 1e-6


def fits(counts: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether counts look drawn from these probabilities; what cannot occur must not have."""
    possible = probabilities > 0
    if counts[~possible].any():
        return False
    expected = probabilities[possible] * counts.sum()
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    return statistic < quantile(int(possible.sum()) - 1)


def quantile(freedom: int) -> float:
    """Upper LEVEL quantile by Wilson and Hilferty's cube."""
    if freedom == 0:
        return 1e-9
    z, spread = NormalDist().inv_cdf(1 - LEVEL), 2 / (9 * freedom)
    return freedom * (1 - spread + z * spread**0.5) ** 3
