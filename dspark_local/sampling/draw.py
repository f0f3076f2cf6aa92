"""One draw: argmax_v( logit(v) / T + g(v) ), exact, and seldom hashing more than a small part of a vocabulary.

Tokens far below the likeliest draw as a group: the maximum of their noisy scores is Gumbel noise at the logarithm of
their mass. Only if the group wins is its own winner drawn, by the tokens' own noise, which the group's does not depend
on. Under a constraint the partition stays, and only what is allowed takes part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.sampling.noise import gumbel
from dspark_local.sampling.peaks import Peaks
from dspark_local.types import LEAST_TEMPERATURE

if TYPE_CHECKING:
    from dspark_local.sampling.constraint import Constraint
    from dspark_local.sampling.truncation import Ids, Logits

SPREAD = 12.0  # nats below the likeliest token where the group begins; a part of what a seed means
GROUP = np.array([2**62])  # the group's counter in the noise: no token's
_FAR = 16.0  # nats below the likeliest: one count there bounds the group's mass closely enough to spare most sums
_ROUNDING = 1 + 1e-4  # by which weights in 32 bits may exceed their bound
_TRIED = (1, 32, 1024)  # a constraint looks at so many of the best tokens, then at all
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Draw:
    """Logits [n] of `ids`, ascending, or of all tokens where None, for a draw at `position` at a temperature."""

    logits: Logits
    ids: Ids | None
    temperature: float
    seed: int
    choice: int
    position: int

    def winner(self, constraint: Constraint | None = None) -> int | None:
        """The token drawn; of equal scores the smaller id wins. None if the constraint allows none of `ids`."""
        if self.temperature < LEAST_TEMPERATURE:
            return self._best(self.logits, None, constraint)[0]
        peaks = Peaks.of(self.logits)
        top = peaks.top
        head = peaks.at_least(top - SPREAD * self.temperature)
        if head.size == self.logits.size:
            return self._best(self._scores(head, top, self._noise(self._tokens(head))), None, constraint)[0]
        noise = self._noise(np.concatenate((self._tokens(head), GROUP)))
        best, score = self._best(self._scores(head, top, noise[:-1]), head, constraint)
        group = self._group(top, head, score, float(noise[-1]), constraint)
        if group is None:
            return best
        return self._token(int(group[np.argmax(self._scores(group, top, self._noise(self._tokens(group))))]))

    def _group(self, top: float, head: Ids, score: float, noise: float, constraint: Constraint | None) -> Ids | None:
        """The group's tokens, if it wins over `score`; its mass is summed only where a bound does not decide."""
        n = self.logits.size - head.size
        if score >= math.log(_weight(n, n)) + noise:
            return None
        near = int(np.count_nonzero(self.logits >= top - _FAR * self.temperature)) - head.size
        if score >= math.log(_weight(n, near)) + noise:
            return None
        weights = np.exp((self.logits - np.float32(top)) / np.float32(self.temperature))
        weights[head] = 0
        if score >= _log(weights) + noise:
            return None
        group = np.flatnonzero(weights)
        if constraint:
            group = group[constraint.allowed(self._tokens(group))]
            if score >= _log(weights[group]) + noise:
                return None
        return group

    def _best(self, scores: Logits, at: Ids | None, constraint: Constraint | None) -> tuple[int | None, float]:
        """The best token that is allowed, of those at these indices or of all; and its score: −inf without one."""
        first = int(scores.argmax())
        if constraint is None:
            return self._token(first if at is None else int(at[first])), float(scores[first])
        for n in (*_TRIED, scores.size):
            some = np.array([first]) if n == 1 else Peaks.of(scores).largest(n)
            tokens = self._tokens(some if at is None else at[some])
            open_to = constraint.allowed(tokens) & (scores[some] > -np.inf)
            if open_to.any():
                some, tokens = some[open_to], tokens[open_to]
                best = int(np.lexsort((some, -scores[some]))[0])
                return int(tokens[best]), float(scores[some[best]])
            if n >= scores.size:
                break
        return None, -math.inf

    def _scores(self, at: Ids, top: float, noise: Scores) -> Scores:
        scores = (self.logits if at.size == self.logits.size else self.logits[at]).astype(np.float64)
        scores -= top
        scores /= self.temperature
        scores += noise
        return scores

    def _tokens(self, at: Ids) -> Ids:
        return at if self.ids is None else self.ids[at]

    def _token(self, at: int) -> int:
        return at if self.ids is None else int(self.ids[at])

    def _noise(self, tokens: Ids) -> Scores:
        return gumbel(self.seed, self.choice, self.position, tokens)


def _weight(n: int, near: int) -> float:
    """More than n tokens of the group can weigh together, if so many of them are near."""
    return (near * math.exp(-SPREAD) + (n - near) * math.exp(-_FAR)) * _ROUNDING


def _log(weights: Logits) -> float:
    mass = float(weights.sum(dtype=np.float64))
    return math.log(mass) if mass else -math.inf
