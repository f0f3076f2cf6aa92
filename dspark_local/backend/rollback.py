"""How far the cache of a recurrent target goes back.

Some layers keep a state instead of keys and values, and it forgets what it was made of. llama.cpp keeps beside it the
states behind each of the last tokens of a decode (`n_rs_seq`), so that those can be taken back; once, for the states
are not made anew. It does not tell a state that is left from an earlier decode from one of the last, so that is kept
track of here (src/llama-memory-recurrent.cpp, src/llama-kv-cache-dsv4.cpp).
"""

from __future__ import annotations


class Rollback:
    """Slot by slot, how many positions are held, and how many of them can be taken back: at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def held(self, slot: int) -> int:
        """How many positions a slot holds."""
        return self._held.get(slot, 0)

    def reached(self, slot: int, n: int) -> int:
        """What a rewind to n positions leaves: as many, or nothing where the state behind them is gone."""
        held = self.held(slot)
        return min(n, held) if n >= held - self._back.get(slot, 0) else 0

    def decoded(self, slot: int, start: int, n: int) -> None:
        """A decode of n tokens from `start`: the state behind the first of them is the oldest that is kept."""
        self._held[slot], self._back[slot] = start + n, min(n - 1, self._most)

    def holds(self, slot: int, n: int) -> None:
        """The slot holds n positions now."""
        if n != self.held(slot):
            self._held[slot], self._back[slot] = n, 0
