"""The drafter's Markov head, read from its file so that no drafter reads files itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.faults import format_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.formats.gguf import GGUF

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
        self._draft = draft
        self._scale = np.float32(1)
        if "markov_w2.scale" in draft.tensors:
            self._scale = draft.rows("markov_w2.scale", [0])[0, 0]
        self._row_of = _inverse(draft.ints("d2t"), spec.vocab_size) if spec.has_d2t else None
        self.confidence: Floats | None = None
        if spec.has_confidence_head:
            self.confidence = draft.rows("conf_proj.weight", [0])[0, spec.n_embd :]

    def w1(self, tokens: Sequence[int] | Tokens) -> Floats:
        """W1 of the tokens that were drafted before: [n, rank]."""
        return self._draft.rows("markov_w1.weight", np.asarray(tokens, np.int64))

    def w2(self, tokens: Sequence[int] | Tokens) -> Floats:
        """W2 of candidate tokens, the optional `markov_w2.scale` applied: [n, rank].

        Zero for a token that a reduced draft vocabulary does not have; its logit is -inf anyhow.
        """
        ids = np.asarray(tokens, np.int64)
        if self._row_of is None:
            return self._draft.rows("markov_w2.weight", ids) * self._scale
        rows = self._row_of[ids]
        present = rows >= 0
        found = np.zeros((len(ids), self.rank), np.float32)
        found[present] = self._draft.rows("markov_w2.weight", rows[present]) * self._scale
        return found


def _inverse(d2t: Tokens, n_vocab: int) -> Tokens:
    """Draft row of each target token, -1 where there is none."""
    row_of = np.full(n_vocab, -1, np.int64)
    row_of[d2t] = np.arange(len(d2t))
    return row_of
