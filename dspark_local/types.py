"""The records that several rooms pass on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dspark_local.errors import UsageError

MAX_SEED = 2**64 - 1


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # the target said so, or a stop string appeared
    LENGTH = "length"  # max_tokens
    CONTEXT = "context"  # the context is full
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is drawn from the target's logits, in llama.cpp's order: top-k, top-p, min-p, temperature.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch their truncation off. `seed` None
    draws a seed, which the statistics report. `choice` tells apart several answers to one seed.

    Raises UsageError for a value out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    choice: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature:g}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (off) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1 (off), not {self.top_p:g}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min-p must be between 0 (off) and 1, not {self.min_p:g}")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed must be between 0 and 2^64 - 1, not {self.seed}")
        if not 0 <= self.choice < 2**32:
            raise UsageError(f"choice must be between 0 and 2^32 - 1, not {self.choice}")


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """Seconds of a round by part, summed over what ran in it."""

    prefill: float = 0.0
    inject: float = 0.0
    draft: float = 0.0
    verify: float = 0.0
    host: float = 0.0  # everything outside llama.cpp's decodes

    @property
    def total(self) -> float:
        """All of it."""
        return self.prefill + self.inject + self.draft + self.verify + self.host

    def __add__(self, other: RoundTimes) -> RoundTimes:
        return RoundTimes(
            self.prefill + other.prefill,
            self.inject + other.inject,
            self.draft + other.draft,
            self.verify + other.verify,
            self.host + other.host,
        )


class Why(StrEnum):
    """Why a round drafted as it did."""

    DRAFT = "draft"  # it pays
    PROBE = "probe"  # parked, and looking whether it would pay again
    PARK = "park"  # plain decoding is faster now
    LIMIT = "limit"  # nobody could use a draft


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did for one sequence.

    `tokens` are the committed ones, the target's own last; `draft` those that the drafter proposed, `admitted`
    how many of them were verified, `accepted` how many of those were committed; `confidences` one c_k per
    drafted token [P §3.2.1]; `width` the verify width; `times` those of the whole round, all sequences.

    `why` it drafted, or did not; `rate` and `plain` are the tokens per second, over all sequences, that the policy
    expected of drafting and of plain decoding, 0 where it expects nothing.
    """

    tokens: tuple[int, ...]
    draft: tuple[int, ...] = ()
    admitted: int = 0
    accepted: int = 0
    confidences: tuple[float, ...] = ()
    width: int = 1
    times: RoundTimes = field(default_factory=RoundTimes)
    why: Why = Why.DRAFT
    rate: float = 0.0
    plain: float = 0.0

    @property
    def drafted(self) -> int:
        """How many tokens the drafter proposed."""
        return len(self.draft)


@dataclass(slots=True)
class Stats:
    """Running sums over the rounds of one sequence. Names that llama.cpp's `timings` has are kept."""

    seed: int = 0
    prompt_n: int = 0
    predicted_n: int = 0
    rounds: int = 0
    draft_n: int = 0
    draft_n_accepted: int = 0
    admitted_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    widths: int = 0
    times: RoundTimes = field(default_factory=RoundTimes)

    def add(self, record: Round) -> None:
        """Count one round in."""
        self.rounds += 1
        self.predicted_n += len(record.tokens)
        self.draft_n += record.admitted
        self.draft_n_accepted += record.accepted
        self.widths += record.width
        _count(self.admitted_at, record.admitted, of=record.admitted)
        _count(self.accepted_at, record.accepted, of=record.admitted)
        self.times += record.times

    def snapshot(self) -> Stats:
        """A copy that stays as it is while the rounds go on."""
        return replace(self, admitted_at=self.admitted_at[:], accepted_at=self.accepted_at[:])

    @property
    def accepted_length(self) -> float:
        """Tokens committed per round, the target's own included (τ)."""
        return self.predicted_n / self.rounds if self.rounds else 0.0

    @property
    def accepted_per_position(self) -> list[float]:
        """Share of admitted drafts that were accepted, by position in the block."""
        return [a / n for a, n in zip(self.accepted_at, self.admitted_at, strict=True)]

    @property
    def mean_width(self) -> float:
        """Tokens that the target decoded per round, the anchor included."""
        return self.widths / self.rounds if self.rounds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens committed per second, prefill left out as llama.cpp's `predicted_per_second` does."""
        seconds = self.times.total - self.times.prefill
        return self.predicted_n / seconds if seconds > 0 else 0.0


def _count(at: list[int], n: int, of: int) -> None:
    at.extend([0] * (of - len(at)))
    for k in range(n):
        at[k] += 1
