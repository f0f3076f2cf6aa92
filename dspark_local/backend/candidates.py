"""The likeliest tokens of a draft row: all that re-basing looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.sampling.peaks import Peaks

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.sampling.truncation import Ids

MOST = 256  # they are chosen under the other bias, so there must be enough of them


@dataclass(frozen=True, slots=True)
class Candidates:
    """Logits [n] of the tokens `ids`, ascending."""

    ids: Ids
    logits: npt.NDArray[np.float32]

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32], ids: Ids | None = None) -> Candidates:
        """Those of a row [n_vocab]; or of one that a backend has looked through: [n] of the tokens `ids`."""
        if ids is None:
            ids = Peaks.of(logits).largest(MOST)
            logits = logits[ids]
        return cls(ids, logits)

    @property
    def greedy(self) -> int:
        """The likeliest, of equal ones the smallest."""
        return int(self.ids[self.logits.argmax()])


def ordered(ids: npt.NDArray[np.integer], logits: npt.NDArray[np.float32]) -> tuple[Ids, npt.NDArray[np.float32]]:
    """Tokens of rows and their logits, [n, k] each, by ascending token: a backend has them in any order.

    A logit's bits go along behind its token, for sorting both at once is three times as fast.
    """
    both = ids.astype(np.int64) << 32
    both |= logits.view(np.uint32)
    both.sort(axis=1)
    return both >> 32, both.astype(np.uint32).view(np.float32)
