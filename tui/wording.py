"""Figures and failures in words, the same on every part of the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.errors import DSparkError
from dspark_local.types import FinishReason, Round, Stats, Why

if TYPE_CHECKING:
    from dspark_local.events import Finish
    from dspark_local.scheduling.cost import CostTable

_ENDS = {
    FinishReason.STOP: "",
    FinishReason.LENGTH: "cut at the most tokens allowed (--max-tokens); f7 goes on",
    FinishReason.CONTEXT: "the context is full: ctrl+n starts a new chat",
    FinishReason.CANCELLED: "stopped; f7 goes on",
    FinishReason.TIMEOUT: "out of time",
    FinishReason.GRAMMAR: "broken off: the grammar allows no token here",
}


def failure(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, DSparkError):
        return " ".join(str(error).split())
    return f"a bug of ours, please report it: {type(error).__name__}: {error}"


def summary(stats: Stats, reason: FinishReason) -> str:
    """What stands below an answer."""
    parts = [f"{count(stats.predicted_n, 'token')}", f"{stats.tokens_per_second:.0f} tok/s"]
    if stats.draft_n:
        parts.append(f"accepted length {stats.accepted_length:.2f}")
    return " · ".join(filter(None, [*parts, _ENDS[reason]]))


def pace(record: Round) -> str:
    """Why the last round drafted as it did, and what was expected of it."""
    share = f"{record.rate / record.plain:.2f} ×" if record.plain else ""
    if record.why is Why.PARK:
        return f"parked: plain decoding is faster here ({share})"
    if record.why is Why.PROBE:
        return "parked, looking whether drafting pays again"
    if record.why is Why.DRAFT and record.drafted:
        expected = f", {share} plain expected" if share else ""
        by = f" by {record.by}" if record.by else ""
        return f"drafted {record.drafted}{by}, verified {record.admitted}{expected}"
    return ""


def against_plain(stats: Stats | None, record: Round | None, raced: float | None) -> str:
    """How fast it is beside plain decoding: as a race measured that, in tokens per second, or as the policy reckons."""
    speed = stats.tokens_per_second if stats else 0.0
    if not speed:
        return ""
    if raced:
        return f"{speed / raced:.2f} × plain, as raced"
    if record and record.plain:
        return f"{speed / record.plain:.2f} × plain, as reckoned"
    return ""


def count(n: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def verdict(plain: Finish, drafted: Finish) -> str:
    """Whether two answers are the same, and how much faster the second was written."""
    before, after = plain.stats.tokens_per_second, drafted.stats.tokens_per_second
    ratio = f"{after / before:.2f} × plain" if before and after else "too short to tell a speed"
    speeds = f"{ratio} ({after:.1f} against {before:.1f} tok/s, {count(plain.stats.predicted_n, 'token')})"
    if plain.tokens == drafted.tokens:
        return f"same text: yes · {speeds}"
    pairs = enumerate(zip(plain.tokens, drafted.tokens, strict=False))
    fork = next((n for n, (a, b) in pairs if a != b), min(len(plain.tokens), len(drafted.tokens)))
    return f"same text: no, from token {fork + 1} on, where rounding decided a near-tie · {speeds}"


def costs(table: CostTable, gamma: int) -> str:
    """What the cost curve means, in a sentence: the block that needs the least acceptance, and how much of it."""
    plain = table.seconds(rows=1)
    prices = {k: table.seconds(rows=k + 1, drafted=k) / plain for k in range(1, gamma + 1)}
    best = min(prices, key=lambda k: (prices[k] - 1) / k)
    needed = (prices[best] - 1) / best
    block = f"drafting and verifying {count(best, 'token')} costs as much as {prices[best]:.2f} plain tokens"
    if needed <= 0:
        return f"Here {block}, so such a round pays whatever is accepted."
    if needed >= 1:
        return f"Here plain decoding is faster whatever is accepted: at best, {block}."
    return f"Here {block}, so such a round pays when more than {100 * needed:.0f}% of its drafts are accepted."
