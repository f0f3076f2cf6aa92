"""What is believed of a block before it is drafted: survival by position, from what the text's last blocks showed.

One logistic regression for each position's conditional acceptance, learned from every block (AdaGrad; Duchi, Hazan,
Singer 2011). The features are how often drafts were accepted lately, at three speeds, and what the last block's
confidences said, above all at the draft that was refused: where text is hard, it is hard a token later too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dspark_local.scheduling import store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Floats = npt.NDArray[np.float64]

_FADING = (0.6, 0.9, 0.98)  # of what was counted, at each block, and at each round without one
_KEPT = (0.0, 0.0, 0.2)  # of it, when another text begins
_PRIOR = 2.0  # drafts' worth of the long-run rate, in every count
_AGING = 0.8  # of what the last block's confidences said, at each round without a block
_LONG_RUN = 0.998  # memory of the rate over all texts, a block
_START = 0.75  # acceptance of a drafter that nothing is known of
_RATE = 0.1  # of learning
_UNSEEN = 0.2  # weight of a draft that was not reached
_CLIP = 0.01  # of chances, before logarithms
# fast, middle and slow rate, refused, mean, first block of a text, 1
_WEIGHTS = (0.1, 0.5, 0.0, 0.2, 0.2, 0.0, 0.0)


@dataclass(slots=True)
class History:
    """What the blocks of one slot showed, the latest most.

    `refused` is the confidence, as a logit, at the last block's first draft that was not accepted, `mean` that over
    the block; `silent` counts rounds without a block since, and `first` says that this text has had none.
    """

    hits: list[float] = field(default_factory=lambda: [0.0] * 3)
    trials: list[float] = field(default_factory=lambda: [0.0] * 3)
    refused: float | None = None
    mean: float | None = None
    silent: int = 0
    first: bool = True

    def renew(self) -> None:
        """Another text begins."""
        self._fade(_KEPT)
        self.refused = self.mean = None
        self.first = True

    def wait(self) -> None:
        """A round without a block: what is known ages."""
        self.silent += 1
        self._fade(_FADING)

    def add(self, shares: Sequence[float], admitted: int, accepted: int) -> None:
        """A block whose drafts had the chances `shares`, none if unknown, and of which `accepted` came true."""
        self.silent, self.first = 0, False
        self._fade(_FADING)
        self.hits = [n + accepted for n in self.hits]
        self.trials = [n + min(accepted + 1, admitted) for n in self.trials]
        if shares:
            self.refused = _logit(shares[min(accepted, len(shares) - 1)])
            self.mean = _logit(sum(shares) / len(shares))

    def features(self, rate: float) -> list[float]:
        """[7], in the order of the weights; what is unknown is as the long-run `rate` has it."""
        base, age = _logit(rate), _AGING**self.silent
        counts = zip(self.hits, self.trials, strict=True)
        lately = [_logit((hits + _PRIOR * rate) / (trials + _PRIOR)) for hits, trials in counts]
        said = [base if z is None else base + age * (z - base) for z in (self.refused, self.mean)]
        return [*lately, *said, float(self.first), 1.0]

    def _fade(self, by: Iterable[float]) -> None:
        fading = tuple(by)
        self.hits = [n * share for n, share in zip(self.hits, fading, strict=True)]
        self.trials = [n * share for n, share in zip(self.trials, fading, strict=True)]


class Forecast:
    """Conditional acceptance at γ positions. It is a pair's, shared by all slots and texts."""

    __slots__ = ("_hits", "_squares", "_trials", "_weights")

    def __init__(self, gamma: int) -> None:
        self._weights: Floats = np.tile(np.array(_WEIGHTS), (gamma, 1))
        self._squares: Floats = np.ones_like(self._weights)  # of all slopes so far
        self._hits, self._trials = _START * _PRIOR, _PRIOR

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
        chance says.
        """
        reached = min(accepted + 1, admitted)
        self._hits = _LONG_RUN * self._hits + accepted
        self._trials = _LONG_RUN * self._trials + reached
        outcome = np.array([*[1.0] * accepted, *[0.0] * (reached - accepted), *shares[reached:]])
        n, x = outcome.size, np.array(features)
        slopes = np.outer(_sigmoid(self._weights[:n] @ x) - outcome, x)
        slopes[reached:] *= _UNSEEN
        self._squares[:n] += slopes**2
        self._weights[:n] -= _RATE * slopes / np.sqrt(self._squares[:n])

    @classmethod
    def load(cls, path: Path, pair: str, *, gamma: int) -> Self:
        """What was kept for a pair; one that has learned nothing when there is nothing sound."""
        fresh = cls(gamma)
        try:
            kept = store.read(path, pair)
            assert isinstance(kept, dict)
            weights, squares = (np.array(kept[name], np.float64) for name in ("weights", "squares"))
            hits, trials = float(kept["hits"]), float(kept["trials"])
            assert weights.shape == squares.shape == fresh._weights.shape
            assert np.isfinite(weights).all()
            assert (squares >= 1).all()
            assert 0 <= hits <= trials < math.inf
            assert trials > 0
        except (AssertionError, TypeError, ValueError, KeyError):  # none yet, damaged, or of another block size
            return fresh
        fresh._weights, fresh._squares, fresh._hits, fresh._trials = weights, squares, hits, trials
        return fresh

    def save(self, path: Path, pair: str) -> None:
        """Keep it for a pair."""
        kept: dict[str, object] = {"weights": self._weights.tolist(), "squares": self._squares.tolist()}
        store.write(path, pair, {**kept, "hits": self._hits, "trials": self._trials})


def _logit(share: float) -> float:
    clipped = min(1 - _CLIP, max(_CLIP, share))
    return math.log(clipped / (1 - clipped))


def _sigmoid(z: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(-z))
    return share
