"""Rounds replayed on known text: what a lossless engine would have done with the drafts after every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """`rounds` replayed, `tokens` that they committed, and in how many of them slot k was accepted [γ]."""

    rounds: int
    tokens: int
    accepted: npt.NDArray[np.int64]

    @property
    def accepted_length(self) -> float:
        """Tokens per round, the target's own included."""
        return self.tokens / max(1, self.rounds)

    @property
    def shares(self) -> list[float]:
        """Share of the rounds in which slot k was accepted."""
        return [int(n) / max(1, self.rounds) for n in self.accepted]

    @classmethod
    def of(cls, texts: Iterable[npt.NDArray[np.bool_]], gamma: int) -> Self:
        """Texts, each as `agreed [n, γ]`: whether slot k, drafted behind the anchor before token i, is the text's."""
        rounds = tokens = 0
        accepted = np.zeros(gamma, np.int64)
        for agreed in texts:
            kept = agreed.astype(np.int64).cumprod(axis=1)
            at = 0
            while at < len(kept):
                run = int(kept[at].sum())
                rounds, tokens = rounds + 1, tokens + min(run + 1, len(kept) - at)
                accepted += kept[at]
                at += run + 1
        return cls(rounds, tokens, accepted)
