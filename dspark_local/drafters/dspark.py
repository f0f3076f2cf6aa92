"""DSpark: a block from the drafter's graph, its tokens picked by the one rule from the drafter's logits.

The graph chains the Markov head by argmax, so after a pick that differs from it the rows behind are biased for
another token: still valid proposals, only less often accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.backend.base import Block
from dspark_local.drafters.base import Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Draft, Drafted, Features
    from dspark_local.sequence import Sequence


class DSpark:
    """Proposes blocks of a DSpark draft model."""

    name = "dspark"

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.block_size = draft.block_size

    @property
    def busy(self) -> float:
        """Seconds spent inside the draft model's decodes so far."""
        return self._draft.busy

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """One block of γ tokens for each sequence, all in one decode."""
        blocks = [Block(s.slot, s.start, s.anchor) for s in sequences]
        drafted = self._draft.draft(blocks, gamma)
        return [_pick(s, d) for s, d in zip(sequences, drafted, strict=True)]

    def observe(self, features: Many[Features]) -> None:
        """Inject the hidden states into the draft cache."""
        self._draft.inject(features)

    def rewind(self, slot: int, n: int) -> None:
        """Forget all but the first n positions of a slot."""
        self._draft.rewind(slot, n)

    def close(self) -> None:
        """Free the draft model."""
        self._draft.close()


def _pick(sequence: Sequence, drafted: Drafted) -> Proposal:
    position = len(sequence.tokens)
    tokens = tuple(sequence.sampler.pick(row, position + k) for k, row in enumerate(drafted.logits))
    confidences = () if drafted.confidences is None else tuple(map(float, drafted.confidences))
    return Proposal(tokens, confidences)
