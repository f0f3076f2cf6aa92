"""Confidence that means what it says: sequential calibration [P §3.2.1], fitted at once or round by round.

Position by position, with those before it settled, c_k becomes c'_k with logit a·ln c_k − b·ln(1 − c_k) + s such that
survival c'_1·…·c'_k predicts "the first k were accepted" at the least log loss. This is beta calibration (Kull, Silva
Filho, Flach 2017). The paper has a temperature only (a = b = 1/T, s = 0, searched for the least ECE); but its head was
trained for another kind of acceptance than that of drafts coupled by seed, and is sure in one direction only.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dspark_local.errors import BackendError
from dspark_local.scheduling import store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Floats = npt.NDArray[np.float64]

_CLIP = 1e-6  # of confidences and survivals, before logarithms
_MEMORY = 0.998  # of the curvature at each round: some 500 rounds
_TRUST = 10.0  # rounds' worth of curvature that hold confidences as they are
_BLOCKS = 8  # to a step
_STEP = 1.0  # most that one moves a parameter
_LEAST, _MOST = np.array([0.05, 0.05, -4.0]), np.array([4.0, 4.0, 4.0])  # of a, b and s
_AS_SAID = np.array([1.0, 1.0, 0.0])
_EDGES = (0.0, 0.5, 0.9)  # upper ends of the temperature buckets; above the last is one more
_NOT_A_NUMBER = "the drafter's confidence is not a number; its file is damaged: download or convert it again"


@dataclass(frozen=True, slots=True)
class _Block:
    """A verified block: its confidences, how many drafts were admitted, and how many of those came true."""

    confidences: Sequence[float]
    admitted: int
    accepted: int


@dataclass(slots=True)
class _Maps:
    """(a, b, s) of each position [γ, 3], the curvature of the log loss there [γ, 3, 3], and blocks to learn from."""

    parameters: Floats
    curvature: Floats
    waiting: list[_Block] = field(default_factory=list)
    _listed: list[tuple[float, float, float]] | None = None

    @classmethod
    def fresh(cls, gamma: int) -> Self:
        return cls(np.tile(_AS_SAID, (gamma, 1)), np.tile(_TRUST * np.eye(3), (gamma, 1, 1)))

    @property
    def listed(self) -> list[tuple[float, float, float]]:
        """What a round needs of each position as plain numbers: a, b and e^−s."""
        if self._listed is None:
            self._listed = [(a, b, math.exp(-s)) for a, b, s in self.parameters.tolist()]
        return self._listed

    def learn(self) -> None:
        """One Newton step by the blocks that wait."""
        blocks, gamma = self.waiting, len(self.parameters)
        said = np.full((len(blocks), gamma), 0.5)
        for row, block in zip(said, blocks, strict=True):
            row[: len(block.confidences)] = block.confidences
        position = np.arange(gamma)
        seen = position < np.array([[b.admitted] for b in blocks])
        right = position < np.array([[b.accepted] for b in blocks])
        x = _features(said)
        share = _sigmoid((x * self.parameters).sum(axis=2))
        before = np.concatenate([np.ones((len(blocks), 1)), share.cumprod(axis=1)[:, :-1]], axis=1)
        slope, weight = (seen * loss for loss in _loss(before, share, right))
        kept = (_MEMORY ** seen.sum(axis=0))[:, None, None]
        self.curvature = kept * self.curvature + (1 - kept) * _TRUST * np.eye(3)
        self.curvature += np.einsum("nk,nki,nkj->kij", weight, x, x)
        self.parameters = _moved(self.parameters, np.einsum("nk,nki->ki", slope, x), self.curvature)
        self.waiting, self._listed = [], None


@dataclass(slots=True)
class Calibration:
    """Maps for γ positions in each bucket of sampling temperature."""

    gamma: int
    _buckets: dict[int, _Maps] = field(default_factory=dict)

    def shares(self, confidences: Iterable[float], temperature: float) -> list[float]:
        """c'_k of one block of g ≤ γ confidences. Raises BackendError for one that is not a number."""
        shares: list[float] = []
        for c, (a, b, e) in zip(confidences, self._at(temperature).listed, strict=False):
            if not _CLIP <= c <= 1 - _CLIP:
                if math.isnan(c):
                    raise BackendError(_NOT_A_NUMBER)
                c = min(1 - _CLIP, max(_CLIP, c))  # noqa: PLW2901 - asked of every draft
            shares.append(1 / (1 + e * (1 - c) ** b / c**a))
        return shares

    def survival(self, confidences: Iterable[float], temperature: float) -> list[float]:
        """a_k of one block: products of `shares`, which says what it raises."""
        return list(accumulate(self.shares(confidences, temperature), mul))

    def observe(self, confidences: Sequence[float], admitted: int, accepted: int, temperature: float) -> None:
        """Learn from one verified block, together with the next few: a step costs no more for all of them.

        What was not admitted says nothing.
        """
        maps = self._at(temperature)
        n = min(admitted, len(confidences), self.gamma)
        if n:
            maps.waiting.append(_Block(confidences[:n], n, accepted))
        if len(maps.waiting) == _BLOCKS:
            maps.learn()

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
        for maps in self._buckets.values():
            if maps.waiting:
                maps.learn()
        kept = {str(t): [m.parameters.tolist(), m.curvature.tolist()] for t, m in self._buckets.items()}
        store.write(path, pair, kept)

    def _at(self, temperature: float) -> _Maps:
        bucket = _bucket(temperature)
        if bucket not in self._buckets:
            self._buckets[bucket] = _Maps.fresh(self.gamma)
        return self._buckets[bucket]


def _bucket(temperature: float) -> int:
    return bisect_left(_EDGES, temperature)


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


def _moved(parameters: Floats, pull: Floats, curvature: Floats) -> Floats:
    """One Newton step of (a, b, s) [..., 3] within their bounds: one that is pulled against its bound stays there.

    The others go where is best for them then, not where they would if it could follow.
    """
    free = ~((parameters <= _LEAST) & (pull > 0) | (parameters >= _MOST) & (pull < 0))
    within = np.where(free[..., :, None] & free[..., None, :], curvature, np.eye(3))
    step = np.linalg.solve(within, (free * pull)[..., None])[..., 0]
    moved: Floats = (parameters - step.clip(-_STEP, _STEP)).clip(_LEAST, _MOST)
    return moved


def _fit(x: Floats, right: npt.NDArray[np.bool_], before: Floats) -> tuple[Floats, Floats]:
    parameters = _AS_SAID.copy()
    for _ in range(30):
        slope, weight = _loss(before, _sigmoid(x @ parameters), right)
        curvature = _TRUST * np.eye(3) + (weight[:, None] * x).T @ x
        pull = slope @ x + _TRUST * (parameters - _AS_SAID)
        parameters = _moved(parameters, pull, curvature)
    kept = min(1.0, _TRUST / (1 - _MEMORY) / float(curvature[2, 2]))  # no more than rounds would have left behind
    return parameters, kept * curvature
