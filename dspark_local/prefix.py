"""Which slot a request takes, and how much of what the slot's caches still hold it can use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.sequence import Sequence


@dataclass(slots=True)
class _Slot:
    tokens: list[int] = field(default_factory=list)  # what both caches hold
    prefilled: int = 0  # of these, how many came from whole prefill chunks
    free: bool = True


class Slots:
    """The slots of an engine.

    A reused prefix is cut to whole prefill chunks of `chunk` tokens, counted from what was prefilled; with chunk 1
    every cached token counts, generated ones included.
    """

    def __init__(self, n: int, *, chunk: int = 1) -> None:
        self._slots = [_Slot() for _ in range(n)]
        self._chunk = chunk

    @property
    def free(self) -> int:
        """How many requests could still join."""
        return sum(slot.free for slot in self._slots)

    def held(self, slot: int) -> int:
        """How many positions an idle slot's caches hold."""
        return len(self._slots[slot].tokens)

    def forget(self, slot: int) -> None:
        """Nothing that the slot's caches hold may be used again."""
        self._slots[slot].tokens.clear()

    def take(self, tokens: Many[int]) -> tuple[int, int]:
        """Free slot with the longest usable prefix of `tokens`, and that prefix's length.

        The last token is never part of it: it is the anchor.
        """
        usable = {i: self._usable(slot, tokens) for i, slot in enumerate(self._slots) if slot.free}
        assert usable, "the runtime queues what finds no slot"
        best = max(usable, key=lambda i: (usable[i], -len(self._slots[i].tokens)))
        slot = self._slots[best]
        slot.free = False
        slot.prefilled = min(slot.prefilled, usable[best])
        return best, usable[best]

    def prefilled(self, sequence: Sequence) -> None:
        """Note how far whole chunks of a prompt reach."""
        self._slots[sequence.slot].prefilled = sequence.cached // self._chunk * self._chunk

    def give_back(self, sequence: Sequence) -> None:
        """The caches keep a finished sequence's tokens until the slot is taken again."""
        slot = self._slots[sequence.slot]
        slot.tokens = sequence.tokens[: sequence.cached]
        slot.free = True

    def _usable(self, slot: _Slot, tokens: Many[int]) -> int:
        most = min(len(slot.tokens), len(tokens) - 1)
        common = next((i for i in range(most) if slot.tokens[i] != tokens[i]), most)
        if self._chunk == 1:
            return common
        return min(common, slot.prefilled) // self._chunk * self._chunk
