"""Lookup: what followed the longest suffix of the text when it stood there before. No model, no cost.

Good where text repeats itself: code that is edited, documents that are quoted. How far to trust a match of n tokens is
learned from what became of such matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.drafters.base import Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features
    from dspark_local.sequence import Sequence

BLOCK = 15  # a copied passage is long, and drafting it costs nothing
LEAST = 3  # tokens that must match: fewer match by chance
MOST = 64  # of a match, beyond which its length says no more; also how many places are compared
_KEEP = 0.98  # of what was counted before, at each token counted: texts differ


@dataclass(slots=True)
class _Text:
    """A sequence, and where its n-grams of LEAST tokens end; what was proposed last, from where, on which match."""

    sequence: Sequence
    indexed: int = LEAST - 1
    ends: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    start: int = 0
    match: int = 0
    drafted: tuple[int, ...] = ()

    def index(self) -> None:
        """Note n-grams that are new, but the last: it is what is looked for."""
        tokens = self.sequence.tokens
        for end in range(self.indexed + 1, len(tokens)):
            self.ends.setdefault(tuple(tokens[end - LEAST : end]), []).append(end)
        self.indexed = max(self.indexed, len(tokens) - 1)

    def longest(self) -> tuple[int, int]:
        """Length of the longest suffix that was there before, and the latest place where it ended; (0, 0) if none."""
        tokens = self.sequence.tokens
        n = len(tokens)
        best, where = 0, 0
        for end in reversed(self.ends.get(tuple(tokens[n - LEAST :]), [])[-MOST:]):
            length = LEAST
            while length < min(MOST, end) and tokens[end - length - 1] == tokens[n - length - 1]:
                length += 1
            if length > best:
                best, where = length, end
        return best, where


class Lookup:
    """Proposes from the context alone."""

    name = "lookup"
    block_size = BLOCK
    forgetful = False
    busy = 0.0

    def __init__(self) -> None:
        self._texts: dict[int, _Text] = {}
        # by length of a match: how often the next token was as it said, of how often that was seen; guesses at first
        self._hits = [0.5 + 0.4 * step / _step(MOST) for step in range(_step(MOST) + 1)]
        self._seen = [1.0] * len(self._hits)

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """What followed the longest suffix before, up to γ tokens; nothing for a text without a match."""
        return [self._propose(s, gamma) for s in sequences]

    def offer(self, sequence: Sequence) -> Proposal:
        """A whole block of it."""
        return self._propose(sequence, BLOCK)

    def _propose(self, sequence: Sequence, gamma: int) -> Proposal:
        text = self._texts.get(sequence.slot)
        if text is None or text.sequence is not sequence:
            text = self._texts[sequence.slot] = _Text(sequence)
        self._learn(text)
        text.index()
        text.match, end = text.longest()
        text.start = len(sequence.tokens)
        text.drafted = tuple(_following(sequence.tokens, end, gamma)) if text.match else ()
        return Proposal(text.drafted, tuple(self._trust(text.match + k) for k in range(len(text.drafted))), self.name)

    def _learn(self, text: _Text) -> None:
        """Compare what was proposed last with what was committed since, up to the first difference."""
        committed = text.sequence.tokens[text.start :]
        for k, (said, came) in enumerate(zip(text.drafted, committed, strict=False)):
            step = _step(text.match + k)
            self._hits[step] = self._hits[step] * _KEEP + (said == came)
            self._seen[step] = self._seen[step] * _KEEP + 1
            if said != came:
                break
        text.drafted = ()

    def _trust(self, match: int) -> float:
        """Share of matches of this length that held for one token more."""
        step = _step(match)
        return self._hits[step] / self._seen[step]

    def observe(self, features: Many[Features]) -> None:
        """Nothing to keep: the text is all that is needed."""

    def pending(self, slot: int) -> int:  # noqa: ARG002 - the Protocol's
        """Nothing waits."""
        return 0

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Nothing to catch up with."""

    def rewind(self, slot: int, n: int) -> None:  # noqa: ARG002 - as above
        """Forget the slot's text: another one may begin there."""
        self._texts.pop(slot, None)

    def copy(self, source: int, slot: int, n: int) -> None:
        """The texts are the sequences' own."""

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:  # noqa: ARG002 - as above
        """Nothing is held."""
        return bytearray()

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Nothing to put back."""

    def close(self) -> None:
        """Forget all texts."""
        self._texts.clear()


def _step(match: int) -> int:
    """Lengths of a match that are held alike: two steps to a doubling."""
    return int(2 * math.log2(min(MOST, match) / LEAST))


def _following(tokens: list[int], end: int, n: int) -> list[int]:
    """N tokens behind `end`, the copy being continued by itself where it reaches the end of the text."""
    found = tokens[end : end + n]
    period = len(tokens) - end
    while len(found) < n:
        found.append(found[len(found) - period])
    return found
