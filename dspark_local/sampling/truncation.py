"""Which tokens may be drawn: top-k, then top-p, then min-p, as llama.cpp orders them (temperature comes last)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dspark_local.types import SamplingParams

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating]

_SORTED_FIRST = 1024  # a nucleus is seldom larger, and sorting a whole vocabulary takes milliseconds


def candidates(logits: Logits, params: SamplingParams) -> Ids | None:
    """Token ids that survive the truncations, ascending, at least one; None when nothing is truncated.

    `logits` has shape [n_vocab]. Of equal logits at a boundary the smaller ids survive, so that the set is a
    function of the logits alone.
    """
    if params.top_p >= 1 and params.min_p <= 0 and not 0 < params.top_k < logits.size:
        return None
    ids = top_k(logits, params.top_k)
    if params.top_p < 1:
        ids = top_p(logits, ids, params.top_p)
    if params.min_p > 0:
        ids = min_p(logits, ids, params.min_p)
    return np.sort(ids)


def top_k(logits: Logits, k: int) -> Ids:
    """Ids of the k largest logits; all of them when k is 0 or the vocabulary is no larger."""
    if not 0 < k < logits.size:
        return np.arange(logits.size, dtype=np.int64)
    threshold = np.partition(logits, logits.size - k)[logits.size - k]
    above = np.flatnonzero(logits > threshold)
    ties = np.flatnonzero(logits == threshold)
    return np.concatenate((above, ties[: k - above.size]))


def top_p(logits: Logits, ids: Ids, p: float) -> Ids:
    """The fewest of `ids`, likeliest first, whose share of their probability reaches p."""
    kept = logits[ids]
    weights = np.exp(kept.astype(np.float64) - float(kept.max()))
    wanted = p * weights.sum()
    for n in (_SORTED_FIRST, 0):  # 0: all of them
        some = top_k(kept, n)
        order = some[np.lexsort((ids[some], -weights[some]))]
        reached = np.cumsum(weights[order]) >= wanted
        if reached.any():
            return ids[order[: int(np.argmax(reached)) + 1]]
    return ids  # rounding kept the sum below p = 1 − ε


def min_p(logits: Logits, ids: Ids, p: float) -> Ids:
    """Those of `ids` whose probability is at least p times the likeliest one's."""
    kept = logits[ids]
    likely: Ids = ids[kept >= kept.max() + math.log(p)]
    return likely
