"""What the caches of every slot hold, and which slot a request takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.sequence import common

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.sequence import Sequence

SLACK = 64  # tokens that a conversation may lose and still go on in its own slot: a template's end, a short answer


@dataclass(slots=True)
class _Slot:
    sequence: Sequence | None = None  # who runs in it
    tokens: list[int] = field(default_factory=list)  # what both caches hold when nobody does
    prefilled: int = 0  # of what they hold, how many came from whole prefill chunks
    floor: int = 0  # how far the caches go back at most: to where a state of a window was put back
    taken: int = 0  # when, by count

    @property
    def text(self) -> list[int]:
        return self.sequence.tokens if self.sequence else self.tokens

    @property
    def held(self) -> int:
        if self.sequence is None:
            return len(self.tokens)
        return 0 if self.sequence.severed else self.sequence.cached


class Slots:
    """The slots of an engine.

    A reused prefix is cut to whole prefill chunks of `chunk` tokens, counted from what was prefilled; with chunk 1
    every cached token counts, generated ones included. `whole`: only what a slot holds as a whole can be gone on with.
    """

    def __init__(self, n: int, *, chunk: int = 1, whole: bool = False) -> None:
        self._slots = [_Slot() for _ in range(n)]
        self._chunk = chunk
        self._whole = whole
        self._taken = 0

    @property
    def free(self) -> int:
        """How many requests could still join."""
        return len(self.idle)

    @property
    def idle(self) -> list[int]:
        """Slots in which nobody runs."""
        return [i for i, slot in enumerate(self._slots) if slot.sequence is None]

    def held(self, slot: int) -> int:
        """How many positions a slot's caches hold that others may use."""
        return self._slots[slot].held

    def reach(self, slot: int) -> int:
        """How many positions the target's cache has there."""
        sequence = self._slots[slot].sequence
        return sequence.cached if sequence else self.held(slot)

    def text(self, slot: int) -> list[int]:
        """The tokens at these positions."""
        return self._slots[slot].text[: self.held(slot)]

    def prefilled_of(self, slot: int) -> int:
        """How many of them came from whole chunks."""
        return self._slots[slot].prefilled

    def best(self, tokens: Many[int], *, but: int = -1) -> tuple[int, int]:
        """The slot, other than `but`, with the longest usable prefix of a prompt, and that prefix's length.

        The last token is never part of it: it is the anchor.
        """
        usable = [(self._usable(slot, tokens), i) for i, slot in enumerate(self._slots) if i != but]
        n, best = max(usable, key=lambda found: (found[0], -found[1]), default=(0, 0))
        return best, n

    def cut(self, n: int, prefilled: int) -> int:
        """How much of a common prefix may be used, where so many tokens came from whole chunks."""
        return n if self._chunk == 1 else min(n, prefilled) // self._chunk * self._chunk

    def place(self, tokens: Many[int], source: int, n: int) -> int:
        """A free slot for a prompt whose first n tokens `source` holds.

        `source` itself, if it is free and loses hardly anything; else an empty one, else the one not used for longest.
        """
        free = self.idle
        assert free, "the runtime queues what finds no slot"
        if n and source in free and self.held(source) - self._common(self._slots[source], tokens) <= SLACK:
            return source
        return min(free, key=lambda i: (self.held(i) > 0, self._slots[i].taken))

    def leader(self, tokens: Many[int], n: int) -> tuple[Sequence, int] | None:
        """Whoever is being prefilled and will hold a longer prefix of a prompt than n, and how long it will be."""
        found = [
            (self.cut(common(s.tokens, tokens, min(s.start, len(tokens) - 1)), s.start), s)
            for slot in self._slots
            if (s := slot.sequence) and not s.prefilled and not self._whole
        ]
        longest, leader = max(found, key=lambda f: f[0], default=(0, None))
        return (leader, longest) if leader and longest > n else None

    def take(self, sequence: Sequence) -> None:
        """A sequence runs in its slot from now on; the caches hold what it has cached."""
        slot = self._slots[sequence.slot]
        assert slot.sequence is None
        self._taken += 1
        slot.sequence, slot.tokens, slot.taken = sequence, [], self._taken
        self.prefilled(sequence)

    def prefilled(self, sequence: Sequence) -> None:
        """Note how far whole chunks of a prompt reach."""
        self._slots[sequence.slot].prefilled = sequence.cached // self._chunk * self._chunk

    def floor(self, slot: int) -> int:
        """How far a slot's caches go back at most."""
        return self._slots[slot].floor

    def runs(self, sequence: Sequence) -> bool:
        """Whether a sequence still has its slot."""
        return self._slots[sequence.slot].sequence is sequence

    def leave(self, sequence: Sequence) -> None:
        """The caches keep a finished sequence's tokens until the slot is taken again."""
        slot = self._slots[sequence.slot]
        slot.tokens = slot.text[: slot.held]
        slot.sequence = None

    def hold(self, slot: int, tokens: list[int], prefilled: int, *, floor: int = 0) -> None:
        """The caches of a slot hold these tokens now; a sequence that runs there, if any, has nothing cached."""
        held = self._slots[slot]
        held.tokens, held.prefilled, held.floor = tokens, prefilled, floor
        if held.sequence:
            held.sequence.cached = 0

    def _usable(self, slot: _Slot, tokens: Many[int]) -> int:
        n = self.cut(self._common(slot, tokens), slot.prefilled)
        return 0 if n < (slot.held if self._whole else slot.floor) else n

    def _common(self, slot: _Slot, tokens: Many[int]) -> int:
        return common(slot.text, tokens, min(slot.held, len(tokens) - 1))
