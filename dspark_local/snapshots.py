"""What slots held before they were taken again, kept in the host's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.sequence import common

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

LEAST = 256  # tokens: fewer are prefilled about as soon as they are restored


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Both caches of a slot as bytes that a backend takes back, and the tokens that they hold.

    `prefilled` of the tokens came from whole prefill chunks; `drafter` is empty where a drafter keeps no cache.
    """

    tokens: list[int]
    prefilled: int
    target: bytearray
    drafter: bytearray

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.target) + len(self.drafter)


class Snapshots:
    """As many as `budget` bytes hold; the ones not used for longest go first.

    `whole`: they serve only what goes on where they end, else all that begins as they do.
    """

    def __init__(self, budget: int, *, whole: bool = False) -> None:
        self.budget = budget
        self._whole = whole
        self._kept: list[Snapshot] = []  # the one used last is last

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(kept.size for kept in self._kept)

    def covers(self, tokens: Many[int]) -> bool:
        """Whether one that is kept serves as well as one of these tokens."""
        return any(self._serves(kept.tokens, tokens) for kept in self._kept)

    def add(self, snapshot: Snapshot) -> None:
        """Keep one, instead of those that it serves for; the oldest go where the budget ends."""
        self._kept = [kept for kept in self._kept if not self._serves(snapshot.tokens, kept.tokens)]
        while self._kept and self.size + snapshot.size > self.budget:
            del self._kept[0]
        self._kept.append(snapshot)

    def best(self, tokens: Many[int], cut: Callable[[int, int], int]) -> tuple[Snapshot | None, int]:
        """The snapshot with the longest usable prefix of a prompt, and its length; `cut` as in prefix.Slots."""
        usable = [(self._usable(kept, tokens, cut), kept) for kept in self._kept]
        n, best = max(usable, key=lambda found: found[0], default=(0, None))
        return best, n

    def used(self, snapshot: Snapshot, *, whole: bool) -> None:
        """One was restored: it goes if a slot has all of it now, else it is the latest.

        It may have made way already, to what the slot held before.
        """
        if snapshot in self._kept:
            self._kept.remove(snapshot)
            if not whole:
                self._kept.append(snapshot)

    def _serves(self, tokens: Many[int], others: Many[int]) -> bool:
        """Whether a state of `tokens` is good for all that one of `others` is good for."""
        n = len(others)
        return (len(tokens) == n if self._whole else len(tokens) >= n) and common(tokens, others, n) == n

    def _usable(self, kept: Snapshot, tokens: Many[int], cut: Callable[[int, int], int]) -> int:
        n = cut(common(kept.tokens, tokens, min(len(kept.tokens), len(tokens) - 1)), kept.prefilled)
        return 0 if self._whole and n < len(kept.tokens) else n
