"""The empty drafter: plain decoding is the same loop with nothing proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.drafters.base import Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features
    from dspark_local.sequence import Sequence


class NoDrafter:
    """Proposes nothing."""

    name = "none"
    block_size = 0
    forgetful = False
    busy = 0.0

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:  # noqa: ARG002 - the Protocol's
        """Nothing, for each sequence."""
        return [Proposal()] * len(sequences)

    def offer(self, sequence: Sequence) -> Proposal:  # noqa: ARG002 - as above
        """Nothing."""
        return Proposal()

    def observe(self, features: Many[Features]) -> None:
        """Nothing to keep."""

    def pending(self, slot: int) -> int:  # noqa: ARG002 - as above
        """Nothing waits."""
        return 0

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Nothing to catch up with."""

    def rewind(self, slot: int, n: int) -> None:
        """Nothing to forget."""

    def copy(self, source: int, slot: int, n: int) -> None:
        """Nothing to copy."""

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:  # noqa: ARG002 - as above
        """Nothing is held."""
        return bytearray()

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Nothing to put back."""

    def close(self) -> None:
        """Nothing to free."""
