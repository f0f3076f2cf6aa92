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
from dspark_local.sampling.truncation import top_k
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
        top = float(self.logits.max())
        within = self.logits >= top - SPREAD * self.temperature
        head = np.flatnonzero(within)
        best, score = self._best(self._scores(head, top), head, constraint)
        if head.size == self.logits.size:
            return best
        group = float(self._noise(GROUP)[0])
        if score >= math.log(self._bound(top, head.size)) + group:
            return best
        weights = np.exp((self.logits - np.float32(top)) / np.float32(self.temperature))
        weights[head] = 0
        if score >= _log(weights) + group:
            return best
        tail = np.flatnonzero(weights)
        if constraint:
            tail = tail[constraint.allowed(self._tokens(tail))]
            if score >= _log(weights[tail]) + group:
                return best
        return self._token(int(tail[np.argmax(self._scores(tail, top))]))

    def _best(self, scores: Logits, at: Ids | None, constraint: Constraint | None) -> tuple[int | None, float]:
        """The best token that is allowed, of those at these indices or of all; and its score: −inf without one."""
        first = int(np.argmax(scores))
        if constraint is None:
            return self._token(first if at is None else int(at[first])), float(scores[first])
        for n in (*_TRIED, 0):  # 0: all of them
            some = np.array([first]) if n == 1 else top_k(scores, n)
            tokens = self._tokens(some if at is None else at[some])
            open_to = constraint.allowed(tokens) & (scores[some] > -np.inf)
            if open_to.any():
                some, tokens = some[open_to], tokens[open_to]
                best = int(np.lexsort((some, -scores[some]))[0])
                return int(tokens[best]), float(scores[some[best]])
            if n >= scores.size:
                break
        return None, -math.inf

    def _bound(self, top: float, n_head: int) -> float:
        near = int(np.count_nonzero(self.logits >= top - _FAR * self.temperature)) - n_head
        far = self.logits.size - n_head - near
        return (near * math.exp(-SPREAD) + far * math.exp(-_FAR)) * _ROUNDING

    def _scores(self, at: Ids, top: float) -> Scores:
        return (self.logits[at].astype(np.float64) - top) / self.temperature + self._noise(self._tokens(at))

    def _tokens(self, at: Ids) -> Ids:
        return at if self.ids is None else self.ids[at]

    def _token(self, at: int) -> int:
        return at if self.ids is None else int(self.ids[at])

    def _noise(self, tokens: Ids) -> Scores:
        return gumbel(self.seed, self.choice, self.position, tokens)


def _log(weights: Logits) -> float:
    mass = float(weights.sum(dtype=np.float64))
    return math.log(mass) if mass else -math.inf
