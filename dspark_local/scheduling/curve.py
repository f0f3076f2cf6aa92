"""Seconds of a batch by its rows: a staircase that nobody can know beforehand, learned from what was timed."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEP = 0.1  # of a row count that was timed often
WINDOW = 5  # timings whose median counts, so that one slow round moves nothing
GUESS, MEASURED = 1, 20  # how many timings a start value is worth
_FLOOR = 1e-9  # below any real decode: ratios need a number above zero
_NEAR = (0.5, 0.25)  # of a move, row counts 1 and 2 away make so much
_FAR = 0.2  # and all others
_HOPE = 0.4  # how much cheaper than believed a row count may be that was never timed


class Curve:
    """Seconds for 1, 2, … rows, in `seconds`; `seen` says how many timings stand behind each, those nearby in part.

    A timing moves its own entry towards the median of the last few, by a step that falls from 1/(seen+1) to STEP,
    and pulls the others along by the same ratio, less with distance: a machine that slows down slows them all.
    Beyond its end a curve goes on in proportion. Plain lists: arrays are slower for the few entries of a round.
    """

    __slots__ = ("_hopeful", "_recent", "seconds", "seen")

    def __init__(self, seconds: Iterable[float], seen: Iterable[float] | float = GUESS) -> None:
        self.seconds = [max(float(s), _FLOOR) for s in seconds]
        assert self.seconds
        assert all(map(math.isfinite, self.seconds))
        self.seen = [float(seen)] * len(self) if isinstance(seen, (int, float)) else [float(n) for n in seen]
        self._recent: dict[int, deque[float]] = {}
        self._hopeful: list[float] | None = None

    def __len__(self) -> int:
        return len(self.seconds)

    def __call__(self, rows: int) -> float:
        """Seconds of so many rows; 0 of none."""
        if rows <= 0:
            return 0.0
        last = len(self.seconds)
        return self.seconds[rows - 1] if rows <= last else self.seconds[-1] * (rows / last)

    @property
    def hopeful(self) -> list[float]:
        """Seconds as they may be at best: what was never timed is worth a try, or a wrong start is never found out."""
        if self._hopeful is None:
            self._hopeful = [s * (1 - _HOPE / (1 + n)) for s, n in zip(self.seconds, self.seen, strict=True)]
        return self._hopeful

    def learn(self, rows: int, seconds: float) -> None:
        """Take one timing in."""
        assert rows > 0
        assert 0 <= seconds < math.inf, f"{seconds} s"
        last = len(self.seconds)
        if rows > last:
            rows, seconds = last, seconds * last / rows
        at = rows - 1
        recent = self._recent.setdefault(at, deque(maxlen=WINDOW))
        recent.append(seconds)
        middle = sorted(recent)[(len(recent) - 1) // 2]  # of two the faster: machines err upwards
        move = (max(middle, _FLOOR) / self.seconds[at]) ** max(STEP, 1 / (int(self.seen[at]) + 1))
        far = move**_FAR
        moved, seen = [s * far for s in self.seconds], [n + _FAR for n in self.seen]
        for distance, share in enumerate((1.0, *_NEAR)):
            for near in {at - distance, at + distance}:
                if 0 <= near < last:
                    moved[near] = self.seconds[near] * move**share
                    seen[near] = self.seen[near] + share
        self.seconds, self.seen, self._hopeful = moved, seen, None

    def settle(self, measured: Mapping[int, float]) -> None:
        """Set entries to what was measured, seconds by rows; those between follow in proportion."""
        if not measured:
            return
        rows = sorted(measured)
        ratios = [max(measured[n], _FLOOR) / self.seconds[n - 1] for n in rows]
        moves = np.exp(np.interp(range(1, len(self) + 1), rows, np.log(ratios)))
        self.seconds = [s * move for s, move in zip(self.seconds, moves.tolist(), strict=True)]
        for n in rows:
            self.seen[n - 1] = MEASURED
        self._hopeful = None

    def copy(self, seen: int) -> Curve:
        """The same seconds, as if known from at most `seen` timings each."""
        return Curve(self.seconds, [min(n, seen) for n in self.seen])
