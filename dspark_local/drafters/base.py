"""What the engine asks of anything that proposes tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features
    from dspark_local.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens drafted after a sequence's anchor, and c_k for each where the drafter knows it [P §3.2.1]."""

    tokens: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()


class Drafter(Protocol):
    """Proposes tokens for a target. `block_size` is the most in one block; `busy` as in backend.base."""

    name: str
    block_size: int

    @property
    def busy(self) -> float:
        """Seconds spent inside models' decodes so far."""
        ...

    def observe(self, features: Many[Features]) -> None:
        """Take the target's hidden states of tokens that were just committed to its cache."""
        ...

    def pending(self, slot: int) -> int:
        """How many of the rows taken are not in the drafter's own cache yet."""
        ...

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Bring the drafter's cache up to date for these sequences, before they draft."""
        ...

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """At most γ tokens for each sequence, in order."""
        ...

    def rewind(self, slot: int, n: int) -> None:
        """Forget all but the first n positions of a slot."""
        ...

    def close(self) -> None:
        """Free what is held; twice is fine."""
        ...
