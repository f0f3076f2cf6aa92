"""The one rule that picks tokens: argmax_v( log P(v) + g(seed, choice, position, v) ).

Target and drafter pick by it with the same noise, so a draft is accepted when it is what the target picks, and the
text is the target's own sample whatever was drafted. See Daliri, Musco, Suresh 2024, *Coupling without
communication and drafter-invariant speculative decoding*.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.sampling.noise import gumbel
from dspark_local.sampling.truncation import Ids, Logits, candidates

SPREAD = 12.0  # nats below the likeliest token where the group begins; a part of what a seed means
LEAST_TEMPERATURE = 1e-6
GROUP = np.array([2**62])  # the group's counter in the noise: no token's
Scores = npt.NDArray[np.float64]

if TYPE_CHECKING:
    from dspark_local.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Sampler:
    """Sampling parameters with their seed settled."""

    params: SamplingParams
    seed: int

    @classmethod
    def of(cls, params: SamplingParams) -> Sampler:
        """Sampler of `params`; a seed is drawn when they have none."""
        return cls(params, secrets.randbits(32) if params.seed is None else params.seed)

    @property
    def greedy(self) -> bool:
        """Whether a pick is the largest logit: at temperature 0, or so near that noise could not matter."""
        return self.params.temperature < LEAST_TEMPERATURE

    def pick(self, logits: Logits, position: int) -> int:
        """Token at absolute `position` for logits of shape [n_vocab]; of equal scores the smaller id wins."""
        if self.greedy:
            return int(np.argmax(logits))
        ids = candidates(logits, self.params)
        return self._draw(logits, position) if ids is None else int(ids[self._draw(logits[ids], position, ids)])

    def _draw(self, logits: Logits, position: int, ids: Ids | None = None) -> int:
        """Index of the winner among `logits`, whose tokens are `ids`, or all.

        Tokens far below the likeliest draw as a group: the maximum of their noisy scores is Gumbel noise at the
        logarithm of their mass. Only if the group wins is its own winner drawn, by the tokens' own noise, which the
        group's does not depend on. So the draw is exact, and seldom hashes more than a small part of a vocabulary.
        """
        temperature, top = self.params.temperature, float(logits.max())
        head = np.flatnonzero(logits >= top - SPREAD * temperature)
        scores = self._scores(logits, head, position, ids, top)
        best = int(np.argmax(scores))
        if head.size == logits.size:
            return best
        weights = np.exp((logits - np.float32(top)) / np.float32(temperature))
        weights[head] = 0
        mass = float(weights.sum(dtype=np.float64))
        if not mass or scores[best] >= math.log(mass) + self._noise(position, GROUP)[0]:
            return int(head[best])
        tail = np.flatnonzero(weights)
        return int(tail[np.argmax(self._scores(logits, tail, position, ids, top))])

    def _scores(self, logits: Logits, at: Ids, position: int, ids: Ids | None, top: float) -> Scores:
        tokens = at if ids is None else ids[at]
        return (logits[at].astype(np.float64) - top) / self.params.temperature + self._noise(position, tokens)

    def _noise(self, position: int, tokens: Ids) -> Scores:
        return gumbel(self.seed, self.params.choice, position, tokens)
