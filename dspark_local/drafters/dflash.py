"""DFlash: blocks without a Markov chain, whose confidence is the share that a row gives its token.

In the first version every row stands for itself. The second chooses among k candidates a row, each scored behind each
candidate of the row before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.drafters.base import Proposal, share
from dspark_local.drafters.dspark import DSpark

if TYPE_CHECKING:
    from dspark_local.backend.base import Drafted, Floats, Lattice
    from dspark_local.sequence import Sequence


class DFlash(DSpark):
    """Proposes blocks of a DFlash draft model, of either version; hidden states go in as DSpark's do."""

    name = "dflash"

    def _pick(self, sequence: Sequence, drafted: Drafted) -> Proposal:
        """A token for each row, up to where the grammar, should there be one, leaves the drafter none."""
        return self._through(drafted.lattice, sequence) if drafted.lattice else self._each(drafted.logits, sequence)

    def _each(self, rows: Floats, sequence: Sequence) -> Proposal:
        tokens: list[int] = []
        confidences: list[float] = []
        walk = sequence.walk.fork()
        for logits in rows:
            token = walk.pick(logits)
            if token is None:
                break
            tokens.append(token)
            confidences.append(share(logits, token))
        return Proposal(tuple(tokens), tuple(confidences), self.name)

    def _through(self, lattice: Lattice, sequence: Sequence) -> Proposal:
        tokens: list[int] = []
        confidences: list[float] = []
        walk = sequence.walk.fork()
        before = 0
        for ids, scores in zip(lattice.ids, lattice.scores, strict=True):
            order = np.argsort(ids)
            token = walk.pick(scores[before, order], ids[order])
            if token is None:
                break
            chosen = int(np.flatnonzero(ids == token)[0])
            tokens.append(token)
            confidences.append(share(scores[before], chosen))
            before = chosen
        return Proposal(tuple(tokens), tuple(confidences), self.name)
