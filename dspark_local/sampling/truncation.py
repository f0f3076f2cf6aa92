"""Which tokens may be drawn: top-k, typical-p, top-p, min-p, in llama.cpp's order (temperature comes last).

Each takes logits [n] and indices into them, None for all, and answers with fewer indices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.sampling.peaks import Peaks

if TYPE_CHECKING:
    from dspark_local.types import SamplingParams

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]

_SMALL, _SORTED = 256, 1024  # a nucleus is mostly smaller, and seldom larger
_PIECE = 16_384  # logits that stay in a core's cache
_ROUNDING = 1e-5  # more than the error of a sum of weights in 32 bits, relative to it


def candidates(logits: Logits, params: SamplingParams) -> Ids | None:
    """Indices that survive the truncations, ascending, at least one; None when nothing is truncated.

    `logits` has shape [n]. Of equal logits at a boundary the smaller indices survive, so that the set is a
    function of the logits alone.
    """
    ids = top_k(logits, params.top_k) if 0 < params.top_k < logits.size else None
    if params.typical_p >= 1 and params.top_p >= 1 and params.min_p <= 0:
        return ids
    if params.typical_p < 1:
        ids = typical_p(logits, ids, params.typical_p)
    if params.top_p < 1:
        ids = top_p(logits, ids, params.top_p)
    if params.min_p > 0:
        ids = min_p(logits, ids, params.min_p)
    assert ids is not None
    return np.sort(ids)


def top_k(logits: Logits, k: int) -> Ids:
    """Indices of the k largest logits, ascending; all of them when k is 0 or there are no more."""
    return Peaks.of(logits).largest(k or logits.size)


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
    at = _fewest(-odd, weights, math.nextafter(p * total, math.inf))
    return at if ids is None else ids[at]


def top_p(logits: Logits, ids: Ids | None, p: float) -> Ids:
    """The fewest of `ids`, likeliest first, whose share of their probability reaches p."""
    kept = logits if ids is None else logits[ids]
    at = _nucleus(kept, p) if kept.size > _SORTED else None
    if at is None:
        weights = _weights(kept, float(kept.max()))
        at = _fewest(kept, weights, p * float(weights.sum()))
    return at if ids is None else ids[at]


def _nucleus(logits: Logits, p: float) -> Ids | None:
    """That of top-p, if it is small and a sum in 32 bits tells where it ends; else None."""
    peaks = Peaks.of(logits)
    top = peaks.top
    likeliest = peaks.largest(_SMALL)
    some = logits[likeliest]
    weights = _weights(some, top)
    total = sum(float(np.exp(logits[at : at + _PIECE] - np.float32(top)).sum()) for at in range(0, logits.size, _PIECE))
    least, most = (_first(some, weights, p * total * error) for error in (1 - _ROUNDING, 1 + _ROUNDING))
    return likeliest[least] if least.size == most.size < likeliest.size else None


def _weights(logits: Logits, top: float) -> Weights:
    weights = logits.astype(np.float64)
    weights -= top
    return np.exp(weights, out=weights)


def min_p(logits: Logits, ids: Ids | None, p: float) -> Ids:
    """Those of `ids` whose probability is at least p times the likeliest one's."""
    peaks = Peaks.of(logits if ids is None else logits[ids])
    likely = peaks.at_least(logits.dtype.type(peaks.top) + math.log(p))
    return likely if ids is None else ids[likely]


def _fewest(order: Logits, weights: Weights, wanted: float) -> Ids:
    """Indices by descending `order` up to where their weights together reach `wanted`; of equals the smaller first.

    All of them if rounding keeps the sum below. Sorting a whole vocabulary takes milliseconds, so only the part
    where the end lies is sorted: mostly the largest few, else what halving leaves.
    """
    if order.size <= _SORTED:
        return _first(order, weights, wanted)
    open_to, taken, mass = top_k(order, _SORTED), [], 0.0
    if weights[open_to].sum() < wanted:
        open_to = np.arange(order.size)
        while open_to.size > _SORTED:
            likelier = np.zeros(open_to.size, np.bool_)
            likelier[top_k(order[open_to], open_to.size // 2)] = True
            half = open_to[likelier]
            with_half = mass + float(weights[half].sum())
            if with_half >= wanted:
                open_to = half
            else:
                taken.append(half)
                open_to, mass = open_to[~likelier], with_half
    last = open_to[_first(order[open_to], weights[open_to], wanted, mass)]
    return np.concatenate((*taken, last))


def _first(order: Logits, weights: Weights, wanted: float, mass: float = 0.0) -> Ids:
    at = np.argsort(-order, kind="stable")
    sums = weights[at].cumsum()
    sums += mass
    return at[: int(sums.searchsorted(wanted)) + 1]
