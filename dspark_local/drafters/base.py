"""What the engine asks of anything that proposes tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features, Floats
    from dspark_local.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens drafted after a sequence's anchor, c_k for each where the drafter knows it [P §3.2.1], and who drafted."""

    tokens: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    by: str = ""


class Drafter(Protocol):
    """Proposes tokens for a target. `block_size` is the most in one block; `forgetful`, `busy` as in backend.base."""

    name: str
    block_size: int
    forgetful: bool

    @property
    def busy(self) -> float:
        """Seconds spent inside models' decodes so far."""
        ...

    def offer(self, sequence: Sequence) -> Proposal:
        """What can be proposed without any decode, asked before each round; the policy takes it or has γ drafted."""
        ...

    def observe(self, features: Many[Features]) -> None:
        """Take the target's hidden states of tokens that were just committed to its cache.

        Raises BackendError when a model fails; nothing is lost then, as in `catch_up` and `propose`.
        """
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

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold what another one does of its first n positions, rows that wait included, and nothing else.

        Raises BackendError where caches cannot be copied; the slot is then empty.
        """
        ...

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:
        """What is held of a slot that holds `tokens`, as bytes for `restore`; empty where nothing is.

        Raises BackendError if they are more than `most`, or a cache cannot be taken out whole.
        """
        ...

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Put back what `state` returned of these tokens. Raises BackendError, and then the slot is empty."""
        ...

    def close(self) -> None:
        """Free what is held; twice is fine."""
        ...


def share(logits: Floats, at: int) -> float:
    """What logits themselves give the entry `at`, before temperature and truncation: a drafter's own confidence."""
    top = float(logits.max())
    return float(np.exp(float(logits[at]) - top) / np.exp(logits - np.float32(top)).sum(dtype=np.float64))
