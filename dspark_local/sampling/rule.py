"""The one rule that picks tokens: argmax_v( log P(v) + g(seed, choice, position, v) ).

Target and drafter pick by it with the same noise, so a draft is accepted when it is what the target picks, and the
text is the target's own sample whatever was drafted. See Daliri, Musco, Suresh 2024, *Coupling without
communication and drafter-invariant speculative decoding*.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.sampling.draw import Draw
from dspark_local.sampling.penalties import Row, penalised
from dspark_local.sampling.temperature import temperature
from dspark_local.sampling.truncation import candidates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.sampling.constraint import Constraint
    from dspark_local.sampling.dry import Breakers
    from dspark_local.sampling.truncation import Ids, Logits
    from dspark_local.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Sampler:
    """Sampling parameters with their seed settled, and what of them the vocabulary decides.

    `breakers` stop DRY's repetitions; `constraint` is the grammar before the first token.
    """

    params: SamplingParams
    seed: int
    breakers: Breakers = field(default_factory=dict)
    constraint: Constraint | None = None

    @classmethod
    def of(
        cls, params: SamplingParams, *, breakers: Breakers | None = None, constraint: Constraint | None = None
    ) -> Sampler:
        """Sampler of `params`; a seed is drawn when they have none."""
        seed = secrets.randbits(32) if params.seed is None else params.seed
        return cls(params, seed, breakers or {}, constraint)

    def looks_at(self, most: int) -> bool:
        """Whether a pick depends on no more than the `most` largest logits of a row, whatever came before it."""
        params = self.params
        adds = params.penalises or params.dry_multiplier or params.logit_bias or self.constraint
        return not adds and (params.likeliest or 0 < params.top_k <= most)

    def pick(
        self,
        logits: Logits,
        position: int,
        *,
        ids: Ids | None = None,
        recent: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> int | None:
        """Token at absolute `position` for logits of shape [n_vocab], or [n] of the tokens `ids`, ascending.

        `recent` are the tokens before it, as far as penalties reach back. None if the constraint allows no token.
        What it allows of the truncated set is drawn from; if that is nothing, what truncation leaves of the allowed.
        """
        row = penalised(Row(logits, ids), self.params, recent, self.breakers)
        token = self._draw(row, position, constraint)
        if token is not None or constraint is None:
            return token
        tokens = row.tokens(np.arange(row.logits.size))
        allowed = constraint.allowed(tokens) & (row.logits > -np.inf)
        return self._draw(Row(row.logits[allowed], tokens[allowed]), position, None) if allowed.any() else None

    def _draw(self, row: Row, position: int, constraint: Constraint | None) -> int | None:
        kept = None if self.params.likeliest else candidates(row.logits, self.params)
        if kept is not None:
            row = Row(row.logits[kept], row.tokens(kept))
        heat = temperature(row.logits, self.params)
        return Draw(row.logits, row.ids, heat, self.seed, self.params.choice, position).winner(constraint)
