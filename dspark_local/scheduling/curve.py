"""Seconds of a batch by its rows: a staircase that nobody can know beforehand, learned from what was timed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

Seconds = npt.NDArray[np.float64]

STEP = 0.1  # of a row count that was timed often
WINDOW = 5  # timings whose median counts, so that one slow round moves nothing
GUESS, MEASURED = 1, 20  # how many timings a start value is worth
_FLOOR = 1e-9  # below any real decode: ratios need a number above zero
_NEAR, _FAR = 0.5, 0.2  # of a move, a row count d away makes NEAR^d, and never less than FAR
_HOPE = 0.4  # how much cheaper than believed a row count may be that was never timed


class Curve:
    """Seconds for 1, 2, … rows, in `seconds`; `seen` says how many timings stand behind each, those nearby in part.

    A timing moves its own entry towards the median of the last few, by a step that falls from 1/(seen+1) to STEP,
    and pulls the others along by the same ratio, less with distance: a machine that slows down slows them all.
    Beyond its end a curve goes on in proportion.
    """

    __slots__ = ("_reach", "_recent", "seconds", "seen")

    def __init__(self, seconds: npt.ArrayLike, seen: Seconds | float = GUESS) -> None:
        start = np.asarray(seconds, dtype=np.float64)
        assert start.ndim == 1
        assert start.size
        assert np.isfinite(start).all()
        self.seconds: Seconds = np.maximum(start, _FLOOR)
        self.seen = np.full(start.size, float(seen)) if isinstance(seen, (int, float)) else seen.astype(np.float64)
        self._recent: list[deque[float]] = [deque(maxlen=WINDOW) for _ in range(start.size)]
        distance = np.abs(np.arange(1 - start.size, start.size))
        self._reach = np.maximum(_FAR, _NEAR**distance)

    def __call__(self, rows: int) -> float:
        """Seconds of so many rows; 0 of none."""
        if rows <= 0:
            return 0.0
        last = self.seconds.size
        return float(self.seconds[rows - 1]) if rows <= last else float(self.seconds[-1]) * (rows / last)

    @property
    def hopeful(self) -> Seconds:
        """Seconds as they may be at best: what was never timed is worth a try, or a wrong start is never found out."""
        hopeful: Seconds = self.seconds * (1 - _HOPE / (1 + self.seen))
        return hopeful

    def learn(self, rows: int, seconds: float) -> None:
        """Take one timing in."""
        assert rows > 0
        assert 0 <= seconds < np.inf, f"{seconds} s"
        last = self.seconds.size
        if rows > last:
            rows, seconds = last, seconds * last / rows
        at = rows - 1
        recent = self._recent[at]
        recent.append(seconds)
        middle = sorted(recent)[(len(recent) - 1) // 2]  # of two the faster: machines err upwards
        ratio = max(middle, _FLOOR) / float(self.seconds[at])
        step = max(STEP, 1 / (int(self.seen[at]) + 1))
        self.seconds *= ratio ** (step * self._reach[last - rows : 2 * last - rows])
        self.seen += self._reach[last - rows : 2 * last - rows]

    def settle(self, measured: Mapping[int, float]) -> None:
        """Set entries to what was measured, seconds by rows; those between follow in proportion."""
        if not measured:
            return
        rows = sorted(measured)
        at = np.array(rows) - 1
        ratios = np.maximum([measured[n] for n in rows], _FLOOR) / self.seconds[at]
        self.seconds *= np.exp(np.interp(np.arange(self.seconds.size), at, np.log(ratios)))
        self.seen[at] = MEASURED

    def copy(self, seen: int) -> Curve:
        """The same seconds, as if known from at most `seen` timings each."""
        return Curve(self.seconds, np.minimum(self.seen, seen))
