"""Which tokens may be drawn: top-k, typical-p, top-p, min-p, in llama.cpp's order (temperature comes last).

Each takes logits [n] and indices into them, None for all, and answers with fewer indices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.types import SamplingParams

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]

_SORTED = 1024  # a nucleus is seldom larger
_COLUMN = 64  # logits in a column, of which only the largest is looked at first


def candidates(logits: Logits, params: SamplingParams) -> Ids | None:
    """Indices that survive the truncations, ascending, at least one; None when nothing is truncated.

    `logits` has shape [n]. Of equal logits at a boundary the smaller indices survive, so that the set is a
    function of the logits alone.
    """
    if params.typical_p >= 1 and params.top_p >= 1 and params.min_p <= 0 and not 0 < params.top_k < logits.size:
        return None
    ids = top_k(logits, params.top_k) if 0 < params.top_k < logits.size else None
    if params.typical_p < 1:
        ids = typical_p(logits, ids, params.typical_p)
    if params.top_p < 1:
        ids = top_p(logits, ids, params.top_p)
    if params.min_p > 0:
        ids = min_p(logits, ids, params.min_p)
    assert ids is not None
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


def typical_p(logits: Logits, ids: Ids | None, p: float) -> Ids:
    """The fewest of `ids` whose share exceeds p, those first whose surprise is nearest to the entropy.

    Meister et al. 2023, *Locally typical sampling*.
    """
    logs = (logits if ids is None else logits[ids]).astype(np.float64)
    logs -= logs.max()
    weights = np.exp(logs)
    total = float(weights.sum())
    logs -= math.log(total)
    possible = weights > 0
    entropy = -float(np.multiply(weights, logs, out=np.zeros_like(logs), where=possible).sum()) / total
    odd = np.abs(logs + entropy)  # infinite where the weight is 0; no dot product, whose threads a busy machine stalls
    at = _fewest(-odd, weights, lambda mass: mass > p * total)
    return at if ids is None else ids[at]


def top_p(logits: Logits, ids: Ids | None, p: float) -> Ids:
    """The fewest of `ids`, likeliest first, whose share of their probability reaches p."""
    kept = logits if ids is None else logits[ids]
    weights = kept.astype(np.float64)
    weights -= weights.max()
    np.exp(weights, out=weights)
    wanted = p * weights.sum()
    at = _fewest(kept, weights, lambda mass: mass >= wanted)
    return at if ids is None else ids[at]


def min_p(logits: Logits, ids: Ids | None, p: float) -> Ids:
    """Those of `ids` whose probability is at least p times the likeliest one's."""
    kept = logits if ids is None else logits[ids]
    likely = np.flatnonzero(kept >= kept.max() + math.log(p))
    return likely if ids is None else ids[likely]


def _fewest(order: Logits, weights: Weights, enough: Callable[[Any], Any]) -> Ids:
    """Indices by descending `order` up to where their weights together are `enough`; of equals the smaller first.

    All of them if rounding keeps the sum below. Sorting a whole vocabulary takes milliseconds, so only the part
    where the end lies is sorted: mostly the largest few, else what halving leaves.
    """
    open_to, taken, mass = top_k(order, _SORTED), [np.empty(0, np.int64)], 0.0
    if not enough(weights[open_to].sum()):
        open_to = np.arange(order.size)
        while open_to.size > _SORTED:
            likelier = np.zeros(open_to.size, np.bool_)
            likelier[top_k(order[open_to], open_to.size // 2)] = True
            half = open_to[likelier]
            with_half = mass + float(weights[half].sum())
            if enough(np.float64(with_half)):
                open_to = half
            else:
                taken.append(half)
                open_to, mass = open_to[~likelier], with_half
    first = open_to[np.lexsort((open_to, -order[open_to]))]
    reached = enough(mass + np.cumsum(weights[first]))
    end = int(np.argmax(reached)) + 1 if reached.any() else first.size
    return np.concatenate((*taken, first[:end]))
