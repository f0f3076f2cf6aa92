"""How far stated chances can be trusted: calibration error, Brier score, and how well they rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 10


@dataclass(frozen=True, slots=True)
class Reliability:
    """Of `n` stated chances: `ece` in equal-mass bins, mean squared error `brier`, ranking `auroc` (NaN of one class).

    `bins` holds (mean stated, mean happened) by bin, for a plot.
    """

    n: int
    ece: float
    brier: float
    auroc: float
    bins: tuple[tuple[float, float], ...]


def reliability(stated: npt.ArrayLike, happened: npt.ArrayLike) -> Reliability:
    """Compare chances [n] with outcomes [n]. ECE as in Guo et al. 2017, *On calibration of modern neural networks*."""
    chance, right = np.asarray(stated, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    assert chance.shape == right.shape
    assert chance.size
    order = np.argsort(chance, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if part.size]
    means = tuple((float(chance[b].mean()), float(right[b].mean())) for b in bins)
    ece = sum(b.size * abs(said - did) for b, (said, did) in zip(bins, means, strict=True)) / chance.size
    return Reliability(chance.size, float(ece), float(((chance - right) ** 2).mean()), _auroc(chance, right), means)


def by_position(
    survival: npt.NDArray[np.float64], admitted: npt.ArrayLike, accepted: npt.ArrayLike
) -> list[Reliability]:
    """For each position k of survivals [n, γ], over the blocks that admitted it."""
    verified, right = np.asarray(admitted), np.asarray(accepted)
    positions = range(survival.shape[1])
    return [reliability(survival[verified > k, k], right[verified > k] > k) for k in positions if (verified > k).any()]


def _auroc(chance: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """Chance that a random success was stated higher than a random failure; ties count half (Mann–Whitney)."""
    _, inverse, counts = np.unique(chance, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    hits = right.sum()
    misses = right.size - hits
    if not hits or not misses:
        return float("nan")
    return float((ranks[right > 0].sum() - hits * (hits + 1) / 2) / (hits * misses))
