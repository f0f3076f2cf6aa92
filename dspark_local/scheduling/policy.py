"""What the engine asks before and after drafting: how many to draft, how many of them to verify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.types import Round


class Policy(Protocol):
    """Chooses γ for a round, then each sequence's ℓ; learns from what happened."""

    def plan(self, limits: Sequence[int]) -> int:
        """γ, common to the sequences that draft in this round; 0 parks.

        `limits` holds, for each sequence, the most drafts that it could still use.
        """
        ...

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """ℓ for each sequence: how many of its `drafted` tokens go into the verify batch."""
        ...

    def observe(self, rounds: Sequence[Round]) -> None:
        """Learn from the records of a round, one per sequence."""
        ...


@dataclass(slots=True)
class Fixed:
    """Always γ tokens, all of them verified."""

    gamma: int

    def plan(self, limits: Sequence[int]) -> int:
        """γ, or less when no sequence could use as many."""
        return min(self.gamma, max(limits, default=0))

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:  # noqa: ARG002 - fixed: confidence is not asked
        """All that was drafted."""
        return list(drafted)

    def observe(self, rounds: Sequence[Round]) -> None:
        """Nothing to learn."""
