"""One request: its committed tokens, and how much of them the caches hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.sampling.walk import Walk
from dspark_local.types import FinishReason, Stats

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Failure
    from dspark_local.sampling.rule import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and committed tokens of one slot, and the `walk` that picks what follows them.

    `cached` positions are valid in the target's cache, and in the drafter's. The last token is never among them:
    it is the anchor, decoded first in the next round.

    `error` is why it was lost, if it was. `stumbles` counts rounds in which the drafter failed; once it is `severed`,
    the drafter's cache is worth nothing and the rest is decoded plainly.
    """

    slot: int
    tokens: list[int]
    sampler: Sampler
    max_tokens: int
    draft: bool = True
    prompt_n: int = 0
    cached: int = 0
    finish_reason: FinishReason | None = None
    error: Failure | None = None
    stumbles: int = 0
    severed: bool = False
    stats: Stats = field(default_factory=Stats)
    walk: Walk = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_n = len(self.tokens)
        self.walk = Walk.begin(self.sampler, self.tokens)
        self.stats.seed = self.sampler.seed
        self.stats.prompt_n = self.prompt_n

    @property
    def anchor(self) -> int:
        """Last committed token."""
        return self.tokens[-1]

    @property
    def start(self) -> int:
        """Position of the anchor."""
        return len(self.tokens) - 1

    @property
    def prefilled(self) -> bool:
        """Whether all but the anchor is cached, so that a round can run."""
        return self.cached == self.start

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - (len(self.tokens) - self.prompt_n)


def common(a: Many[int], b: Many[int], most: int) -> int:
    """Length of the common prefix of two texts, of which each has at least `most` tokens; `most` at most."""
    low, high = 0, most
    while low < high:  # slices compare fast
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
