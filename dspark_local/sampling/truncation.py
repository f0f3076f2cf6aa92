"""Which tokens may be drawn: top-k, typical-p, top-p, min-p, in llama.cpp's order (temperature comes last).

Each takes logits [n] and indices into them, and answers with fewer indices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.types import SamplingParams

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]

_SORTED_FIRST = 1024  # a nucleus is seldom larger, and sorting a whole vocabulary takes milliseconds
_COLUMN = 64  # logits in a column, of which only the largest is looked at first


def candidates(logits: Logits, params: SamplingParams) -> Ids | None:
    """Indices that survive the truncations, ascending, at least one; None when nothing is truncated.

    `logits` has shape [n]. Of equal logits at a boundary the smaller indices survive, so that the set is a
    function of the logits alone.
    """
    if (
        params.typical_p >= 1
        and params.top_p >= 1
        and params.min_p <= 0
        and not 0 < params.top_k < logits.size
    ):
        return None
    ids = top_k(logits, params.top_k)
    if params.typical_p < 1:
        ids = typical_p(logits, ids, params.typical_p)
    if params.top_p < 1:
        ids = top_p(logits, ids, params.top_p)
    if params.min_p > 0:
        ids = min_p(logits, ids, params.min_p)
    return np.sort(ids)


def top_k(logits: Logits, k: int) -> Ids:
    """Indices of the k largest logits; all of them when k is 0 or there are no more."""
    if not 0 < k < logits.size:
        return np.arange(logits.size, dtype=np.int64)
    ids = _contenders(logits, k)
    some = logits[ids]
    threshold = np.partition(some, some.size - k)[some.size - k]
    above, ties = ids[some > threshold], ids[some == threshold]
    return np.concatenate((above, ties[: k - above.size]))


def _contenders(logits: Logits, k: int) -> Ids:
    """Indices among which the k largest are, ascending, and few others.

    The k-th largest maximum of any columns is no larger than the k-th largest logit: a partition of a fraction.
    """
    columns = logits.size // _COLUMN
    if columns < 2 * k:
        return np.arange(logits.size, dtype=np.int64)
    maxima = logits[: columns * _COLUMN].reshape(_COLUMN, columns).max(axis=0)
    return np.flatnonzero(logits >= np.partition(maxima, columns - k)[columns - k])


def typical_p(logits: Logits, ids: Ids, p: float) -> Ids:
    """The fewest of `ids` whose share exceeds p, those first whose surprise is nearest to the entropy.

    Meister et al. 2023, *Locally typical sampling*.
    """
    kept = logits[ids].astype(np.float64)
    logs = kept - kept.max()
    weights = np.exp(logs)
    logs -= math.log(weights.sum())
    weights /= weights.sum()
    possible = weights > 0
    entropy = -float(weights[possible] @ logs[possible])
    odd = np.abs(logs + entropy)  # infinite where the weight is 0
    return _fewest(ids, weights, -odd, lambda share: share > p)


def top_p(logits: Logits, ids: Ids, p: float) -> Ids:
    """The fewest of `ids`, likeliest first, whose share of their probability reaches p."""
    kept = logits[ids].astype(np.float64)
    weights = np.exp(kept - kept.max())
    wanted = p * weights.sum()
    return _fewest(ids, weights, kept, lambda share: share >= wanted)


def min_p(logits: Logits, ids: Ids, p: float) -> Ids:
    """Those of `ids` whose probability is at least p times the likeliest one's."""
    kept = logits[ids]
    likely: Ids = ids[kept >= kept.max() + math.log(p)]
    return likely


def _fewest(ids: Ids, weights: Weights, order: Weights, enough: Callable[[Weights], npt.NDArray[np.bool_]]) -> Ids:
    """`ids` by descending `order` up to where their weights together are `enough`; of equals the smaller id first."""
    for n in (_SORTED_FIRST, 0):  # 0: all of them
        some = top_k(order, n)
        first = some[np.lexsort((ids[some], -order[some]))]
        reached = enough(np.cumsum(weights[first]))
        if reached.any():
            return ids[first[: int(np.argmax(reached)) + 1]]
    return ids  # rounding kept the sum below p = 1 − ε
