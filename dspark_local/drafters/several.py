"""A drafter and lookup beside it: what the text itself offers costs nothing, and the policy takes it where it pays.

The drafter takes no part in such a round; hidden states of what was committed wait until it drafts again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features
    from dspark_local.drafters.base import Drafter, Proposal
    from dspark_local.drafters.lookup import Lookup
    from dspark_local.sequence import Sequence


class Several:
    """Drafts by `main`, offers by `lookup`."""

    def __init__(self, main: Drafter, lookup: Lookup) -> None:
        self._main, self._lookup = main, lookup
        self.name = f"{main.name}, {lookup.name}"
        self.block_size = main.block_size
        self.forgetful = main.forgetful

    @property
    def busy(self) -> float:
        """Seconds spent inside models' decodes so far."""
        return self._main.busy

    def offer(self, sequence: Sequence) -> Proposal:
        """What lookup finds."""
        return self._lookup.offer(sequence)

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """What the drafter drafts."""
        return self._main.propose(sequences, gamma)

    def observe(self, features: Many[Features]) -> None:
        """Lookup needs none."""
        self._main.observe(features)

    def pending(self, slot: int) -> int:
        """What waits for the drafter."""
        return self._main.pending(slot)

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Bring the drafter up to date."""
        self._main.catch_up(sequences)

    def rewind(self, slot: int, n: int) -> None:
        """Forget all but the first n positions of a slot."""
        self._main.rewind(slot, n)
        self._lookup.rewind(slot, n)

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold what another one does; another text begins there for lookup."""
        self._lookup.rewind(slot, 0)
        self._main.copy(source, slot, n)

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:
        """What the drafter holds: lookup finds its own again in the text."""
        return self._main.state(slot, tokens, most)

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Put it back."""
        self._lookup.rewind(slot, 0)
        self._main.restore(slot, state, tokens)

    def close(self) -> None:
        """Free the drafter's model."""
        self._main.close()
        self._lookup.close()
