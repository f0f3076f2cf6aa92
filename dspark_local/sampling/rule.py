"""The one rule that picks tokens: argmax_v( log P(v) + g(seed, choice, position, v) ).

Target and drafter pick by it with the same noise, so a draft is accepted when it is what the target picks, and the
text is the target's own sample whatever was drafted. See Daliri, Musco, Suresh 2024, *Coupling without
communication and drafter-invariant speculative decoding*.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.sampling.noise import gumbel
from dspark_local.sampling.truncation import Logits, candidates

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

    def pick(self, logits: Logits, position: int) -> int:
        """Token at absolute `position` for logits of shape [n_vocab]; of equal scores the smaller id wins."""
        params = self.params
        if params.temperature <= 0:
            return int(np.argmax(logits))
        ids = np.sort(candidates(logits, params))
        scores = logits[ids].astype(np.float64) / params.temperature
        scores += gumbel(self.seed, params.choice, position, ids)
        return int(ids[np.argmax(scores)])
