"""The records that several rooms pass on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from numbers import Integral
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SEED = 2**64 - 1
LEAST_TEMPERATURE = 1e-6  # below, noise could not matter: the largest logit wins


def is_whole(value: object) -> bool:
    """Whether it counts: no number else would do where tokens or positions are counted."""
    return isinstance(value, Integral)


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # the target said so, or a stop string appeared
    LENGTH = "length"  # max_tokens
    CONTEXT = "context"  # the context is full
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"  # the request's own
    GRAMMAR = "grammar"  # it allows no token here, so the answer breaks off


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is drawn from the target's logits, in llama.cpp's order and with its names.

    1. `logit_bias`: (token, what its logit gains), −inf to ban it.
    2. Penalties over the last `repeat_last_n` tokens of prompt and answer (−1: all): `repeat_penalty` divides a
       positive logit and multiplies a negative one, `frequency_penalty` counts occurrences, `presence_penalty` once.
    3. DRY: `dry_multiplier` · `dry_base`^(n − `dry_allowed_length`) for a token that would repeat n tokens and itself,
       over the last `dry_penalty_last_n` tokens (−1: all), not across any of `dry_sequence_breakers`.
    4. `top_k`, `typical_p`, `top_p`, `min_p`.
    5. `temperature`, 0 for the likeliest token; by entropy between it ± `dynatemp_range`, to `dynatemp_exponent`.

    0 switches off (1 for `repeat_penalty`, `typical_p`, `top_p`). `grammar` (GBNF) or `json_schema` (JSON text)
    restricts the whole answer. `logprobs` n reports the target's own log-probability of every token and of the n
    likeliest. `seed` None draws a seed, which the statistics report; `choice` tells apart several answers to one seed.

    Raises UsageError for a value out of range, or two that contradict each other.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str | None = None
    json_schema: str | None = None
    logprobs: int | None = None
    seed: int | None = None
    choice: int = 0

    def __post_init__(self) -> None:
        for name, (fits, wanted) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and fits(value)):
                raise UsageError(f"{name.replace('_', '-')} must be {wanted}, not {value:g}")
        for name in _WHOLE:
            if (value := getattr(self, name)) is not None and not is_whole(value):
                raise UsageError(f"{name.replace('_', '-')} must be a whole number, not {value!r}")
        if self.json_schema is not None and not isinstance(self.json_schema, str):
            raise UsageError("json-schema is JSON as text: json.dumps(…) makes it")
        if not all(self.dry_sequence_breakers):
            raise UsageError("a dry-sequence-breaker must not be empty")
        self._check_bias()
        if self.grammar is not None and self.json_schema is not None:
            raise UsageError("grammar and json-schema contradict each other; leave one out")
        if self.logprobs is not None and self.logprobs < 0:
            raise UsageError(f"logprobs must be 0 (the tokens' own) or more, not {self.logprobs}")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed must be between 0 and 2^64 - 1, not {self.seed}")

    def _check_bias(self) -> None:
        for token, bias in self.logit_bias:
            if token < 0:
                raise UsageError(f"logit-bias names tokens by number, 0 or more, not {token}")
            if math.isnan(bias) or bias == math.inf:
                raise UsageError(f"logit-bias must be a number, or -inf to ban a token, not {bias:g}")
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise UsageError("logit-bias names a token twice")

    @property
    def likeliest(self) -> bool:
        """Whether a pick is the largest logit, however the set is truncated; typical-p alone may drop it."""
        return self.temperature < LEAST_TEMPERATURE and not self.dynatemp_range and self.typical_p >= 1

    @property
    def draws(self) -> bool:
        """Whether the seed matters."""
        return self.temperature > 0 or self.dynatemp_range > 0

    @property
    def penalises(self) -> bool:
        """Whether tokens that occurred before are penalised one by one."""
        return self.repeat_last_n != 0 and (
            self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        )

    @property
    def looks_back(self) -> int:
        """How many tokens before it a pick depends on; −1 for all."""
        windows = [self.repeat_last_n] * self.penalises + [self.dry_penalty_last_n] * bool(self.dry_multiplier)
        return -1 if -1 in windows else max(windows, default=0)


# What a value has to be, beside a finite number.
# What is none stops not this request but the engine, deep inside.
_WHOLE = ("top_k", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n", "logprobs", "seed", "choice")
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda t: t >= 0, "0 or more"),
    "top_k": (lambda k: k >= 0, "0 (off) or more"),
    "top_p": (lambda p: 0 < p <= 1, "above 0 and at most 1 (off)"),
    "min_p": (lambda p: 0 <= p <= 1, "between 0 (off) and 1"),
    "typical_p": (lambda p: 0 < p <= 1, "above 0 and at most 1 (off)"),
    "repeat_penalty": (lambda r: r > 0, "above 0 (1 is off)"),
    "repeat_last_n": (lambda n: n >= -1, "-1 (all), 0 (off) or more"),
    "frequency_penalty": (lambda _: True, "a number (0 is off)"),
    "presence_penalty": (lambda _: True, "a number (0 is off)"),
    "dry_multiplier": (lambda m: m >= 0, "0 (off) or more"),
    "dry_base": (lambda b: b >= 1, "1 or more"),
    "dry_allowed_length": (lambda n: n >= 1, "1 or more"),
    "dry_penalty_last_n": (lambda n: n >= -1, "-1 (all), 0 (off) or more"),
    "dynatemp_range": (lambda r: r >= 0, "0 (off) or more"),
    "dynatemp_exponent": (lambda e: e >= 0, "0 or more"),
    "choice": (lambda c: 0 <= c < 2**32, "between 0 and 2^32 - 1"),
}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its natural log-probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """What the target itself thought of a committed token: its own distribution, before temperature and all else.

    `top` are the likeliest tokens, the likeliest first, as many as were asked for.
    """

    token: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


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

    PROMPT = "prompt"  # no round: the token came with the prompt's last chunk
    DRAFT = "draft"  # it pays
    PROBE = "probe"  # parked, and looking whether it would pay again
    PARK = "park"  # plain decoding is faster now
    LIMIT = "limit"  # nobody could use a draft


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did for one sequence.

    `tokens` are the committed ones, the target's own last; `draft` those that the drafter called `by` proposed,
    `admitted` how many of them were verified, `accepted` how many of those were committed; `confidences` one c_k per
    drafted token [P §3.2.1]; `width` the verify width; `times` those of the whole round, all sequences; `logprobs`
    one for each of `tokens`, or none if the request did not ask.

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
    logprobs: tuple[TokenLogprobs, ...] = ()
    by: str = ""

    @property
    def drafted(self) -> int:
        """How many tokens the drafter proposed."""
        return len(self.draft)


@dataclass(slots=True)
class Stats:
    """Running sums over the rounds of one sequence. Names that llama.cpp's `timings` has are kept.

    `cached_n` of the prompt's tokens were in the caches already. `accepted_by` counts accepted drafts by the drafter's
    name; `first_n` is 1 where the first token came with the prompt, of which `rounds` know nothing.
    """

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
    accepted_by: dict[str, int] = field(default_factory=dict)
    first_n: int = 0
    cached_n: int = 0

    def add(self, record: Round) -> None:
        """Count one round in."""
        self.predicted_n += len(record.tokens)
        self.times += record.times
        if record.why is Why.PROMPT:
            self.first_n += len(record.tokens)
            return
        self.rounds += 1
        self.draft_n += record.admitted
        self.draft_n_accepted += record.accepted
        self.widths += record.width
        if record.admitted:
            self.accepted_by[record.by] = self.accepted_by.get(record.by, 0) + record.accepted
        _count(self.admitted_at, record.admitted, of=record.admitted)
        _count(self.accepted_at, record.accepted, of=record.admitted)

    def snapshot(self) -> Stats:
        """A copy that stays as it is while the rounds go on."""
        at, by = (self.admitted_at[:], self.accepted_at[:]), dict(self.accepted_by)
        return replace(self, admitted_at=at[0], accepted_at=at[1], accepted_by=by)

    @property
    def accepted_length(self) -> float:
        """Tokens committed per round, the target's own included (τ)."""
        return (self.predicted_n - self.first_n) / self.rounds if self.rounds else 0.0

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
        """Tokens committed per second of rounds: prefill left out, and what came with it, as llama.cpp has it."""
        seconds = self.times.total - self.times.prefill
        return (self.predicted_n - self.first_n) / seconds if seconds > 0 else 0.0


def _count(at: list[int], n: int, of: int) -> None:
    at.extend([0] * (of - len(at)))
    for k in range(n):
        at[k] += 1
