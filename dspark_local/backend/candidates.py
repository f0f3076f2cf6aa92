"""The likeliest tokens of a draft row: all that re-basing looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.sampling.peaks import Peaks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST = 256  # they are chosen under the other bias, so there must be enough of them


@dataclass(frozen=True, slots=True)
class Candidates:
    """Logits [n] of the tokens `ids`, ascending."""

    ids: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32]) -> Candidates:
        """Those of a row [n_vocab]."""
        ids = Peaks.of(logits).largest(MOST)
        return cls(ids, logits[ids])

    @property
    def greedy(self) -> int:
        """The likeliest, of equal ones the smallest."""
        return int(self.ids[self.logits.argmax()])
