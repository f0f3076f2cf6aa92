"""The drafter's Markov head, read from its file so that no drafter reads files itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.backend.base import Rebased
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.faults import format_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.candidates import Candidates
    from dspark_local.formats.gguf import GGUF

_SURE = 1e-6  # a sigmoid in 32 bits saturates
Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


class MarkovHead:
    """Rows of W1 and W2 by target token id: after u, v gains W2[v] · W1[u] in its logit [P §3.1].

    `rank` columns. `confidence` [rank] is what the confidence head weighs W1[u] with, None without one.
    Raises ModelFormatError if the file has no Markov head.
    """

    def __init__(self, draft: GGUF) -> None:
        spec = read_draft_spec(draft)
        if not spec.has_markov:
            raise format_fault(draft.path, "has no Markov head (markov_w1.weight)")
        self.rank = spec.markov_rank
        self._w1 = draft.mapped("markov_w1.weight")
        self._w2 = draft.mapped("markov_w2.weight")
        self._scale = np.float32(1)
        if "markov_w2.scale" in draft.tensors:
            self._scale = draft.rows("markov_w2.scale", [0])[0, 0]
        self._row_of = _inverse(draft.ints("d2t"), spec.vocab_size) if spec.has_d2t else None
        self.confidence: Floats | None = None
        if spec.has_confidence_head:
            self.confidence = draft.rows("conf_proj.weight", [0])[0, spec.n_embd :]

    def w1(self, tokens: Sequence[int] | Tokens) -> Floats:
        """W1 of the tokens that were drafted before: [n, rank]."""
        return self._w1[np.asarray(tokens, np.int64)]

    def w2(self, tokens: Sequence[int] | Tokens) -> Floats:
        """W2 of candidate tokens, the optional `markov_w2.scale` applied: [n, rank].

        Zero for a token that a reduced draft vocabulary does not have; its logit is -inf anyhow.
        """
        ids = np.asarray(tokens, np.int64)
        if self._row_of is None:
            return self._w2[ids] * self._scale
        rows = self._row_of[ids]
        found = self._w2[np.maximum(rows, 0)] * self._scale
        found[rows < 0] = 0
        return found

    def rebase(self, row: Candidates, confidence: float, chained: int, previous: int) -> Rebased:
        """A row of a block, drafted behind `chained`, as it had been behind `previous`.

        logits'(v) = logits(v) + W2[v] · (W1[previous] − W1[chained]); the confidence's logit gains its own weights
        times the same difference [P §3.1, §3.2.1].
        """
        before, after = self.w1([chained, previous])
        shift = after - before
        rebased = row.logits + self._against(row.ids, shift * self._scale)
        if self.confidence is None:
            return Rebased(rebased, confidence)
        clipped = min(max(confidence, _SURE), 1 - _SURE)
        z = math.log(clipped / (1 - clipped)) + float(self.confidence @ shift)
        return Rebased(rebased, 1 / (1 + math.exp(-z)))

    def _against(self, ids: Tokens, vector: Floats) -> Floats:
        """W2 of tokens, as stored, times a vector [rank]: [n]; 0 for a token that a reduced vocabulary lacks."""
        if self._row_of is None:
            return self._w2.dot(ids, vector)
        rows = self._row_of[ids]
        products = self._w2.dot(np.maximum(rows, 0), vector)
        products[rows < 0] = 0
        return products


def _inverse(d2t: Tokens, n_vocab: int) -> Tokens:
    """Draft row of each target token, -1 where there is none."""
    row_of = np.full(n_vocab, -1, np.int64)
    row_of[d2t] = np.arange(len(d2t))
    return row_of
