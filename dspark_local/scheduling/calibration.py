"""Confidence that means what it says: sequential temperature scaling [P §3.2.1], fitted at once or round by round.

Position by position, with those before it settled, the logit z of c_k becomes scale·z + shift such that
survival a_k = c_1·…·c_k predicts "the first k were accepted" at the least log loss. The paper has a temperature only
(scale = 1/T, searched for the least ECE); the shift is ours, because the head was trained for another kind of
acceptance than that of drafts coupled by seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dspark_local.errors import BackendError
from dspark_local.scheduling import store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Shares = npt.NDArray[np.float64]

_CLIP = 1e-6  # of confidences and survivals, before logarithms
_MEMORY = 0.998  # of the curvature at each round: some 500 rounds
_TRUST = 30.0  # rounds' worth of curvature that hold scale 1 and shift 0
_STEP = 0.3  # most that one round moves scale or shift
_EDGES = (0.0, 0.5, 0.9)  # upper ends of the temperature buckets; above the last is one more
_NOT_A_NUMBER = "the drafter's confidence is not a number; its file is damaged: download or convert it again"


@dataclass(slots=True)
class _Scaling:
    """Scale and shift of one position, and the curvature of the log loss there (zz, z, 1)."""

    scale: float = 1.0
    shift: float = 0.0
    zz: float = _TRUST
    z: float = 0.0
    one: float = _TRUST

    def share(self, z: float) -> float:
        """The calibrated share of a logit."""
        return 1 / (1 + math.exp(-(self.scale * z + self.shift)))

    def move(self, slope_z: float, slope: float, *, most: float = math.inf) -> None:
        """One Newton step against the gradient of the log loss."""
        det = self.zz * self.one - self.z * self.z
        step_z = (self.one * slope_z - self.z * slope) / det
        step = (self.zz * slope - self.z * slope_z) / det
        self.scale = min(4.0, max(0.1, self.scale - min(most, max(-most, step_z))))
        self.shift = min(4.0, max(-4.0, self.shift - min(most, max(-most, step))))


@dataclass(slots=True)
class Calibration:
    """Scalings for γ positions in each bucket of sampling temperature."""

    gamma: int
    _buckets: dict[int, list[_Scaling]] = field(default_factory=dict)

    def survival(self, confidences: Sequence[float], temperature: float) -> list[float]:
        """a_k of one block of g ≤ γ confidences. Raises BackendError for one that is not a number."""
        survival: list[float] = []
        a = 1.0
        for c, scaling in zip(confidences, self._at(temperature), strict=False):
            a *= scaling.share(_logit(c))
            survival.append(a)
        return survival

    def observe(self, confidences: Sequence[float], admitted: int, accepted: int, temperature: float) -> None:
        """Learn from one verified block. What was not admitted says nothing."""
        before = 1.0
        for k, (c, scaling) in enumerate(zip(confidences[:admitted], self._at(temperature), strict=False)):
            z = _logit(c)
            share = scaling.share(z)
            before = a = min(1 - _CLIP, max(_CLIP, before * share))
            # log loss of a = before·share by share's logit: first derivative, and the expected second
            da = a * (1 - share)
            slope = -da / a if accepted > k else da / (1 - a)
            weight = da * da / (a * (1 - a))
            scaling.zz = _MEMORY * scaling.zz + (1 - _MEMORY) * _TRUST + weight * z * z
            scaling.z = _MEMORY * scaling.z + weight * z
            scaling.one = _MEMORY * scaling.one + (1 - _MEMORY) * _TRUST + weight
            scaling.move(slope * z, slope, most=_STEP)

    def fit(self, confidences: Shares, admitted: npt.ArrayLike, accepted: npt.ArrayLike, temperature: float) -> None:
        """Fit a bucket from n recorded blocks: `confidences` [n, γ], `admitted` and `accepted` [n].

        Raises BackendError for a confidence that is not a number.

        Position k uses the blocks that admitted it: admission looked at confidences only, so this does not bias.
        """
        verified, right = np.asarray(admitted), np.asarray(accepted)
        if np.isnan(confidences).any():
            raise BackendError(_NOT_A_NUMBER)
        clipped = np.clip(confidences, _CLIP, 1 - _CLIP)
        logits = np.log(clipped / (1 - clipped))
        before = np.ones(len(logits))
        self._buckets[_bucket(temperature)] = fitted = []
        for k in range(self.gamma):
            use = verified > k
            scaling = _fit(logits[use, k], right[use] > k, before[use])
            before = before / (1 + np.exp(-(scaling.scale * logits[:, k] + scaling.shift)))
            fitted.append(scaling)

    @classmethod
    def load(cls, path: Path, pair: str, *, gamma: int) -> Self:
        """What was kept for a pair; raw confidences when there is nothing sound."""
        try:
            kept = store.read(path, pair)
            entries = kept.items() if isinstance(kept, dict) else ()
            buckets = {int(t): [_Scaling(*map(_number, s)) for s in rows] for t, rows in entries}
            if all(len(rows) == gamma for rows in buckets.values()):
                return cls(gamma, buckets)
        except (TypeError, ValueError, AttributeError):
            pass
        return cls(gamma)

    def save(self, path: Path, pair: str) -> None:
        """Keep it for a pair."""
        rows = {str(t): [[s.scale, s.shift, s.zz, s.z, s.one] for s in row] for t, row in self._buckets.items()}
        store.write(path, pair, rows)

    def _at(self, temperature: float) -> list[_Scaling]:
        bucket = _bucket(temperature)
        if bucket not in self._buckets:
            self._buckets[bucket] = [_Scaling() for _ in range(self.gamma)]
        return self._buckets[bucket]


def _bucket(temperature: float) -> int:
    return sum(temperature > edge for edge in _EDGES)


def _logit(c: float) -> float:
    if c != c:  # noqa: PLR0124 - NaN, and this is asked of every draft
        raise BackendError(_NOT_A_NUMBER)
    clipped = min(1 - _CLIP, max(_CLIP, c))
    return math.log(clipped / (1 - clipped))


def _fit(z: Shares, right: npt.NDArray[np.bool_], before: Shares) -> _Scaling:
    scaling = _Scaling()
    for _ in range(20):
        share = 1 / (1 + np.exp(-(scaling.scale * z + scaling.shift)))
        a = (before * share).clip(_CLIP, 1 - _CLIP)
        da = a * (1 - share)
        slope = np.where(right, -da / a, da / (1 - a))
        weight = da * da / (a * (1 - a))
        scaling.zz = _TRUST + float(weight @ (z * z))
        scaling.z = float(weight @ z)
        scaling.one = _TRUST + float(weight.sum())
        pull_z, pull = _TRUST * (scaling.scale - 1), _TRUST * scaling.shift
        scaling.move(float(slope @ z) + pull_z, float(slope.sum()) + pull, most=1.0)
    share_kept = min(1.0, _TRUST / (1 - _MEMORY) / scaling.one)  # no more than rounds would have left behind
    scaling.zz, scaling.z, scaling.one = (share_kept * x for x in (scaling.zz, scaling.z, scaling.one))
    return scaling


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)
