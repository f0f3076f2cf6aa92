"""One request: its committed tokens, and how much of them the caches hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.sampling.walk import Walk
from dspark_local.types import FinishReason, Stats

if TYPE_CHECKING:
    from dspark_local.sampling.rule import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and committed tokens of one slot, and the `walk` that picks what follows them.

    `cached` positions are valid in the target's cache, and in the drafter's. The last token is never among them:
    it is the anchor, decoded first in the next round.
    """

    slot: int
    tokens: list[int]
    sampler: Sampler
    max_tokens: int
    draft: bool = True
    prompt_n: int = 0
    cached: int = 0
    finish_reason: FinishReason | None = None
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
