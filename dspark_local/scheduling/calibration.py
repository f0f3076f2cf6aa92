"""Confidence that means what it says: sequential calibration [P §3.2.1], fitted at once or round by round.

Position by position, with those before it settled, c_k becomes c'_k with logit a·ln c_k − b·ln(1 − c_k) + s such that
survival c'_1·…·c'_k predicts "the first k were accepted" at the least log loss. This is beta calibration (Kull, Silva
Filho, Flach 2017). The paper has a temperature only (a = b = 1/T, s = 0, searched for the least ECE); but its head was
trained for another kind of acceptance than that of drafts coupled by seed, and is sure in one direction only.
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

Floats = npt.NDArray[np.float64]

_CLIP = 1e-6  # of confidences and survivals, before logarithms
_MEMORY = 0.998  # of the curvature at each round: some 500 rounds
_TRUST = 10.0  # rounds' worth of curvature that hold confidences as they are
_STEP = 0.3  # most that one round moves a parameter
_LEAST, _MOST = np.array([0.05, 0.05, -4.0]), np.array([4.0, 4.0, 4.0])  # of a, b and s
_AS_SAID = np.array([1.0, 1.0, 0.0])
_EDGES = (0.0, 0.5, 0.9)  # upper ends of the temperature buckets; above the last is one more
_NOT_A_NUMBER = "the drafter's confidence is not a number; its file is damaged: download or convert it again"


@dataclass(slots=True)
class _Maps:
    """(a, b, s) of each position [γ, 3], and the curvature of the log loss there [γ, 3, 3]."""

    parameters: Floats
    curvature: Floats

    @classmethod
    def fresh(cls, gamma: int) -> Self:
        return cls(np.tile(_AS_SAID, (gamma, 1)), np.tile(_TRUST * np.eye(3), (gamma, 1, 1)))


@dataclass(slots=True)
class Calibration:
    """Maps for γ positions in each bucket of sampling temperature."""

    gamma: int
    _buckets: dict[int, _Maps] = field(default_factory=dict)

    def survival(self, confidences: Sequence[float], temperature: float) -> list[float]:
        """a_k of one block of g ≤ γ confidences. Raises BackendError for one that is not a number."""
        survival: list[float] = []
        reached = 1.0
        for c, (a, b, s) in zip(confidences, self._at(temperature).parameters.tolist(), strict=False):
            clipped = min(1 - _CLIP, max(_CLIP, c))
            if c != c:  # noqa: PLR0124 - NaN, and this is asked of every draft
                raise BackendError(_NOT_A_NUMBER)
            reached /= 1 + math.exp(b * math.log1p(-clipped) - a * math.log(clipped) - s)
            survival.append(reached)
        return survival

    def observe(self, confidences: Sequence[float], admitted: int, accepted: int, temperature: float) -> None:
        """Learn from one verified block. What was not admitted says nothing."""
        maps = self._at(temperature)
        n = min(admitted, len(confidences), self.gamma)
        if not n:
            return
        x = _features(np.array(confidences[:n]))
        share = _sigmoid((x * maps.parameters[:n]).sum(axis=1))
        before = np.concatenate([[1.0], share.cumprod()[:-1]])
        slope, weight = _loss(before, share, np.arange(n) < accepted)
        curvature = maps.curvature[:n]
        curvature += (1 - _MEMORY) * (_TRUST * np.eye(3) - curvature)
        curvature += weight[:, None, None] * x[:, :, None] * x[:, None, :]
        step = np.linalg.solve(curvature, (slope[:, None] * x)[..., None])[..., 0]
        maps.parameters[:n] = (maps.parameters[:n] - step.clip(-_STEP, _STEP)).clip(_LEAST, _MOST)

    def fit(self, confidences: Floats, admitted: npt.ArrayLike, accepted: npt.ArrayLike, temperature: float) -> None:
        """Fit a bucket from n recorded blocks: `confidences` [n, γ], `admitted` and `accepted` [n].

        Position k uses the blocks that admitted it: admission looked at confidences only, so this does not bias.
        Raises BackendError for a confidence that is not a number.
        """
        verified, right = np.asarray(admitted), np.asarray(accepted)
        if np.isnan(confidences).any():
            raise BackendError(_NOT_A_NUMBER)
        before = np.ones(len(confidences))
        self._buckets[_bucket(temperature)] = maps = _Maps.fresh(self.gamma)
        for k in range(self.gamma):
            x, use = _features(confidences[:, k]), verified > k
            maps.parameters[k], maps.curvature[k] = _fit(x[use], right[use] > k, before[use])
            before = before * _sigmoid(x @ maps.parameters[k])

    @classmethod
    def load(cls, path: Path, pair: str, *, gamma: int) -> Self:
        """What was kept for a pair; raw confidences when there is nothing sound."""
        try:
            kept = store.read(path, pair)
            entries = kept.items() if isinstance(kept, dict) else ()
            buckets = {int(t): _Maps(np.array(p, np.float64), np.array(c, np.float64)) for t, (p, c) in entries}
            if all(
                maps.parameters.shape == (gamma, 3)
                and maps.curvature.shape == (gamma, 3, 3)
                and ((maps.parameters >= _LEAST) & (maps.parameters <= _MOST)).all()
                and (np.linalg.eigvalsh(maps.curvature) > 0).all()
                for maps in buckets.values()
            ):
                return cls(gamma, buckets)
        except (TypeError, ValueError, AttributeError, np.linalg.LinAlgError):
            pass
        return cls(gamma)

    def save(self, path: Path, pair: str) -> None:
        """Keep it for a pair."""
        kept = {str(t): [m.parameters.tolist(), m.curvature.tolist()] for t, m in self._buckets.items()}
        store.write(path, pair, kept)

    def _at(self, temperature: float) -> _Maps:
        bucket = _bucket(temperature)
        if bucket not in self._buckets:
            self._buckets[bucket] = _Maps.fresh(self.gamma)
        return self._buckets[bucket]


def _bucket(temperature: float) -> int:
    return sum(temperature > edge for edge in _EDGES)


def _features(confidences: Floats) -> Floats:
    """[n, 3]: ln c, −ln(1 − c), 1."""
    clipped = confidences.clip(_CLIP, 1 - _CLIP)
    return np.stack([np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)], axis=-1)


def _sigmoid(z: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(-z))
    return share


def _loss(before: Floats, share: Floats, right: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """First derivative and expected second of the log loss of before·share, by share's logit."""
    a = (before * share).clip(_CLIP, 1 - _CLIP)
    da = a * (1 - share)
    return np.where(right, -da / a, da / (1 - a)), da * da / (a * (1 - a))


def _fit(x: Floats, right: npt.NDArray[np.bool_], before: Floats) -> tuple[Floats, Floats]:
    parameters = _AS_SAID.copy()
    for _ in range(30):
        slope, weight = _loss(before, _sigmoid(x @ parameters), right)
        curvature = _TRUST * np.eye(3) + (weight[:, None] * x).T @ x
        pull = slope @ x + _TRUST * (parameters - _AS_SAID)
        parameters = (parameters - np.linalg.solve(curvature, pull).clip(-1, 1)).clip(_LEAST, _MOST)
    kept = min(1.0, _TRUST / (1 - _MEMORY) / float(curvature[2, 2]))  # no more than rounds would have left behind
    return parameters, kept * curvature
