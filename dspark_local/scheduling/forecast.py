"""What is believed of a block before it is drafted: survival by position, from what the text's last blocks showed.

One logistic regression for each position's conditional acceptance, learned from every block by Newton steps. The
features are how often drafts were accepted lately, at three speeds, and what the last block's confidences said, above
all at the draft that was refused: where text is hard, it is hard a token later too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dspark_local.scheduling import store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Floats = npt.NDArray[np.float64]
Counts = tuple[float, float, float]  # at three speeds of forgetting

_FADING = (0.6, 0.9, 0.98)  # of what was counted, at each block, and at each round without one
_KEPT = (0.0, 0.0, 0.2)  # of it, when another text begins
_PRIOR = 2.0  # drafts' worth of the long-run rate, in every count
_AGING = 0.8  # of what the last block's confidences said, at each round without a block
_LONG_RUN = 0.998  # memory of the rate over all texts, a block
_START = 0.75  # acceptance of a drafter that nothing is known of
_MEMORY = 0.999  # of the curvature at each block: some thousand blocks
_TRUST = 20.0  # curvature that holds the first weights as they are
_BLOCKS = 8  # to a step of learning
_UNSEEN = 0.2  # weight of a draft that was not reached
_CLIP = 0.01  # of chances, before logarithms
_SURE = math.log((1 - _CLIP) / _CLIP)
# fast, middle and slow rate, refused, mean, first block of a text, 1
_WEIGHTS = (0.1, 0.5, 0.0, 0.2, 0.2, 0.0, 0.0)


@dataclass(slots=True)
class History:
    """What the blocks of one slot showed, the latest most.

    `refused` is the confidence, as a logit, at the last block's first draft that was not accepted, `mean` that over
    the block; `silent` counts rounds without a block since, and `first` says that this text has had none.
    """

    hits: Counts = (0.0, 0.0, 0.0)
    trials: Counts = (0.0, 0.0, 0.0)
    refused: float | None = None
    mean: float | None = None
    silent: int = 0
    first: bool = True
    _unaged: int = 0  # rounds that the counts have yet to fade by

    def renew(self) -> None:
        """Another text begins."""
        self._age()
        self._fade(*_KEPT)
        self.refused = self.mean = None
        self.first = True

    def wait(self) -> None:
        """A round without a block: what is known ages."""
        self.silent += 1
        self._unaged += 1

    def add(self, shares: Sequence[float], admitted: int, accepted: int) -> None:
        """A block whose drafts had the chances `shares`, none if unknown, and of which `accepted` came true."""
        self._unaged += 1
        self._age()
        self.silent, self.first = 0, False
        reached = accepted + 1 if accepted < admitted else admitted
        (h0, h1, h2), (t0, t1, t2) = self.hits, self.trials
        self.hits = (h0 + accepted, h1 + accepted, h2 + accepted)
        self.trials = (t0 + reached, t1 + reached, t2 + reached)
        if shares:
            self.refused = _logit(shares[accepted] if accepted < len(shares) else shares[-1])
            self.mean = _logit(sum(shares) / len(shares))

    def features(self, rate: float) -> list[float]:
        """[7], in the order of the weights; what is unknown is as the long-run `rate` has it."""
        self._age()
        base = refused = mean = _logit(rate)
        (h0, h1, h2), (t0, t1, t2) = self.hits, self.trials
        usual = _PRIOR * rate
        if self.refused is not None and self.mean is not None:
            age = _AGING**self.silent
            refused, mean = base + age * (self.refused - base), base + age * (self.mean - base)
        return [
            _logit((h0 + usual) / (t0 + _PRIOR)),
            _logit((h1 + usual) / (t1 + _PRIOR)),
            _logit((h2 + usual) / (t2 + _PRIOR)),
            refused,
            mean,
            float(self.first),
            1.0,
        ]

    def _age(self) -> None:
        """Fade by the rounds since it was last asked."""
        if self._unaged:
            fast, middle, slow = (share**self._unaged for share in _FADING)
            self._fade(fast, middle, slow)
            self._unaged = 0

    def _fade(self, fast: float, middle: float, slow: float) -> None:
        (h0, h1, h2), (t0, t1, t2) = self.hits, self.trials
        self.hits, self.trials = (h0 * fast, h1 * middle, h2 * slow), (t0 * fast, t1 * middle, t2 * slow)


class Forecast:
    """Conditional acceptance at γ positions. It is a pair's, shared by all slots and texts."""

    __slots__ = ("_curvature", "_hits", "_trials", "_waiting", "_weights")

    def __init__(self, gamma: int) -> None:
        self._weights: Floats = np.tile(np.array(_WEIGHTS), (gamma, 1))
        self._curvature: Floats = np.tile(_TRUST * np.eye(len(_WEIGHTS)), (gamma, 1, 1))  # of the log loss
        self._hits, self._trials = _START * _PRIOR, _PRIOR
        self._waiting: list[tuple[Sequence[float], list[float], int]] = []

    @property
    def rate(self) -> float:
        """Share of drafts accepted in the long run, those behind a refused one not counted."""
        return self._hits / self._trials

    def survival(self, features: Sequence[Sequence[float]]) -> list[list[float]]:
        """a_k of blocks not yet drafted, falling: [n, γ] for features [n, 7]."""
        shares = _sigmoid(np.array(features) @ self._weights.T)
        survival: list[list[float]] = shares.cumprod(axis=1).tolist()
        return survival

    def learn(self, features: Sequence[float], shares: Sequence[float], admitted: int, accepted: int) -> None:
        """Take in a block whose drafts had the chances `shares`, none if unknown.

        `admitted` drafts were verified and `accepted` came true; one that was not reached counts a little, as what its
        chance says. A few blocks are learned from together: a step costs no more for all of them.
        """
        reached = min(accepted + 1, admitted)
        self._hits = _LONG_RUN * self._hits + accepted
        self._trials = _LONG_RUN * self._trials + reached
        outcome = [*[1.0] * accepted, *[0.0] * (reached - accepted), *shares[reached:]]
        self._waiting.append((features, outcome, reached))
        if len(self._waiting) == _BLOCKS:
            self._step()

    def _step(self) -> None:
        gamma = len(self._weights)
        x = np.array([features for features, _, _ in self._waiting])
        outcome, weight = np.zeros((2, len(x), gamma))
        for n, (_, known, reached) in enumerate(self._waiting):
            outcome[n, : len(known)] = known
            weight[n, : len(known)] = _UNSEEN
            weight[n, :reached] = 1.0
        share = _sigmoid(x @ self._weights.T)
        kept = (_MEMORY ** weight.sum(axis=0))[:, None, None]
        self._curvature = kept * self._curvature + (1 - kept) * _TRUST * np.eye(x.shape[1])
        self._curvature += np.einsum("nk,ni,nj->kij", weight * share * (1 - share), x, x)
        slopes = np.einsum("nk,ni->ki", weight * (share - outcome), x)
        self._weights -= np.linalg.solve(self._curvature, slopes[..., None])[..., 0]
        self._waiting = []

    @classmethod
    def load(cls, path: Path, pair: str, *, gamma: int) -> Self:
        """What was kept for a pair; one that has learned nothing when there is nothing sound."""
        fresh = cls(gamma)
        try:
            kept = store.read(path, pair)
            assert isinstance(kept, dict)
            weights, curvature = (np.array(kept[name], np.float64) for name in ("weights", "curvature"))
            hits, trials = float(kept["hits"]), float(kept["trials"])
            assert weights.shape == fresh._weights.shape
            assert curvature.shape == fresh._curvature.shape
            assert np.isfinite(weights).all()
            assert (np.linalg.eigvalsh(curvature) > 0).all()
            assert 0 <= hits <= trials < math.inf
            assert trials > 0
        except (AssertionError, TypeError, ValueError, KeyError, np.linalg.LinAlgError):  # none, or not of this sort
            return fresh
        fresh._weights, fresh._curvature, fresh._hits, fresh._trials = weights, curvature, hits, trials
        return fresh

    def save(self, path: Path, pair: str) -> None:
        """Keep it for a pair."""
        if self._waiting:
            self._step()
        kept: dict[str, object] = {"weights": self._weights.tolist(), "curvature": self._curvature.tolist()}
        store.write(path, pair, {**kept, "hits": self._hits, "trials": self._trials})


def _logit(share: float) -> float:
    if share < _CLIP:
        return -_SURE
    return math.log(share / (1 - share)) if share < 1 - _CLIP else _SURE


def _sigmoid(z: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(-z))
    return share
