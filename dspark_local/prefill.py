"""Which rows of which prompts a step prefills: several prompts at once, the oldest first but not the oldest alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dspark_local.backend.base import Span

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.sequence import Sequence

CHUNK = 256  # most rows of a step: short enough to cancel between two
LEAST = 16  # rows of a step, however slow the machine
HOLD_UP = 0.25  # seconds of a step that prompts may take from as many who are generating
_STEP = 0.3  # of the way from what was believed of this machine to what was timed last


class Prefill:
    """Plans chunks within the rows of one step.

    `whole` cuts prompts at multiples of `chunk` only, whatever else runs, as the fixed-width mode wants; otherwise they
    are cut where the rows end, and the last chunk takes the anchor along, so that the first token comes with it. The
    oldest prompt gets half of the rows, or what the others leave: so it waits for nobody, and a long one holds up no
    short one. The others come by how little they still need.
    """

    def __init__(self, chunk: int, *, whole: bool) -> None:
        self._chunk = chunk
        self._whole = whole
        self._rate = math.inf  # rows a second
        self._turn = False  # whose the next whole chunk is: the oldest's, or another's

    def plan(self, waiting: Many[Sequence], *, streaming: int = 0, room: int = 0) -> list[Span]:
        """Chunks of prompts, which come in order of age; at least one row if any is due.

        While `streaming` others generate, the rows are fewer; `room` is what their round leaves of a batch.
        """
        if not waiting:
            return []
        rows = self._rows_beside(room, len(waiting) / streaming) if streaming else self._chunk
        oldest, *others = waiting
        others.sort(key=self._left)
        if self._whole:
            return self._in_turns(oldest, others, rows)
        spans = []
        for sequence in (oldest, *others):
            spare = rows - sum(map(self._left, others)) if sequence is oldest else 0
            n = min(self._left(sequence), max(spare, (rows + 1) // 2) if sequence is oldest else rows)
            rows -= n
            if n:
                spans.append(_span(sequence, n))
        return spans

    def _in_turns(self, oldest: Sequence, others: list[Sequence], rows: int) -> list[Span]:
        """Whole chunks, as many as the rows hold and at least one; the oldest and the shortest begin in turns."""
        self._turn = not self._turn
        spans: list[Span] = []
        for sequence in (oldest, *others) if self._turn else (*others, oldest):
            n = min(self._left(sequence), self._chunk - sequence.cached % self._chunk)
            if n <= rows or not spans:
                spans.append(_span(sequence, n))
                rows -= n
        return spans

    def _rows_beside(self, room: int, share: float) -> int:
        """So many that they go along with the round, unless that leaves hardly any, and hold it up for no longer.

        The more wait for each who generates, the longer that may be: who waits counts as much.
        """
        seconds = HOLD_UP * max(1.0, share)
        rows = self._chunk if math.isinf(self._rate) else min(self._chunk, max(LEAST, int(self._rate * seconds)))
        return rows if self._whole or room < self._chunk // 2 else min(rows, room)

    def _left(self, sequence: Sequence) -> int:
        return sequence.start - sequence.cached + (not self._whole)

    def learn(self, rows: int, seconds: float) -> None:
        """Take in what a decode with chunks took; a few rows say nothing of many."""
        if rows >= LEAST and seconds > 0:
            timed = rows / seconds
            self._rate = timed if math.isinf(self._rate) else self._rate + _STEP * (timed - self._rate)


def _span(sequence: Sequence, n: int) -> Span:
    end = sequence.cached + n
    outputs = int(end == len(sequence.tokens))
    return Span(sequence.slot, sequence.cached, sequence.tokens[sequence.cached : end], outputs)
