"""The largest logits of a row, found by looking at most of them once.

A row is read as a matrix, and only the columns whose maximum reaches what is asked for are looked into. Neighbours in a
vocabulary are alike, and stand in different columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.sampling.truncation import Ids, Logits

_HEIGHT = 16  # logits in a column
_FEWEST = 128  # columns; a shorter row is read as it is
_MANY = 4  # a threshold that one column in so many reaches is looked for in the whole row
_COARSE = 256  # columns that are enough for a small k
_WIDER = 3  # times k columns, for the k-th largest of their maxima to be near the k-th largest logit


@dataclass(frozen=True, slots=True)
class Peaks:
    """A row of logits [n], and the `maxima` of the columns of the matrix [16, n // 16] that it begins with."""

    logits: Logits
    maxima: Logits

    @classmethod
    def of(cls, logits: Logits) -> Peaks:
        """Those of a row; each logit of a short one is a column."""
        columns = logits.size // _HEIGHT
        if columns < _FEWEST:
            return cls(logits, logits)
        return cls(logits, logits[: columns * _HEIGHT].reshape(_HEIGHT, columns).max(axis=0))

    @property
    def top(self) -> float:
        """The largest logit."""
        top = float(self.maxima[self.maxima.argmax()])  # sooner than max() in a short row
        rest = self.logits[self.maxima.size * _HEIGHT :]
        return max(top, float(rest.max())) if rest.size else top

    def at_least(self, threshold: float | np.floating) -> Ids:
        """Indices of the logits that reach a threshold, ascending."""
        columns = (self.maxima >= threshold).nonzero()[0]
        if self.maxima is self.logits:
            return columns
        if columns.size * _MANY > self.maxima.size:
            return (self.logits >= threshold).nonzero()[0]
        split = self.maxima.size * _HEIGHT
        matrix, rest = self.logits[:split].reshape(_HEIGHT, -1), self.logits[split:]
        within = (matrix.take(columns, axis=1) >= threshold).ravel().nonzero()[0]
        line, column = np.divmod(within, max(1, columns.size))
        ids = line * self.maxima.size + columns[column]
        return np.concatenate((ids, (rest >= threshold).nonzero()[0] + split)) if rest.size else ids

    def largest(self, k: int) -> Ids:
        """Indices of the k > 0 largest logits, ascending, of equal ones the smaller; of all if there are no more."""
        if k >= self.logits.size:
            return np.arange(self.logits.size)
        ids = self.at_least(self._below(k))
        if ids.size <= k:
            return ids
        some = self.logits[ids]
        least = np.partition(some, ids.size - k)[ids.size - k]
        kept: npt.NDArray[np.bool_] = some >= least
        surplus = np.count_nonzero(kept) - k
        if surplus:  # several are the k-th largest
            kept[(some == least).nonzero()[0][-surplus:]] = False
        return ids[kept]

    def _below(self, k: int) -> float:
        """What at least k logits reach, and few more: the k-th largest of the maxima of any columns."""
        fold = max(1, self.maxima.size // max(_WIDER * k, _COARSE))  # columns that are taken together
        columns = self.maxima.size // fold
        if columns < 2 * k:
            return -np.inf
        maxima = self.maxima[: fold * columns].reshape(fold, columns).max(axis=0) if fold > 1 else self.maxima
        return float(np.partition(maxima, columns - k)[columns - k])
